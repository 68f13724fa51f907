//! Kubernetes Services and EndpointSlices to services and endpoints.
//!
//! Source: istio `pkg/serviceregistry/kube/conversion.go`, `controller/endpointslice.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    Endpoint, EndpointSlice, Health, Hostname, KubernetesNode, KubernetesService,
    KubernetesServicePort, Labels, Protocol, Registry as RegistryKind, Resolution, Service,
    ServicePort, Shared, SliceConditions, SliceEndpoint, TargetPort, TrafficDistribution,
    Visibility, Workload, is_selected,
};

use super::{Registry, with_place};

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
pub(crate) fn traffic_distribution(field: &str, annotations: &Labels) -> TrafficDistribution {
    let text = annotations
        .get(ANNOTATION_TRAFFIC_DISTRIBUTION)
        .map_or(field, String::as_str);
    match text.to_ascii_lowercase().as_str() {
        "preferclose" | "prefersamezone" => TrafficDistribution::PreferSameZone,
        "prefersamenode" => TrafficDistribution::PreferSameNode,
        "prefersamenetwork" => TrafficDistribution::PreferSameNetwork,
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
        let own = traffic_distribution(
            &service.spec.traffic_distribution,
            &service.metadata.annotations,
        );
        let namespace = ("".into(), service.metadata.namespace.as_str().into());
        match (own, self.namespaces.get(&namespace)) {
            (TrafficDistribution::Any, Some(namespace)) => {
                traffic_distribution("", &namespace.metadata.annotations)
            }
            _ => own,
        }
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
            let health = health_of(&endpoint.conditions);
            for address in &endpoint.addresses {
                let Some(workload) = self.workload_of_address(slice, endpoint, address, root)
                else {
                    continue;
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
        for ((owner, _), entry) in &self.workload_entries {
            if &**owner != namespace || !is_selected(&service.spec.selector, &entry.spec.labels) {
                continue;
            }
            let workload =
                self.workload_of_entry(&entry.spec, &entry.metadata.name, namespace, root);
            let health = super::service_entry::health_of_entry(entry);
            for port in &service.spec.ports {
                let number = match &port.target_port {
                    Some(TargetPort::Number(number)) => *number,
                    _ => port.port,
                };
                let number = entry.spec.ports.get(&port.name).copied().unwrap_or(number);
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

fn cluster_addresses(service: &KubernetesService) -> Vec<Arc<str>> {
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

/// Istio's `endpointHealthStatus`: unknown readiness counts as ready.
fn health_of(conditions: &SliceConditions) -> Health {
    if conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false) {
        return Health::Healthy;
    }
    if conditions.terminating.unwrap_or(false) {
        return if conditions.serving.unwrap_or(true) {
            Health::Draining
        } else {
            Health::Terminating
        };
    }
    if conditions.ready.unwrap_or(true) {
        Health::Healthy
    } else {
        Health::Unhealthy
    }
}
