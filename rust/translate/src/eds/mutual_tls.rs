//! Which endpoints take mutual TLS from a client.
//!
//! Source: istio `pilot/pkg/xds/endpoints/mtls_checker.go`.

use std::collections::BTreeMap;

use navarch_model::{ClientTlsMode, Endpoint, MutualTlsMode, ServiceEndpoints, TrafficPolicy};
use navarch_snapshot::MeshSnapshot;

use crate::cds::service_cluster::ServiceCluster;

/// Which endpoints of a service port take mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointTls {
    /// A DestinationRule's mode decides for all that have the means.
    Ruled {
        /// Whether the mode is `ISTIO_MUTUAL`.
        is_mutual: bool,
    },
    /// Those that have the means, but for these places in the service's list, where PeerAuthentication disables it.
    Automatic {
        /// Places in the list, rising.
        disabled: Vec<usize>,
    },
}

impl EndpointTls {
    /// What decides for a cluster's endpoints.
    pub(crate) fn of(
        mesh: &MeshSnapshot,
        cluster: &ServiceCluster<'_>,
        endpoints: &ServiceEndpoints,
    ) -> Self {
        if let Some(mode) = ruled_mode(cluster) {
            return Self::Ruled {
                is_mutual: mode == ClientTlsMode::IstioMutual,
            };
        }
        let mut known: BTreeMap<(u128, u32), bool> = BTreeMap::new();
        let mut disabled = Vec::new();
        for (i, endpoint) in endpoints.endpoints.iter().enumerate() {
            let workload = &endpoint.workload;
            if endpoint.service_port_name != cluster.port.name || !workload.has_mutual_tls {
                continue;
            }
            let is_disabled = *known
                .entry((workload.hash128(), endpoint.port))
                .or_insert_with(|| {
                    let modes = mesh.mutual_tls(&workload.namespace, &workload.labels);
                    modes.of_port(endpoint.port) == MutualTlsMode::Disable
                });
            if is_disabled {
                disabled.push(i);
            }
        }
        Self::Automatic { disabled }
    }

    /// Whether the endpoint at that place of the service's list takes mutual TLS.
    pub(crate) fn has_mutual_tls(&self, place: usize, endpoint: &Endpoint) -> bool {
        endpoint.workload.has_mutual_tls
            && match self {
                Self::Ruled { is_mutual } => *is_mutual,
                Self::Automatic { disabled } => disabled.binary_search(&place).is_err(),
            }
    }
}

/// The mode that the rule sets for the cluster: the subset's, else the whole's; a port's own wins.
fn ruled_mode(cluster: &ServiceCluster<'_>) -> Option<ClientTlsMode> {
    let port = cluster.port.number;
    let of_policy = |policy: Option<&TrafficPolicy>| {
        let policy = policy?;
        let own = policy
            .port_level_settings
            .iter()
            .filter(|own| own.port.is_some_and(|selector| selector.number == port))
            .find_map(|own| own.tls.as_ref());
        own.or(policy.tls.as_ref()).map(|tls| tls.mode)
    };
    let subset = cluster
        .subset
        .and_then(|subset| of_policy(subset.traffic_policy.as_ref()));
    subset.or_else(|| of_policy(cluster.rule?.spec.traffic_policy.as_ref()))
}
