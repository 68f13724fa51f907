//! The endpoints of a proxy's own kind, by which Envoy knows how its zones are peopled (zone-aware balancing).
//!
//! The cluster itself stands in the proxy's bootstrap, where Envoy wants it. Source: istio
//! `pilot/pkg/xds/endpoints/endpoint_builder.go`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use navarch_model::{Endpoint, Health, Locality, Proxy, ProxyKind, ServiceEndpoints, Shared};
use navarch_snapshot::MeshSnapshot;

use super::build_locality;
use super::endpoint::build_lb_endpoint;
use super::locality::{LocalityGroup, Member, weight_of};

/// The cluster's name in the bootstrap.
pub const LOCAL_CLUSTER: &str = "local_cluster";
const LABEL_TEMPLATE: &str = "pod-template-hash";
/// Nothing connects there: one port for all, so that a workload of many ports counts once.
const PORT: u32 = 80;

/// Everything that the endpoints of a proxy's own kind depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalClusterInputs {
    /// Of the services that the proxy serves, each service once.
    pub endpoints: Vec<Shared<ServiceEndpoints>>,
    /// The workload's name and namespace.
    pub workload: (Arc<str>, Arc<str>),
    /// The value of the label that tells the Pods of one rollout from another's.
    pub template: Option<String>,
    /// The proxy's region.
    pub region: Arc<str>,
}

/// The inputs for a sidecar that announces self discovery; `None` for any other proxy.
pub fn local_cluster_inputs(mesh: &MeshSnapshot, proxy: &Proxy) -> Option<LocalClusterInputs> {
    if !proxy.metadata.enable_self_discovery || proxy.kind != ProxyKind::Sidecar {
        return None;
    }
    let name = match proxy.metadata.workload_name.as_str() {
        "" => mesh
            .workload_of(proxy)
            .map_or_else(Arc::default, |workload| workload.name.clone()),
        name => name.into(),
    };
    let mut endpoints: Vec<Shared<ServiceEndpoints>> = Vec::new();
    let mut seen = BTreeSet::new();
    for target in mesh.service_targets(proxy) {
        if seen.insert((
            target.service.hostname.clone(),
            target.service.namespace.clone(),
        )) {
            endpoints.push(mesh.endpoints(&target.service));
        }
    }
    Some(LocalClusterInputs {
        endpoints,
        workload: (name, proxy.namespace.clone()),
        template: mesh.proxy_labels(proxy).get(LABEL_TEMPLATE).cloned(),
        region: mesh.proxy_locality(proxy).region,
    })
}

/// Build the load assignment: each workload of the proxy's kind in its region once, by locality.
pub fn build_local_cluster(inputs: &LocalClusterInputs) -> ClusterLoadAssignment {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut by_locality: BTreeMap<&Locality, Vec<Member<'_>>> = BTreeMap::new();
    let all = inputs.endpoints.iter().flat_map(|of| &of.endpoints);
    for endpoint in all.filter(|endpoint| inputs.is_kin(endpoint)) {
        let Some(address) = endpoint.addresses.first() else {
            continue;
        };
        if !seen.insert(address) {
            continue;
        }
        let workload = &endpoint.workload;
        let counted = Endpoint {
            port: PORT,
            ..endpoint.clone()
        };
        let members = by_locality.entry(&workload.locality).or_default();
        members.push(Member {
            workload: Some(workload),
            labels: Cow::Borrowed(&workload.labels),
            endpoint: build_lb_endpoint(&counted, address, workload.has_mutual_tls),
        });
    }
    let groups = by_locality
        .into_iter()
        .map(|(locality, members)| LocalityGroup {
            locality: locality.clone(),
            weight: Some(weight_of(&members)),
            priority: 0,
            members,
        });
    ClusterLoadAssignment {
        cluster_name: LOCAL_CLUSTER.to_owned(),
        endpoints: groups.map(build_locality).collect(),
        ..ClusterLoadAssignment::default()
    }
}

impl LocalClusterInputs {
    fn is_kin(&self, endpoint: &Endpoint) -> bool {
        let workload = &*endpoint.workload;
        let is_counted = match endpoint.health {
            Health::Healthy | Health::Unhealthy | Health::Unknown => true,
            Health::Draining | Health::Terminating => false,
        };
        is_counted
            && (&workload.name, &workload.namespace) == (&self.workload.0, &self.workload.1)
            && workload.labels.get(LABEL_TEMPLATE) == self.template.as_ref()
            && workload.locality.region == self.region
    }
}
