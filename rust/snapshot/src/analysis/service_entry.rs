//! ServiceEntries that say different things of one host, or whose TCP ports nothing tells apart.

use std::collections::BTreeMap;

use navarch_model::{ConfigKey, Hostname, Kind, Protocol, Registry, ServiceEntry};

use super::{Findings, full_name, key_of};
use crate::MeshSnapshot;
use crate::registry::auto_allocate;

pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let mut older: BTreeMap<(&str, u32), (Protocol, &ServiceEntry)> = BTreeMap::new();
    for entry in &mesh.analysis.written.service_entries {
        check_addresses(entry, told);
        check_shadow(mesh, entry, told);
        for (i, port) in entry.spec.ports.iter().enumerate() {
            let protocol = Protocol::parse(&port.protocol);
            for host in &entry.spec.hosts {
                let key = (host.as_str(), port.number);
                let (known, first) = *older.entry(key).or_insert((protocol, entry));
                if known == protocol {
                    continue;
                }
                let message = format!(
                    "the older ServiceEntry `{}` declares another protocol for port {} of `{host}`; \
                     declare the same in both",
                    full_name(&first.metadata),
                    port.number
                );
                let path = format!("spec.ports[{i}].protocol");
                told.warn(
                    entry_key(entry),
                    "service-entry-protocol-conflict",
                    path,
                    message,
                );
            }
        }
    }
}

fn entry_key(entry: &ServiceEntry) -> ConfigKey {
    key_of(Kind::ServiceEntry, &entry.metadata)
}

/// Connections without requests are told apart by their address alone.
fn check_addresses(entry: &ServiceEntry, told: &mut Findings) {
    let spec = &entry.spec;
    if !spec.addresses.is_empty() || !entry.status.addresses.is_empty() {
        return;
    }
    let mut hosts = spec.hosts.iter();
    let Some(host) = hosts.find(|host| !auto_allocate::is_wanted(entry, host)) else {
        return;
    };
    let is_opaque = |text: &str| {
        let protocol = Protocol::parse(text);
        !protocol.is_http() && !protocol.is_tls() && protocol != Protocol::Udp
    };
    for (i, port) in spec.ports.iter().enumerate() {
        if is_opaque(&port.protocol) {
            let message = format!(
                "takes the connections to every address on port {}, since `{host}` has none and none is allocated; \
                 give spec.addresses, or declare HTTP or TLS",
                port.number
            );
            let path = format!("spec.ports[{i}]");
            told.warn(
                entry_key(entry),
                "service-entry-address-required",
                path,
                message,
            );
        }
    }
}

/// A Kubernetes Service of the host and namespace keeps its own ports and addresses.
fn check_shadow(mesh: &MeshSnapshot, entry: &ServiceEntry, told: &mut Findings) {
    for (i, host) in entry.spec.hosts.iter().enumerate() {
        let services = mesh
            .services_of_host(Hostname::from(host.as_str()).as_str())
            .iter();
        let mut own = services.filter(|s| *s.namespace == *entry.metadata.namespace);
        if own.any(|service| service.registry == Registry::Kubernetes) {
            let message = "a Kubernetes Service of this namespace has the host: its ports and addresses hold, and only \
                           endpoints are added";
            let path = format!("spec.hosts[{i}]");
            told.info(
                entry_key(entry),
                "service-entry-shadowed",
                path,
                message.to_owned(),
            );
        }
    }
}
