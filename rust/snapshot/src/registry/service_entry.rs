//! ServiceEntries and WorkloadEntries to services and endpoints.
//!
//! Source: istio `pilot/pkg/serviceregistry/serviceentry/conversion.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    Endpoint, EntryCondition, EntryPort, EntryVisibility, Health, Hostname, Labels, Locality,
    Protocol, Registry as RegistryKind, Resolution, Service, ServiceEntry, ServicePort, Shared,
    Visibility, Workload, WorkloadEntry, WorkloadEntrySpec, is_selected,
};

use super::kubernetes::traffic_distribution;
use super::pod::locality_of_labels;
use super::{Registry, with_place};

/// The services of an entry, one a host, seen no farther than allowed; `of_namespace` are the annotations of its
/// namespace.
pub(crate) fn convert_service_entry(
    entry: &ServiceEntry,
    allowed: EntryVisibility,
    of_namespace: Option<&Labels>,
) -> Vec<Service> {
    entry
        .spec
        .hosts
        .iter()
        .map(|host| convert_host(entry, host, allowed, of_namespace))
        .collect()
}

fn convert_host(
    entry: &ServiceEntry,
    host: &str,
    allowed: EntryVisibility,
    of_namespace: Option<&Labels>,
) -> Service {
    let (metadata, spec) = (&entry.metadata, &entry.spec);
    let allocated = entry.status.addresses.iter();
    Service {
        hostname: host.into(),
        namespace: metadata.namespace.as_str().into(),
        name: host.into(),
        registry: RegistryKind::External,
        creation_time: metadata.creation_timestamp,
        resolution: resolution_of(&spec.resolution),
        is_mesh_external: spec.location != "MESH_INTERNAL",
        addresses: spec
            .addresses
            .iter()
            .map(|a| without_full_mask(a).into())
            .collect(),
        addresses_of_clusters: BTreeMap::new(),
        auto_allocated_addresses: allocated
            .filter(|a| spec.addresses.is_empty() && (a.host.is_empty() || a.host == host))
            .map(|a| a.value.as_str().into())
            .collect(),
        ports: spec.ports.iter().map(convert_port).collect(),
        export_to: export_to(entry, allowed),
        labels: metadata.labels.clone(),
        selector: spec
            .workload_selector
            .as_ref()
            .map_or_else(Labels::new, |s| s.match_labels.clone()),
        external_name: None,
        aliases: Vec::new(),
        has_published_not_ready: false,
        is_node_local: false,
        traffic_distribution: traffic_distribution("", &metadata.annotations, of_namespace),
        service_accounts: Vec::new(),
        subject_alt_names: spec
            .subject_alt_names
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        external_addresses: Vec::new(),
        node_ports: BTreeMap::new(),
        is_happy_eyeballs: metadata
            .annotations
            .get("istio.io/connect-strategy")
            .map(String::as_str)
            == Some("RACE_FIRST_TCP_CONNECT"),
        is_persistent_session: false,
    }
}

/// The entry's own word, within what is allowed.
fn export_to(entry: &ServiceEntry, allowed: EntryVisibility) -> Vec<Visibility> {
    let own = entry
        .spec
        .export_to
        .iter()
        .map(|token| Visibility::parse(token));
    let own: Vec<Visibility> = own.collect();
    match allowed {
        EntryVisibility::None => vec![Visibility::Nobody],
        EntryVisibility::Namespace if own.first() != Some(&Visibility::Nobody) => {
            vec![Visibility::Private]
        }
        _ => own,
    }
}

fn convert_port(port: &EntryPort) -> ServicePort {
    ServicePort {
        name: port.name.as_str().into(),
        number: port.number,
        protocol: Protocol::parse(&port.protocol),
        target_port: (port.target_port > 0).then_some(port.target_port),
        target_port_name: None,
    }
}

fn resolution_of(text: &str) -> Resolution {
    match text {
        "STATIC" => Resolution::ClientSide,
        "DNS" => Resolution::Dns,
        "DNS_ROUND_ROBIN" => Resolution::DnsRoundRobin,
        "DYNAMIC_DNS" => Resolution::DynamicDns,
        _ => Resolution::Passthrough,
    }
}

/// `10.0.0.1/32` and `::1/128` are plain addresses.
fn without_full_mask(address: &str) -> &str {
    match address.split_once('/') {
        Some((ip, "32")) if !ip.contains(':') => ip,
        Some((ip, "128")) if ip.contains(':') => ip,
        _ => address,
    }
}

/// With "true", a WorkloadEntry that is not known to be healthy gets no traffic; with any value, agents may tell
/// (istio `pilot/pkg/model/status`).
pub(crate) const HEALTH_CHECKS: &str = "proxy.istio.io/health-checks-enabled";

/// What an entry's status says of its health, if it wants that to count: until it is found to be healthy, it is not.
pub(crate) fn health_of_entry(entry: &WorkloadEntry) -> Health {
    let is_healthy = |c: &EntryCondition| c.condition_type == "Healthy" && c.status == "True";
    let health = if entry.status.conditions.iter().any(is_healthy) {
        Health::Unknown
    } else {
        Health::Unhealthy
    };
    health_where_checked(entry, health)
}

/// A health that is known, where the entry wants it to count; all others are taken to be healthy.
pub(crate) fn health_where_checked(entry: &WorkloadEntry, health: Health) -> Health {
    // As Go reads truth.
    let is_true =
        |told: &String| matches!(told.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
    let wanted = entry.metadata.annotations.get(HEALTH_CHECKS);
    if wanted.is_some_and(is_true) {
        health
    } else {
        Health::Unknown
    }
}

impl Registry {
    /// The endpoints of the service that an entry makes of `host`.
    pub(crate) fn service_entry_endpoints(
        &self,
        entry: &ServiceEntry,
        host: &Hostname,
        root: &str,
    ) -> Vec<Endpoint> {
        let spec = &entry.spec;
        if let Some(selector) = &spec.workload_selector {
            return self.selected_endpoints(entry, &selector.match_labels, root);
        }
        let is_dns = is_dns(entry);
        let (name, namespace) = (&entry.metadata.name, &entry.metadata.namespace);
        let mut endpoints = Vec::new();
        if spec.endpoints.is_empty() && is_dns {
            // The host itself is the one endpoint.
            let own = WorkloadEntrySpec {
                address: host.as_str().to_owned(),
                ..WorkloadEntrySpec::default()
            };
            let workload = self.workload_of_entry(&own, name, namespace, root);
            let ports = spec.ports.iter();
            endpoints
                .extend(ports.map(|port| entry_endpoint(&own, port, &workload, Health::Unknown)));
        }
        for (i, inline) in spec.endpoints.iter().enumerate() {
            let workload = self.workload_of_entry(inline, &format!("{name}-{i}"), namespace, root);
            for port in &spec.ports {
                endpoints.push(entry_endpoint(inline, port, &workload, Health::Unknown));
            }
        }
        // Istio makes a service of each address and gathers the endpoints of all: they stand there as often.
        let n_all = endpoints.len() * spec.addresses.len().max(1);
        endpoints.into_iter().cycle().take(n_all).collect()
    }

    /// WorkloadEntries and Pods of the entry's namespace that its selector picks.
    fn selected_endpoints(
        &self,
        entry: &ServiceEntry,
        selector: &Labels,
        root: &str,
    ) -> Vec<Endpoint> {
        let namespace = entry.metadata.namespace.as_str();
        let is_dns = is_dns(entry);
        let mut endpoints = Vec::new();
        for (name, workload_entry) in &self.workload_entries {
            let spec = &workload_entry.spec;
            let is_picked = &*name.0 == namespace
                && is_selected(selector, &spec.labels)
                && (is_dns || !has_no_address(spec));
            if !is_picked {
                continue;
            }
            let workload =
                self.workload_of_entry(spec, &workload_entry.metadata.name, namespace, root);
            let health = self.reports.health(name, workload_entry);
            for port in &entry.spec.ports {
                endpoints.push(entry_endpoint(spec, port, &workload, health));
            }
        }
        for ((owner, _), indexed) in &self.pods {
            let pod = &indexed.pod;
            let is_picked = &**owner == namespace
                && pod.status.phase == "Running"
                && !pod.status.pod_ip.is_empty()
                && is_selected(selector, &pod.metadata.common.labels);
            if !is_picked {
                continue;
            }
            let is_ready = pod
                .status
                .conditions
                .iter()
                .all(|c| c.condition_type != "Ready" || c.status == "True");
            for port in &entry.spec.ports {
                endpoints.push(Endpoint {
                    addresses: vec![pod.status.pod_ip.as_str().into()],
                    port: if port.target_port > 0 {
                        port.target_port
                    } else {
                        port.number
                    },
                    service_port_name: port.name.as_str().into(),
                    weight: None,
                    health: if is_ready {
                        Health::Healthy
                    } else {
                        Health::Unhealthy
                    },
                    workload: indexed.workload.clone(),
                });
            }
        }
        endpoints
    }

    /// The workload that an entry describes.
    pub(crate) fn workload_of_entry(
        &self,
        entry: &WorkloadEntrySpec,
        name: &str,
        namespace: &str,
        root: &str,
    ) -> Shared<Workload> {
        let locality = if entry.locality.is_empty() {
            locality_of_labels(&entry.labels).unwrap_or_default()
        } else {
            Locality::parse(&entry.locality)
        };
        let network: Arc<str> = if entry.network.is_empty() {
            self.network_of(&entry.labels, &entry.address, root)
        } else {
            entry.network.as_str().into()
        };
        let account = entry.service_account.as_str();
        let has_mutual_tls = entry
            .labels
            .get("security.istio.io/tlsMode")
            .map_or(!account.is_empty(), |mode| mode == "istio");
        Shared::new(Workload {
            name: name.into(),
            namespace: namespace.into(),
            labels: with_place(
                &entry.labels,
                &self.options.cluster_id,
                &locality,
                "",
                &network,
            ),
            service_account: if account.is_empty() {
                Arc::default()
            } else {
                self.spiffe(namespace, account)
            },
            locality,
            network,
            cluster_id: self.options.cluster_id.clone(),
            node_name: Arc::default(),
            hostname: Arc::default(),
            subdomain: Arc::default(),
            has_mutual_tls,
        })
    }
}

/// Whether the names of an entry's endpoints are resolved.
fn is_dns(entry: &ServiceEntry) -> bool {
    matches!(
        resolution_of(&entry.spec.resolution),
        Resolution::Dns | Resolution::DnsRoundRobin
    )
}

/// Whether a workload is known by a name or a path: it may have a gateway's address in the place of none.
pub(crate) fn has_no_address(workload: &WorkloadEntrySpec) -> bool {
    !workload.address.is_empty() && workload.address.parse::<std::net::IpAddr>().is_err()
}

/// Unix path, else the entry's own port of that name, else targetPort, else the number.
fn entry_endpoint(
    spec: &WorkloadEntrySpec,
    port: &EntryPort,
    workload: &Shared<Workload>,
    health: Health,
) -> Endpoint {
    let number = if spec.address.starts_with("unix://") {
        0
    } else {
        spec.ports
            .get(&port.name)
            .copied()
            .filter(|number| *number > 0)
            .unwrap_or(if port.target_port > 0 {
                port.target_port
            } else {
                port.number
            })
    };
    Endpoint {
        addresses: vec![spec.address.as_str().into()],
        port: number,
        service_port_name: port.name.as_str().into(),
        weight: (spec.weight > 0).then_some(spec.weight),
        health,
        workload: workload.clone(),
    }
}
