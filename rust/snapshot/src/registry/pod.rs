//! What a Pod tells of the workload behind its endpoints.

use std::sync::Arc;

use navarch_model::{KubernetesPod, Labels, Locality, Shared, Workload};

use super::{Registry, with_place};

impl Registry {
    /// The workload of a Pod (istio `pilot/pkg/serviceregistry/kube/controller/endpoint_builder.go`).
    pub(crate) fn workload_of_pod(
        &self,
        pod: &KubernetesPod,
        root_namespace: &str,
    ) -> Shared<Workload> {
        let metadata = &pod.metadata.common;
        let locality = self.locality_of_pod(pod);
        let account = match pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        };
        let address = match pod.status.pod_ip.as_str() {
            "" => pod.status.pod_ips.first().map_or("", |ip| &ip.ip),
            address => address,
        };
        let network = self.network_of(&metadata.labels, address, root_namespace);
        let subdomain: Arc<str> = pod.spec.subdomain.as_str().into();
        let hostname: Arc<str> = match (subdomain.is_empty(), pod.spec.hostname.as_str()) {
            (true, _) => "".into(),
            (false, "") => metadata.name.as_str().into(),
            (false, hostname) => hostname.into(),
        };
        let labels = with_place(
            &metadata.labels,
            &self.options.cluster_id,
            &locality,
            &pod.spec.node_name,
            &network,
        );
        Shared::new(Workload {
            name: owner_name(pod).into(),
            namespace: metadata.namespace.as_str().into(),
            has_mutual_tls: metadata
                .labels
                .get("security.istio.io/tlsMode")
                .map(String::as_str)
                == Some("istio"),
            labels,
            service_account: self.spiffe(&metadata.namespace, account),
            locality,
            network,
            cluster_id: self.options.cluster_id.clone(),
            node_name: pod.spec.node_name.as_str().into(),
            hostname,
            subdomain,
        })
    }

    /// The Pod's own label, else its Node's labels.
    pub(crate) fn locality_of_pod(&self, pod: &KubernetesPod) -> Locality {
        locality_of_labels(&pod.metadata.common.labels)
            .unwrap_or_else(|| self.locality_of_node(&pod.spec.node_name))
    }

    /// Region, zone and subzone of a Node.
    pub(crate) fn locality_of_node(&self, name: &str) -> Locality {
        let Some(node) = self.nodes.get(&("".into(), name.into())) else {
            return Locality::default();
        };
        let label = |keys: [&str; 2]| -> Arc<str> {
            keys.iter()
                .find_map(|key| node.metadata.labels.get(*key))
                .map_or_else(Arc::default, |value| value.as_str().into())
        };
        Locality {
            region: label([
                "topology.kubernetes.io/region",
                "failure-domain.beta.kubernetes.io/region",
            ]),
            zone: label([
                "topology.kubernetes.io/zone",
                "failure-domain.beta.kubernetes.io/zone",
            ]),
            subzone: label(["topology.istio.io/subzone", "topology.istio.io/subzone"]),
        }
    }
}

/// The locality that a label tells; the older label writes `.` for `/`.
pub(crate) fn locality_of_labels(labels: &Labels) -> Option<Locality> {
    if let Some(text) = labels
        .get("topology.istio.io/locality")
        .filter(|text| !text.is_empty())
    {
        return Some(Locality::parse(&separated(text)));
    }
    labels
        .get("istio-locality")
        .filter(|text| !text.is_empty())
        .map(|text| Locality::parse(&separated(text)))
}

/// A label value can't hold `/`: without one, `.` separates (istio `GetLocalityLabel`).
fn separated(text: &str) -> String {
    if text.contains('/') {
        text.to_owned()
    } else {
        text.replace('.', "/")
    }
}

/// The name of what made the Pod (istio `pkg/kube/util.go` `GetWorkloadMetaFromPod`).
fn owner_name(pod: &KubernetesPod) -> &str {
    let metadata = &pod.metadata;
    let own = metadata.common.name.as_str();
    if metadata.generate_name.is_empty() {
        return own;
    }
    let Some(owner) = metadata
        .owner_references
        .iter()
        .find(|owner| owner.controller)
    else {
        return own;
    };
    let without_hash = |label: &str| {
        let hash = metadata
            .common
            .labels
            .get(label)
            .filter(|hash| !hash.is_empty())?;
        owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')
    };
    let name = match owner.kind.as_str() {
        "ReplicaSet" => {
            without_hash("pod-template-hash").or_else(|| without_hash("rollouts-pod-template-hash"))
        }
        "ReplicationController" => metadata
            .common
            .labels
            .get("deploymentconfig")
            .map(String::as_str)
            .filter(|config| owner.name.starts_with(*config)),
        "Job" => owner.name.rsplit_once('-').and_then(|(name, time)| {
            let is_time =
                (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit());
            is_time.then_some(name)
        }),
        _ => None,
    };
    name.unwrap_or(&owner.name)
}
