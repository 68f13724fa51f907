//! The name table, by which Istio's agent answers DNS for the workload.
//!
//! Source: istio `pkg/dns/server/name_table.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_envoy::istio::networking::nds::v1::{NameTable, name_table::NameInfo};
use navarch_model::{Registry, Resolution, Service, ServiceEndpoints, Shared};
use navarch_snapshot::{MeshSnapshot, ProxyScope};

use crate::address::{IpMode, is_ip, is_ipv6};

/// Everything that a name table depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameTableInputs {
    services: Vec<NamedService>,
    network: Arc<str>,
    cluster_id: Arc<str>,
    ip_mode: IpMode,
    /// Whether addresses that were allocated may be told: only a proxy that captures DNS knows them.
    is_auto_allocated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct NamedService {
    service: Shared<Service>,
    /// Endpoints, of services that have no address of their own.
    endpoints: Option<Shared<ServiceEndpoints>>,
}

/// The inputs of a scope's name table.
pub fn name_table_inputs(mesh: &MeshSnapshot, scope: &ProxyScope) -> NameTableInputs {
    let group = &scope.group;
    let services = scope.services.iter().map(|service| NamedService {
        service: service.clone(),
        endpoints: (service.resolution == Resolution::Passthrough).then(|| mesh.endpoints(service)),
    });
    NameTableInputs {
        services: services.collect(),
        network: group.network.clone(),
        cluster_id: group.cluster_id.clone(),
        ip_mode: IpMode::of_families(group.has_ipv4, group.has_ipv6),
        is_auto_allocated: group.metadata.dns_capture && group.metadata.dns_auto_allocate,
    }
}

/// Build a scope's name table.
pub fn build_name_table(inputs: &NameTableInputs) -> NameTable {
    let mut table = BTreeMap::new();
    for named in &inputs.services {
        add_service(&mut table, named, inputs);
    }
    NameTable { table }
}

fn add_service(
    table: &mut BTreeMap<String, NameInfo>,
    named: &NamedService,
    inputs: &NameTableInputs,
) {
    let service = &named.service;
    let ips = match service_address(service, inputs) {
        // A CIDR is no answer to a question for a name.
        Some(address) if !is_ip(address) => return,
        Some(address) => vec![address.to_owned()],
        None => headless_addresses(table, named, inputs),
    };
    if ips.is_empty() {
        return;
    }
    let is_kubernetes = service.registry == Registry::Kubernetes;
    let own = NameInfo {
        ips,
        registry: service.registry.as_str().to_owned(),
        // The agent finds `a`, `a.ns`, `a.ns.svc` by these.
        shortname: if is_kubernetes {
            service.name.to_string()
        } else {
            String::new()
        },
        namespace: if is_kubernetes {
            service.namespace.to_string()
        } else {
            String::new()
        },
        ..NameInfo::default()
    };
    match table.get_mut(service.hostname.as_str()) {
        None => {
            table.insert(service.hostname.to_string(), own);
        }
        Some(old) if old.registry == Registry::Kubernetes.as_str() => {}
        Some(old) if is_kubernetes => *old = own,
        Some(old) => old.ips.extend(own.ips),
    }
}

/// The address that stands for a service: its first of a family that the proxy has.
fn service_address<'a>(service: &'a Service, inputs: &NameTableInputs) -> Option<&'a str> {
    let addresses = if service.addresses.is_empty() && inputs.is_auto_allocated {
        &service.auto_allocated_addresses
    } else {
        &service.addresses
    };
    let is_reached = |address: &&Arc<str>| match inputs.ip_mode {
        IpMode::V4 => !is_ipv6(address),
        IpMode::V6 => is_ipv6(address),
        IpMode::Dual => true,
    };
    addresses
        .iter()
        .find(is_reached)
        .or(addresses.first())
        .map(|address| &**address)
}

/// The endpoints' own addresses; Pods with a host name get a name each.
fn headless_addresses(
    table: &mut BTreeMap<String, NameInfo>,
    named: &NamedService,
    inputs: &NameTableInputs,
) -> Vec<String> {
    let (Some(endpoints), Some(port)) = (&named.endpoints, named.service.ports.first()) else {
        return Vec::new();
    };
    let service = &named.service;
    let mut ips = Vec::new();
    for endpoint in endpoints.of_port(&port.name) {
        let addresses = || endpoint.addresses.iter().map(ToString::to_string);
        let workload = &*endpoint.workload;
        let is_same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        if endpoint.addresses.iter().any(|address| !is_ip(address))
            || !is_same(&workload.network, &inputs.network)
        {
            continue;
        }
        let is_same_cluster = is_same(&workload.cluster_id, &inputs.cluster_id);
        let domain = service
            .hostname
            .as_str()
            .split_once('.')
            .map(|(_, domain)| domain);
        if let Some(domain) = domain.filter(|_| !workload.subdomain.is_empty()) {
            let shortname = format!("{}.{}", workload.hostname, workload.subdomain);
            let host = format!("{shortname}.{domain}");
            if is_same_cluster || !table.contains_key(&host) {
                let info = NameInfo {
                    ips: addresses().collect(),
                    registry: service.registry.as_str().to_owned(),
                    namespace: service.namespace.to_string(),
                    shortname,
                    ..NameInfo::default()
                };
                table.insert(host, info);
            }
        }
        ips.extend(addresses());
    }
    ips
}
