//! Gateways in front of endpoints of other networks (split horizon).
//!
//! Source: istio `pilot/pkg/xds/endpoints/ep_filters.go`, pilot/pkg/model/network.go.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Labels, NetworkGatewayConfig, Registry, Service, Shared, Workload};
use navarch_snapshot::MeshSnapshot;

use super::endpoint::{build_gateway_endpoint, is_mutual_tls};
use super::locality::{LABEL_CLUSTER, LABEL_NETWORK, LocalityGroup, Member, weight_of};
use crate::address::{is_ip, is_ipv6};

/// The port of a gateway between networks that says none.
const DEFAULT_GATEWAY_PORT: u32 = 15443;
const LABEL_GATEWAY_PORT: &str = "networking.istio.io/gatewayPort";

/// A gateway into a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkGateway {
    /// Where it leads.
    pub network: Arc<str>,
    /// The cluster it stands in; "" where nobody tells.
    pub cluster_id: Arc<str>,
    /// Its IP address, or a name that is not resolved here.
    pub address: Arc<str>,
    /// Its port for mutual TLS passed through by SNI.
    pub port: u32,
}

/// All gateways of a mesh, and by how much weights are multiplied so that they divide among them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkGateways {
    gateways: Vec<NetworkGateway>,
    scale: u32,
}

impl NetworkGateways {
    /// The gateways that `MeshNetworks` gives by address, and those that Services are: by their network label, or
    /// by name in `MeshNetworks`. Services stand in their cluster, addresses in none.
    pub fn of(mesh: &MeshSnapshot) -> Shared<Self> {
        let mut gateways: Vec<NetworkGateway> = Vec::new();
        for (network, gateway) in configured(mesh) {
            let Some(address) = gateway.address.as_deref().filter(|a| !a.is_empty()) else {
                continue;
            };
            gateways.push(NetworkGateway {
                network: network.into(),
                cluster_id: Arc::default(),
                address: address.into(),
                port: gateway.port,
            });
        }
        let own = mesh.network_gateway_services();
        let own = own.map(|service| (&mesh.cluster_id, service));
        let remote = mesh.remote_gateways().iter().map(|(id, s)| (id, s));
        for (cluster_id, service) in own.chain(remote) {
            for (network, port) in doors_of(mesh, service) {
                let port = service.node_ports.get(&port).copied().unwrap_or(port);
                for address in &service.external_addresses {
                    gateways.push(NetworkGateway {
                        network: network.into(),
                        cluster_id: cluster_id.clone(),
                        address: address.clone(),
                        port,
                    });
                }
            }
        }
        gateways.sort();
        gateways.dedup();
        let scale = scale_of(&gateways);
        Shared::new(Self { gateways, scale })
    }

    /// Whether there is any network but one's own.
    pub fn is_empty(&self) -> bool {
        self.gateways.is_empty()
    }

    /// The gateways of a network, those in the endpoint's own cluster alone if there are any.
    fn select(
        &self,
        workload: &Workload,
        is_usable: impl Fn(&str) -> bool,
    ) -> Vec<&NetworkGateway> {
        let of_network = || {
            self.gateways
                .iter()
                .filter(|gateway| gateway.network == workload.network)
        };
        let near: Vec<_> = of_network()
            .filter(|gateway| gateway.cluster_id == workload.cluster_id)
            .collect();
        let chosen = if near.is_empty() {
            of_network().collect()
        } else {
            near
        };
        chosen
            .into_iter()
            .filter(|gateway| is_usable(&gateway.address))
            .collect()
    }
}

/// All gateways of `MeshNetworks`, with the network that each leads to.
fn configured(mesh: &MeshSnapshot) -> impl Iterator<Item = (&str, &NetworkGatewayConfig)> {
    let networks = mesh.networks.networks.iter();
    networks.flat_map(|(name, network)| {
        let gateways = network.gateways.iter();
        gateways.map(move |gateway| (name.as_str(), gateway))
    })
}

/// The networks that a Service leads to, and by which of its ports: its label counts before `MeshNetworks`, and
/// there only the networks of the mesh's own cluster do (istio `getGatewayDetails`).
fn doors_of<'a>(mesh: &'a MeshSnapshot, service: &'a Service) -> Vec<(&'a str, u32)> {
    if service.registry != Registry::Kubernetes {
        return Vec::new();
    }
    if let Some(network) = service.labels.get(LABEL_NETWORK).filter(|n| !n.is_empty()) {
        let port = service.labels.get(LABEL_GATEWAY_PORT);
        let port = port.and_then(|port| port.parse().ok());
        return vec![(network, port.unwrap_or(DEFAULT_GATEWAY_PORT))];
    }
    let is_own = |network: &str| {
        let network = mesh.networks.networks.get(network);
        network.is_some_and(|network| network.has_registry(&mesh.cluster_id))
    };
    let named = configured(mesh).filter(|(network, gateway)| {
        gateway.registry_service_name.as_deref() == Some(service.hostname.as_str())
            && is_own(network)
    });
    named
        .map(|(network, gateway)| (network, gateway.port))
        .collect()
}

/// The least common multiple of the numbers of gateways per network and per cluster of a network.
fn scale_of(gateways: &[NetworkGateway]) -> u32 {
    let mut counts: BTreeMap<(&str, Option<&str>), u32> = BTreeMap::new();
    for gateway in gateways {
        *counts.entry((&gateway.network, None)).or_default() += 1;
        *counts
            .entry((&gateway.network, Some(&gateway.cluster_id)))
            .or_default() += 1;
    }
    counts.into_values().fold(1, least_common_multiple)
}

fn least_common_multiple(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

/// What a client of one network needs to know of the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkInputs {
    /// All gateways.
    pub gateways: Shared<NetworkGateways>,
    /// The client's network, or "".
    pub network: Arc<str>,
    /// The client's cluster, which Istio names in a gateway's metadata.
    pub cluster_id: Arc<str>,
    /// Whether it reaches IPv4 addresses.
    pub has_ipv4: bool,
    /// Whether it reaches IPv6 addresses.
    pub has_ipv6: bool,
    /// Whether Envoy resolves names itself, so that gateways may be names.
    pub is_name_allowed: bool,
}

impl NetworkInputs {
    /// Whether the client reaches that network even where gateways lead into it; an unknown network counts as its
    /// own, but a client of an unknown network is led through gateways.
    pub fn is_local(&self, network: &str) -> bool {
        network.is_empty() || *network == *self.network
    }

    fn is_usable(&self, address: &str) -> bool {
        if !is_ip(address) {
            return self.is_name_allowed;
        }
        if is_ipv6(address) {
            self.has_ipv6
        } else {
            self.has_ipv4
        }
    }

    /// Put gateways in the place of endpoints of other networks; only endpoints with mutual TLS can be reached so.
    pub(crate) fn apply<'a>(&self, groups: Vec<LocalityGroup<'a>>) -> Vec<LocalityGroup<'a>> {
        groups
            .into_iter()
            .map(|group| self.apply_to_group(group))
            .collect()
    }

    fn apply_to_group<'a>(&self, group: LocalityGroup<'a>) -> LocalityGroup<'a> {
        let mut members = Vec::with_capacity(group.members.len());
        let mut weights: BTreeMap<&NetworkGateway, u32> = BTreeMap::new();
        for mut member in group.members {
            let Some(workload) = member.workload else {
                continue;
            };
            let weight = member.endpoint.load_balancing_weight.unwrap_or(1).max(1);
            let weight = weight.saturating_mul(self.gateways.scale);
            let gateways = self
                .gateways
                .select(workload, |address| self.is_usable(address));
            if self.is_local(&workload.network) || gateways.is_empty() {
                member.endpoint.load_balancing_weight = Some(weight);
                members.push(member);
            } else if is_mutual_tls(&member.endpoint) {
                let share = weight / u32::try_from(gateways.len()).unwrap_or(u32::MAX);
                for gateway in gateways {
                    *weights.entry(gateway).or_default() += share;
                }
            }
        }
        for (gateway, weight) in weights {
            let labels: Labels = [
                (LABEL_NETWORK.to_owned(), gateway.network.to_string()),
                (LABEL_CLUSTER.to_owned(), gateway.cluster_id.to_string()),
            ]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
            members.push(Member {
                workload: None,
                labels: Cow::Owned(labels),
                endpoint: build_gateway_endpoint(gateway, &self.cluster_id, weight.max(1)),
            });
        }
        LocalityGroup {
            weight: (!members.is_empty()).then(|| weight_of(&members)),
            members,
            ..group
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NetworkGateway, scale_of};

    #[test]
    fn weights_are_scaled_to_divide_among_the_gateways() {
        let gateway = |network: &str, address: &str| NetworkGateway {
            network: network.into(),
            cluster_id: "c".into(),
            address: address.into(),
            port: 15443,
        };
        assert_eq!(scale_of(&[]), 1);
        let two = [gateway("n2", "1.1.1.1"), gateway("n2", "1.1.1.2")];
        assert_eq!(scale_of(&two), 2);
        let three = ["1", "2", "3"].map(|address| gateway("n3", address));
        assert_eq!(scale_of(&[two.to_vec(), three.to_vec()].concat()), 6);
    }
}
