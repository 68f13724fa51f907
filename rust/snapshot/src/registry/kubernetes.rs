//! Kubernetes Services and EndpointSlices to services and endpoints.
//!
//! Source: istio `pkg/serviceregistry/kube/conversion.go`, `controller/endpointslice.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    Endpoint, EndpointSlice, Health, Hostname, KubernetesNode, KubernetesService,
    KubernetesServicePort, Labels, Protocol, Registry as RegistryKind, Resolution, Service,
    ServicePort, Shared, SliceConditions, SliceEndpoint, TargetPort, TrafficDistribution,
    Visibility, Workload, WorkloadEntrySpec, is_selected,
};

use super::service_entry::has_no_address;
use super::{Registry, with_place};

/// Set by an operator upon a Pod that gets no new traffic, whatever its readiness.
const LABEL_DRAINING: &str = "istio.io/draining";
const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
const ANNOTATION_EXPORT_TO: &str = "networking.istio.io/exportTo";
const ANNOTATION_TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// The name of the Service that a slice belongs to, if it is of this cluster.
pub(crate) fn service_of_slice(slice: &EndpointSlice) -> Option<&str> {
    slice
        .metadata
        .labels
        .get(LABEL_SERVICE_NAME)
        .map(String::as_str)
}

/// The preference that annotations tell, above the field's.
///
/// A word that is not known counts as the wish for none, and those behind it are not asked.
pub(crate) fn traffic_distribution(
    field: &str,
    own: &Labels,
    of_namespace: Option<&Labels>,
) -> TrafficDistribution {
    match field {
        "PreferClose" | "PreferSameZone" => return TrafficDistribution::PreferSameZone,
        "PreferSameNode" => return TrafficDistribution::PreferSameNode,
        _ => {}
    }
    let said = |annotations: &Labels| {
        let text = annotations.get(ANNOTATION_TRAFFIC_DISTRIBUTION)?;
        (!text.is_empty()).then(|| text.to_ascii_lowercase())
    };
    match said(own).or_else(|| said(of_namespace?)).as_deref() {
        Some("preferclose" | "prefersamezone") => TrafficDistribution::PreferSameZone,
        Some("prefersamenode") => TrafficDistribution::PreferSameNode,
        _ => TrafficDistribution::Any,
    }
}

impl Registry {
    /// The host of a Kubernetes Service.
    pub(crate) fn service_hostname(&self, name: &str, namespace: &str) -> Hostname {
        format!("{name}.{namespace}.svc.{}", self.options.domain_suffix).into()
    }

    /// Addresses by which a Service is reached from outside of the cluster.
    fn external_addresses(&self, service: &KubernetesService) -> Vec<Arc<str>> {
        if let Some(selector) = node_selector(service) {
            let nodes = self.nodes.values();
            let picked = nodes.filter(|node| is_selected(&selector, &node.metadata.labels));
            return picked.filter_map(|node| external_address(node)).collect();
        }
        let ingress = service.status.load_balancer.ingress.iter();
        let from_status = ingress
            .filter(|_| service.spec.service_type == "LoadBalancer")
            .map(|ingress| {
                if ingress.ip.is_empty() {
                    &ingress.hostname
                } else {
                    &ingress.ip
                }
            });
        from_status
            .chain(&service.spec.external_ips)
            .filter(|address| !address.is_empty())
            .map(|address| address.as_str().into())
            .collect()
    }

    /// A Kubernetes Service as a service.
    pub(crate) fn convert_kubernetes_service(&self, service: &KubernetesService) -> Service {
        let (metadata, spec) = (&service.metadata, &service.spec);
        let addresses = cluster_addresses(service);
        let external_name = (spec.service_type == "ExternalName" && !spec.external_name.is_empty())
            .then(|| Hostname::from(spec.external_name.as_str()));
        let resolution = match (&external_name, addresses.is_empty()) {
            (Some(_), _) => Resolution::Alias,
            (None, true) => Resolution::Passthrough,
            (None, false) => Resolution::ClientSide,
        };
        Service {
            hostname: self.service_hostname(&metadata.name, &metadata.namespace),
            namespace: metadata.namespace.as_str().into(),
            name: metadata.name.as_str().into(),
            registry: RegistryKind::Kubernetes,
            creation_time: metadata.creation_timestamp,
            resolution,
            is_mesh_external: external_name.is_some(),
            addresses,
            addresses_of_clusters: BTreeMap::new(),
            auto_allocated_addresses: Vec::new(),
            ports: spec.ports.iter().map(convert_port).collect(),
            export_to: annotation_list(&metadata.annotations, ANNOTATION_EXPORT_TO)
                .map(Visibility::parse)
                .collect(),
            labels: metadata.labels.clone(),
            selector: spec.selector.clone(),
            external_name,
            aliases: Vec::new(),
            has_published_not_ready: spec.publish_not_ready_addresses,
            is_node_local: spec.internal_traffic_policy == "Local",
            traffic_distribution: self.traffic_distribution_of(service),
            service_accounts: self.annotated_accounts(service),
            subject_alt_names: Vec::new(),
            external_addresses: self.external_addresses(service),
            node_ports: node_ports(service),
            is_happy_eyeballs: false,
            is_persistent_session: metadata
                .labels
                .keys()
                .any(|key| key.starts_with("istio.io/persistent-session")),
        }
    }

    /// The Service's own preference, else its namespace's.
    fn traffic_distribution_of(&self, service: &KubernetesService) -> TrafficDistribution {
        traffic_distribution(
            &service.spec.traffic_distribution,
            &service.metadata.annotations,
            self.namespace_annotations(&service.metadata.namespace),
        )
    }

    /// The annotations of a namespace that is known.
    pub(crate) fn namespace_annotations(&self, namespace: &str) -> Option<&Labels> {
        let name = ("".into(), namespace.into());
        let namespace = self.namespaces.get(&name)?;
        Some(&namespace.metadata.annotations)
    }

    /// Identities that annotations add to those of the endpoints, sorted.
    fn annotated_accounts(&self, service: &KubernetesService) -> Vec<Arc<str>> {
        let metadata = &service.metadata;
        let canonical = annotation_list(
            &metadata.annotations,
            "alpha.istio.io/canonical-serviceaccounts",
        );
        let kubernetes = annotation_list(
            &metadata.annotations,
            "alpha.istio.io/kubernetes-serviceaccounts",
        );
        let mut accounts: Vec<Arc<str>> = canonical
            .map(Arc::from)
            .chain(kubernetes.map(|account| self.spiffe(&metadata.namespace, account)))
            .collect();
        accounts.sort();
        accounts
    }

    /// The endpoints of a Kubernetes Service: those of its slices, and WorkloadEntries that it selects.
    pub(crate) fn kubernetes_endpoints(
        &self,
        service: &KubernetesService,
        root: &str,
    ) -> Vec<Endpoint> {
        let key = (
            service.metadata.namespace.as_str().into(),
            service.metadata.name.as_str().into(),
        );
        let mut endpoints = Vec::new();
        for name in self.slices_of_service.get(&key).into_iter().flatten() {
            if let Some(slice) = self.slices.get(&(key.0.clone(), name.clone())) {
                self.slice_endpoints(slice, root, &mut endpoints);
            }
        }
        if !service.spec.selector.is_empty() {
            self.selected_workload_entries(service, root, &mut endpoints);
        }
        endpoints
    }

    fn slice_endpoints(&self, slice: &EndpointSlice, root: &str, out: &mut Vec<Endpoint>) {
        for endpoint in &slice.endpoints {
            for address in &endpoint.addresses {
                let Some(workload) = self.workload_of_address(slice, endpoint, address, root)
                else {
                    continue;
                };
                let is_draining = workload.labels.get(LABEL_DRAINING);
                let health = if is_draining.is_some_and(|value| !value.is_empty()) {
                    Health::Draining
                } else {
                    health_of(&endpoint.conditions)
                };
                out.extend(slice.ports.iter().filter_map(|port| {
                    Some(Endpoint {
                        addresses: vec![address.as_str().into()],
                        port: port.port?,
                        service_port_name: port.name.as_str().into(),
                        weight: None,
                        health,
                        workload: workload.clone(),
                    })
                }));
            }
        }
    }

    /// The workload behind an address of a slice; `None` while its Pod is not known.
    fn workload_of_address(
        &self,
        slice: &EndpointSlice,
        endpoint: &SliceEndpoint,
        address: &str,
        root: &str,
    ) -> Option<Shared<Workload>> {
        let namespace = slice.metadata.namespace.as_str();
        let by_reference = endpoint
            .target_ref
            .as_ref()
            .filter(|target| target.kind == "Pod");
        let pod = match by_reference {
            Some(target) => {
                let owner = if target.namespace.is_empty() {
                    namespace
                } else {
                    &target.namespace
                };
                Some(
                    self.pods
                        .get(&(owner.into(), target.name.as_str().into()))?,
                )
            }
            // Written by hand: a Pod of the same namespace may have the address.
            None => self
                .pod_by_address(address)
                .filter(|indexed| indexed.pod.metadata.common.namespace == namespace),
        };
        let Some(indexed) = pod else {
            return Some(self.unknown_workload(endpoint, root));
        };
        Some(indexed.workload.clone())
    }

    /// What is known of an endpoint without a Pod.
    fn unknown_workload(&self, endpoint: &SliceEndpoint, root: &str) -> Shared<Workload> {
        let address = endpoint.addresses.first().map_or("", String::as_str);
        let network = self.network_of(&Labels::new(), address, root);
        let locality = self.locality_of_node("");
        Shared::new(Workload {
            labels: with_place(
                &Labels::new(),
                &self.options.cluster_id,
                &locality,
                "",
                &network,
            ),
            locality,
            network,
            cluster_id: self.options.cluster_id.clone(),
            hostname: endpoint.hostname.as_str().into(),
            ..Workload::default()
        })
    }

    /// WorkloadEntries of the Service's namespace that its selector picks.
    fn selected_workload_entries(
        &self,
        service: &KubernetesService,
        root: &str,
        out: &mut Vec<Endpoint>,
    ) {
        let namespace = service.metadata.namespace.as_str();
        for (name, entry) in &self.workload_entries {
            // A Service's endpoints are addresses; only entries with DNS resolution take names.
            let is_picked = &*name.0 == namespace
                && is_selected(&service.spec.selector, &entry.spec.labels)
                && !has_no_address(&entry.spec);
            if !is_picked {
                continue;
            }
            let workload =
                self.workload_of_entry(&entry.spec, &entry.metadata.name, namespace, root);
            let health = self.reports.health(name, entry);
            for port in &service.spec.ports {
                let Some(number) = workload_port(&entry.spec, port) else {
                    continue;
                };
                out.push(Endpoint {
                    addresses: vec![entry.spec.address.as_str().into()],
                    port: number,
                    service_port_name: port.name.as_str().into(),
                    weight: (entry.spec.weight > 0).then_some(entry.spec.weight),
                    health,
                    workload: workload.clone(),
                });
            }
        }
    }
}

/// The port of a workload outside Kubernetes for a Service's port; none where it lacks the named one.
fn workload_port(workload: &WorkloadEntrySpec, port: &KubernetesServicePort) -> Option<u32> {
    let own = |name: &str| workload.ports.get(name).copied().filter(|n| *n > 0);
    match &port.target_port {
        Some(TargetPort::Number(number)) if *number > 0 => own(&port.name).or(Some(*number)),
        Some(TargetPort::Name(name)) if !name.is_empty() => own(name),
        _ => Some(port.port),
    }
}

/// The parts of a comma-separated annotation.
fn annotation_list<'a>(annotations: &'a Labels, key: &str) -> impl Iterator<Item = &'a str> {
    let text = annotations.get(key).map_or("", String::as_str);
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn convert_port(port: &KubernetesServicePort) -> ServicePort {
    let (target_port, target_port_name) = match &port.target_port {
        None | Some(TargetPort::Number(0)) => (Some(port.port), None),
        Some(TargetPort::Number(number)) => (Some(*number), None),
        Some(TargetPort::Name(name)) => match name.parse() {
            Ok(number) => (Some(number), None),
            Err(_) => (None, Some(name.as_str().into())),
        },
    };
    ServicePort {
        name: port.name.as_str().into(),
        number: port.port,
        protocol: Protocol::of_kubernetes_port(
            port.port,
            &port.name,
            &port.protocol,
            port.app_protocol.as_deref(),
        ),
        target_port,
        target_port_name,
    }
}

/// The virtual addresses of a Service in its own cluster, first family first.
pub(crate) fn cluster_addresses(service: &KubernetesService) -> Vec<Arc<str>> {
    let spec = &service.spec;
    let all = if spec.cluster_ips.is_empty() {
        std::slice::from_ref(&spec.cluster_ip)
    } else {
        &spec.cluster_ips
    };
    all.iter()
        .filter(|ip| !ip.is_empty() && *ip != "None" && *ip != "0.0.0.0")
        .map(|ip| ip.as_str().into())
        .collect()
}

fn external_address(node: &KubernetesNode) -> Option<Arc<str>> {
    let mut addresses = node.status.addresses.iter();
    let external = addresses.find(|a| a.address_type == "ExternalIP" && !a.address.is_empty())?;
    Some(external.address.as_str().into())
}

/// Node ports of a Service that Nodes make reachable from outside.
fn node_ports(service: &KubernetesService) -> BTreeMap<u32, u32> {
    if node_selector(service).is_none() {
        return BTreeMap::new();
    }
    let ports = service.spec.ports.iter();
    ports
        .filter(|port| port.node_port > 0)
        .map(|port| (port.port, port.node_port))
        .collect()
}

/// Labels of the Nodes whose addresses reach a `NodePort` Service, from an annotation of JSON: `{"pool": "edge"}`.
fn node_selector(service: &KubernetesService) -> Option<Labels> {
    if service.spec.service_type != "NodePort" {
        return None;
    }
    let text = service
        .metadata
        .annotations
        .get("traffic.istio.io/nodeSelector")?;
    // Neither keys nor values of labels can hold a quote, a comma or a colon.
    let unquoted = |part: &str| part.trim().trim_matches('"').to_owned();
    let pairs = text
        .trim()
        .trim_start_matches('{')
        .trim_end_matches('}')
        .split(',');
    let pairs = pairs.filter_map(|pair| pair.split_once(':'));
    Some(
        pairs
            .map(|(key, value)| (unquoted(key), unquoted(value)))
            .collect(),
    )
}

/// Istio's `endpointHealthStatus`: what is unknown counts as ready; of what is not ready, as serving and terminating.
fn health_of(conditions: &SliceConditions) -> Health {
    if conditions.ready.unwrap_or(true) {
        Health::Healthy
    } else if !conditions.terminating.unwrap_or(true) {
        Health::Unhealthy
    } else if conditions.serving.unwrap_or(true) {
        Health::Draining
    } else {
        Health::Terminating
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        Health, KubernetesServicePort, Labels, SliceConditions, TargetPort, TrafficDistribution,
        WorkloadEntrySpec,
    };

    use super::{health_of, traffic_distribution, workload_port};

    #[test]
    fn what_a_slice_leaves_open_counts_as_istio_counts_it() {
        let of = |ready, serving, terminating| {
            health_of(&SliceConditions {
                ready,
                serving,
                terminating,
            })
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(of(None, None, None), Health::Healthy);
        assert_eq!(of(yes, yes, yes), Health::Healthy);
        assert_eq!(of(no, yes, no), Health::Unhealthy);
        assert_eq!(of(no, None, None), Health::Draining);
        assert_eq!(of(no, no, yes), Health::Terminating);
    }

    #[test]
    fn the_field_comes_before_annotations_and_a_word_of_ones_own_before_the_namespaces() {
        let said = |word: &str| {
            let key = super::ANNOTATION_TRAFFIC_DISTRIBUTION.to_owned();
            Labels::from([(key, word.to_owned())])
        };
        let of = |field, own: &str, namespace: &str| {
            traffic_distribution(field, &said(own), Some(&said(namespace)))
        };
        let zone = TrafficDistribution::PreferSameZone;
        assert_eq!(of("PreferClose", "PreferSameNode", ""), zone);
        assert_eq!(of("", "", "preferclose"), zone);
        assert_eq!(of("", "Any", "PreferClose"), TrafficDistribution::Any);
    }

    #[test]
    fn a_workload_without_the_named_port_is_no_endpoint() {
        let port = |target_port| KubernetesServicePort {
            name: "http".into(),
            port: 80,
            target_port,
            ..KubernetesServicePort::default()
        };
        let workload = WorkloadEntrySpec {
            ports: [("http".to_owned(), 8888), ("app".to_owned(), 9999)].into(),
            ..WorkloadEntrySpec::default()
        };
        let named = |name: &str| Some(TargetPort::Name(name.to_owned()));
        assert_eq!(workload_port(&workload, &port(named("app"))), Some(9999));
        assert_eq!(workload_port(&workload, &port(named("web"))), None);
        let number = Some(TargetPort::Number(8080));
        assert_eq!(workload_port(&workload, &port(number)), Some(8888));
        assert_eq!(workload_port(&workload, &port(None)), Some(80));
    }
}
