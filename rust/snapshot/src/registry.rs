//! Platforms' objects to services, workloads and endpoints; after this everything is platform-blind.

pub(crate) mod auto_allocate;
pub(crate) mod kubernetes;
pub(crate) mod pod;
pub(crate) mod reported;
pub(crate) mod service_entry;
pub(crate) mod slice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Endpoint, EndpointSlice, EntryVisibility, KubernetesNamespace, KubernetesNode, KubernetesPod,
    KubernetesService, LabelSelector, Labels, Locality, MeshNetworks, ServiceEntry,
    ServiceEntryVisibility, Shared, WorkloadEntry,
};

use crate::MeshOptions;
use crate::mesh::PersistentMap;
use reported::HealthReports;
use slice::SlicePlaces;

/// Namespace and name of an object.
pub(crate) type Name = (Arc<str>, Arc<str>);

/// Objects by namespace and name.
pub(crate) type ByName<T> = BTreeMap<Name, Shared<T>>;

/// A Pod with what its endpoints share, read once.
#[derive(Debug, Clone)]
pub(crate) struct IndexedPod {
    pub(crate) pod: Shared<KubernetesPod>,
    pub(crate) workload: Shared<navarch_model::Workload>,
}

/// The platforms' objects as they stand.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) options: MeshOptions,
    pub(crate) trust_domain: Arc<str>,
    pub(crate) networks: Shared<MeshNetworks>,
    /// Which namespaces' Kubernetes objects count; empty for all.
    pub(crate) discovery_selectors: Vec<LabelSelector>,
    /// Who may see ServiceEntries at most, where sidecars heed it.
    pub(crate) entry_visibility: Option<ServiceEntryVisibility>,
    pub(crate) namespaces: ByName<KubernetesNamespace>,
    pub(crate) nodes: ByName<KubernetesNode>,
    pub(crate) pods: PersistentMap<Name, IndexedPod>,
    pub(crate) pods_by_address: BTreeMap<Arc<str>, Name>,
    pub(crate) services: ByName<KubernetesService>,
    pub(crate) slices: ByName<EndpointSlice>,
    /// Names of the slices of a Service, by (namespace, service name).
    pub(crate) slices_of_service: BTreeMap<Name, BTreeSet<Arc<str>>>,
    pub(crate) places_of_slices: SlicePlaces,
    pub(crate) service_entries: ByName<ServiceEntry>,
    pub(crate) workload_entries: ByName<WorkloadEntry>,
    pub(crate) reports: HealthReports,
    /// The platforms of remote clusters, by the cluster's name; these have none themselves.
    pub(crate) remotes: BTreeMap<Arc<str>, Self>,
}

impl Registry {
    /// The SPIFFE name of a service account.
    pub(crate) fn spiffe(&self, namespace: &str, account: &str) -> Arc<str> {
        format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain).into()
    }

    /// Whether the Kubernetes objects of a namespace count; those of the root namespace always do
    /// (istio `pkg/kube/namespace/filter.go`).
    pub(crate) fn is_discovered(&self, namespace: &str, root: &str) -> bool {
        if self.discovery_selectors.is_empty() || namespace == root {
            return true;
        }
        let labels = self.namespace_labels(namespace);
        self.discovery_selectors
            .iter()
            .any(|selector| selector.is_match(&labels))
    }

    /// The most that may be seen of the ServiceEntries of a namespace.
    pub(crate) fn entry_visibility(&self, namespace: &str) -> EntryVisibility {
        let visibility = self.entry_visibility.as_ref();
        visibility.map_or(EntryVisibility::Public, |visibility| {
            visibility.of_namespace(&self.namespace_labels(namespace))
        })
    }

    /// Labels of a namespace; one that is not known has its name alone, which Kubernetes adds to all.
    fn namespace_labels(&self, namespace: &str) -> Labels {
        let known = self.namespaces.get(&("".into(), namespace.into()));
        let mut labels = known
            .map(|known| known.metadata.labels.clone())
            .unwrap_or_default();
        labels
            .entry("kubernetes.io/metadata.name".to_owned())
            .or_insert_with(|| namespace.to_owned());
        labels
    }

    /// The network of a workload, or "": its own label's, else that of the system namespace's label, else
    /// where `MeshNetworks` puts its address (istio `Controller.Network`).
    pub(crate) fn network_of(
        &self,
        labels: &Labels,
        address: &str,
        root_namespace: &str,
    ) -> Arc<str> {
        let label = |labels: &Labels| labels.get(LABEL_NETWORK).filter(|n| !n.is_empty()).cloned();
        let of_namespace = || {
            let root = self.namespaces.get(&("".into(), root_namespace.into()))?;
            label(&root.metadata.labels)
        };
        if let Some(network) = label(labels).or_else(of_namespace) {
            return network.into();
        }
        self.networks
            .network_of(&self.options.cluster_id, address)
            .unwrap_or_default()
            .into()
    }

    /// The Pod of this cluster that has an address, host-network Pods aside.
    pub(crate) fn pod_by_address(&self, address: &str) -> Option<&IndexedPod> {
        self.pods.get(self.pods_by_address.get(address)?)
    }

    /// The Pod of any cluster that has an address; where networks use an address twice, this cluster's.
    pub(crate) fn pod_anywhere(&self, address: &str) -> Option<&IndexedPod> {
        self.clusters()
            .find_map(|cluster| cluster.pod_by_address(address))
    }
}

/// Label of Pods, namespaces and services that names their network.
pub(crate) const LABEL_NETWORK: &str = "topology.istio.io/network";

/// Add to a workload's labels what its place tells (istio `labelutil.AugmentLabels`).
pub(crate) fn with_place(
    labels: &navarch_model::Labels,
    cluster_id: &str,
    locality: &Locality,
    node_name: &str,
    network: &str,
) -> navarch_model::Labels {
    let mut out = labels.clone();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            out.insert(key.to_owned(), value.to_owned());
        }
    };
    put("topology.kubernetes.io/region", &locality.region);
    put("topology.kubernetes.io/zone", &locality.zone);
    put("topology.istio.io/subzone", &locality.subzone);
    put("topology.istio.io/cluster", cluster_id);
    put("kubernetes.io/hostname", node_name);
    if !labels.contains_key(LABEL_NETWORK) {
        put(LABEL_NETWORK, network);
    }
    out
}

/// Endpoints in the order in which they are published.
pub(crate) fn sort_endpoints(endpoints: &mut [Endpoint]) {
    endpoints.sort_by(|a, b| a.service_port_name.cmp(&b.service_port_name));
}
