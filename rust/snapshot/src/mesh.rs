//! The frozen mesh: every part behind an `Arc` that is shared with the epochs in which it did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    DestinationRule, Gateway, Hostname, Labels, Locality, MeshConfig, MeshNetworks, Proxy, Service,
    ServiceEndpoints, Shared, Sidecar, VirtualService, Workload, is_selected,
};

use crate::analysis::Analysis;
use crate::destination_rule::DestinationRuleIndex;
use crate::mutual_tls::{MutualTlsModes, PeerAuthenticationIndex};
use crate::policy::PolicyIndex;
use crate::sidecar::SidecarIndex;
use crate::store::cluster_address::ServicesOfClusters;

/// What a mesh is told of itself at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshOptions {
    /// The cluster's DNS domain.
    pub domain_suffix: Arc<str>,
    /// The cluster whose objects these are.
    pub cluster_id: Arc<str>,
}

impl Default for MeshOptions {
    fn default() -> Self {
        Self {
            domain_suffix: "cluster.local".into(),
            cluster_id: "Kubernetes".into(),
        }
    }
}

/// Names one service: a host may stand in several namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The host.
    pub hostname: Hostname,
    /// The namespace.
    pub namespace: Arc<str>,
}

impl ServiceKey {
    /// The key of a service.
    pub fn of(service: &Service) -> Self {
        Self {
            hostname: service.hostname.clone(),
            namespace: service.namespace.clone(),
        }
    }

    /// Whether it names that service.
    pub(crate) fn is_of(&self, service: &Service) -> bool {
        self.hostname == service.hostname && self.namespace == service.namespace
    }
}

/// A map whose next version shares all but a few nodes with this one: a change costs what it changes.
pub(crate) type PersistentMap<K, V> = rpds::RedBlackTreeMapSync<K, V>;

/// What is known of the workload at an address.
#[derive(Debug, Clone)]
pub(crate) struct AddressOwner {
    pub(crate) workload: Shared<Workload>,
    /// The workload's own labels, without those its place adds.
    pub(crate) labels: Shared<Labels>,
    /// Named container ports.
    pub(crate) ports: Shared<BTreeMap<String, u32>>,
}

/// All services, in the orders in which they are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceIndex {
    /// By age.
    pub(crate) services: Vec<Shared<Service>>,
    pub(crate) by_host: BTreeMap<Hostname, Vec<Shared<Service>>>,
    /// Those whose selector picks workloads of their namespace, by age.
    pub(crate) selecting: BTreeMap<Arc<str>, Vec<Shared<Service>>>,
    /// Those with a network's label: gateways between networks.
    pub(crate) with_network: Vec<Shared<Service>>,
    /// As clients of a cluster know them, where they have other addresses there.
    pub(crate) of_clusters: ServicesOfClusters,
    /// Whether some service wants or prefers endpoints of the client's own Node.
    pub(crate) has_node_preference: bool,
}

/// The rules, indexed.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleIndex {
    pub(crate) virtual_services: Vec<Shared<VirtualService>>,
    pub(crate) destination_rules: DestinationRuleIndex,
    pub(crate) gateways: Vec<Shared<Gateway>>,
    pub(crate) sidecars: SidecarIndex,
    pub(crate) peer_authentications: PeerAuthenticationIndex,
    pub(crate) policies: PolicyIndex,
    /// Label keys of proxies that any rule looks at.
    pub(crate) label_keys: BTreeSet<String>,
    /// Label keys of routers that policies look at: those of a sidecar shape only what is its own.
    pub(crate) policy_label_keys: BTreeSet<String>,
}

/// A frozen, indexed mesh.
#[derive(Debug, Clone)]
pub struct MeshSnapshot {
    /// Counts the applied batches that changed something.
    pub epoch: u64,
    /// Mesh-wide settings.
    pub mesh_config: Shared<MeshConfig>,
    /// The cluster's DNS domain.
    pub domain_suffix: Arc<str>,
    /// The cluster whose objects these are.
    pub cluster_id: Arc<str>,
    /// The networks that the mesh is told of.
    pub networks: Shared<MeshNetworks>,
    pub(crate) services: Arc<ServiceIndex>,
    pub(crate) remote_gateways: Arc<Vec<(Arc<str>, Shared<Service>)>>,
    pub(crate) endpoints: PersistentMap<ServiceKey, Shared<ServiceEndpoints>>,
    pub(crate) addresses: PersistentMap<Arc<str>, AddressOwner>,
    /// Services by the address of an endpoint of theirs that no selector explains.
    pub(crate) services_by_address: PersistentMap<Arc<str>, BTreeSet<ServiceKey>>,
    pub(crate) rules: Arc<RuleIndex>,
    pub(crate) no_endpoints: Shared<ServiceEndpoints>,
    pub(crate) analysis: Analysis,
}

impl MeshSnapshot {
    /// All services, oldest first, then by name, then by namespace.
    pub fn services(&self) -> &[Shared<Service>] {
        &self.services.services
    }

    /// The services that may be gateways into networks, by label or by name in `MeshNetworks`, each once or more.
    pub fn network_gateway_services(&self) -> impl Iterator<Item = &Shared<Service>> {
        let gateways = self.networks.networks.values().flat_map(|n| &n.gateways);
        let named = gateways.filter_map(|gateway| gateway.registry_service_name.as_deref());
        let named = named.flat_map(|host| self.services_of_host(host));
        self.services.with_network.iter().chain(named)
    }

    /// Services of remote clusters that lead into a network, by their label, with the cluster's name.
    pub fn remote_gateways(&self) -> &[(Arc<str>, Shared<Service>)] {
        &self.remote_gateways
    }

    /// The services of one host, oldest first.
    pub fn services_of_host(&self, host: &str) -> &[Shared<Service>] {
        self.services.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// The service of a key.
    pub fn find_service(&self, key: &ServiceKey) -> Option<&Shared<Service>> {
        self.services_of_host(key.hostname.as_str())
            .iter()
            .find(|service| service.namespace == key.namespace)
    }

    /// The endpoints of a service, in a stable order; empty if there are none.
    pub fn endpoints(&self, service: &Service) -> Shared<ServiceEndpoints> {
        self.endpoints
            .get(&ServiceKey::of(service))
            .unwrap_or(&self.no_endpoints)
            .clone()
    }

    /// The endpoints of the service of a key; empty if there are none.
    pub fn endpoints_of(&self, key: &ServiceKey) -> Shared<ServiceEndpoints> {
        self.endpoints
            .get(key)
            .unwrap_or(&self.no_endpoints)
            .clone()
    }

    /// All VirtualServices with hosts, oldest first: names resolved, delegates merged, gateways `namespace/name` or `mesh`.
    pub fn virtual_services(&self) -> &[Shared<VirtualService>] {
        &self.rules.virtual_services
    }

    /// The Gateways whose selector picks a proxy, or whose Services do, oldest first.
    pub fn gateways_of(&self, labels: &Labels) -> Vec<Shared<Gateway>> {
        let gateways = self.rules.gateways.iter();
        gateways
            .filter(|gateway| self.is_gateway_of(gateway, labels))
            .cloned()
            .collect()
    }

    fn is_gateway_of(&self, gateway: &Gateway, labels: &Labels) -> bool {
        let Some(services) = &gateway.services else {
            return is_selected(&gateway.spec.selector, labels);
        };
        let hosts = services.hosts.iter();
        hosts
            .flat_map(|host| self.services_of_host(host.as_str()))
            .any(|service| {
                *service.namespace == *services.namespace && is_selected(&service.selector, labels)
            })
    }

    /// The Sidecar of a workload, if any.
    pub fn sidecar_of(&self, namespace: &str, labels: &Labels) -> Option<&Shared<Sidecar>> {
        self.rules
            .sidecars
            .find(&self.mesh_config.root_namespace, namespace, labels)
    }

    /// The merged DestinationRule for a client (namespace, labels) of a service.
    pub fn destination_rule(
        &self,
        client: (&str, &Labels),
        service: &Service,
    ) -> Option<&Shared<DestinationRule>> {
        self.rules
            .destination_rules
            .find(&self.mesh_config.root_namespace, client, service)
    }

    /// The mutual-TLS modes of a workload.
    pub fn mutual_tls(&self, namespace: &str, labels: &Labels) -> MutualTlsModes {
        let root = &self.mesh_config.root_namespace;
        self.rules
            .peer_authentications
            .mutual_tls(root, namespace, labels)
    }

    /// The mutual-TLS mode of a namespace as a whole.
    pub fn namespace_mutual_tls(&self, namespace: &str) -> navarch_model::MutualTlsMode {
        let root = &self.mesh_config.root_namespace;
        self.rules
            .peer_authentications
            .namespace_mutual_tls(root, namespace)
    }

    /// A proxy's labels: its Pod's, else those that the node tells.
    pub fn proxy_labels(&self, proxy: &Proxy) -> Labels {
        self.owner_of(proxy).map_or_else(
            || proxy.metadata.labels.clone(),
            |owner| (*owner.labels).clone(),
        )
    }

    /// A proxy's locality: the node's word, else its Pod's.
    pub fn proxy_locality(&self, proxy: &Proxy) -> Locality {
        if !proxy.locality.is_empty() {
            return proxy.locality.clone();
        }
        self.owner_of(proxy)
            .map(|owner| owner.workload.locality.clone())
            .unwrap_or_default()
    }

    pub(crate) fn owner_of(&self, proxy: &Proxy) -> Option<&AddressOwner> {
        proxy
            .ip_addresses
            .iter()
            .find_map(|ip| self.addresses.get(ip))
    }
}
