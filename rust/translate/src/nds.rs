//! The name table, by which Istio's agent answers DNS for the workload.
//!
//! Source: istio `pkg/dns/server/name_table.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_envoy::istio::networking::nds::v1::{NameTable, name_table::NameInfo};
use navarch_model::{Health, Hostname, Registry, Resolution, Service, ServiceEndpoints, Shared};
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
    // What only a rule leads to has clusters, but no name of its own.
    let imported: BTreeSet<&Hostname> = scope
        .egress
        .iter()
        .flat_map(|egress| &egress.services)
        .map(|s| &s.hostname)
        .collect();
    let services = scope
        .services
        .iter()
        .filter(|service| imported.contains(&service.hostname));
    let services = services.map(|service| NamedService {
        service: service.clone(),
        endpoints: (service.resolution == Resolution::Passthrough).then(|| mesh.endpoints(service)),
    });
    NameTableInputs {
        services: services.collect(),
        network: group.network.clone(),
        cluster_id: group.cluster_id.clone(),
        ip_mode: IpMode::of_families(group.has_ipv4, group.has_ipv6),
        is_auto_allocated: group.metadata.dns_capture,
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
    let addresses = service_addresses(service, inputs);
    let ips = if addresses.is_empty() {
        headless_addresses(table, named, inputs)
    } else {
        // A CIDR is no answer to a question for a name.
        addresses
            .into_iter()
            .filter(|address| is_ip(address))
            .map(str::to_owned)
            .collect()
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

/// The addresses that stand for a service: the first of a Kubernetes Service that is of the proxy's families,
/// all of an entry, whatever their family, as Envoy has listeners for them.
fn service_addresses<'a>(service: &'a Service, inputs: &NameTableInputs) -> Vec<&'a str> {
    let (addresses, is_allocated) = if service.addresses.is_empty() && inputs.is_auto_allocated {
        (&service.auto_allocated_addresses, true)
    } else {
        (&service.addresses, false)
    };
    let is_own = service.registry == Registry::External && !is_allocated;
    let is_reached = |address: &&str| match inputs.ip_mode {
        _ if is_own => true,
        IpMode::V4 => !is_ipv6(address),
        IpMode::V6 => is_ipv6(address),
        IpMode::Dual => true,
    };
    let reached = addresses
        .iter()
        .map(|address| &**address)
        .filter(is_reached);
    let is_one = service.registry == Registry::Kubernetes || is_allocated;
    reached.take(if is_one { 1 } else { usize::MAX }).collect()
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
        let is_ready = matches!(endpoint.health, Health::Healthy | Health::Unknown)
            || service.has_published_not_ready;
        if !is_ready
            || endpoint.addresses.iter().any(|address| !is_ip(address))
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
