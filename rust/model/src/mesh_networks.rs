//! `MeshNetworks`: which endpoints belong to which network, and the gateways between networks.
//!
//! Fields and meanings: istio.io/api `mesh/v1alpha1/network.proto`; precedence: istio
//! `pilot/pkg/serviceregistry/kube/controller/network.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// The networks of a mesh, by name; none means that every address is reached from everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct MeshNetworks {
    /// By name.
    pub networks: BTreeMap<String, Network>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Which endpoints are in it.
    pub endpoints: Vec<NetworkEndpoints>,
    /// How it is reached from other networks.
    pub gateways: Vec<NetworkGatewayConfig>,
}

/// Endpoints by subnet or by registry; exactly one is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkEndpoints {
    /// A subnet such as `10.0.0.0/8`.
    pub from_cidr: Option<String>,
    /// A cluster's id.
    pub from_registry: Option<String>,
}

/// A gateway into a network: a service of its registry, or an address; exactly one is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkGatewayConfig {
    /// A service whose external addresses are the gateway's.
    pub registry_service_name: Option<String>,
    /// An IP address or a host name.
    pub address: Option<String>,
    /// The port for mutual TLS passed through by SNI.
    pub port: u32,
    /// Read for completeness: Istio gives a gateway the locality of the endpoints that it stands for.
    pub locality: String,
}

impl MeshNetworks {
    /// The network of an address in a cluster: the cluster's own before that of a subnet, of several subnets
    /// the widest, of several networks with equal claims the first by name.
    pub fn network_of(&self, cluster_id: &str, address: &str) -> Option<&str> {
        let of_registry = self
            .networks
            .iter()
            .find(|(_, network)| network.has_registry(cluster_id));
        if let Some((name, _)) = of_registry {
            return Some(name);
        }
        let address: IpAddr = address.parse().ok()?;
        let lengths = self.networks.iter().filter_map(|(name, network)| {
            let subnets = network.endpoints.iter();
            let cidrs = subnets.filter_map(|endpoints| endpoints.from_cidr.as_deref());
            let length = cidrs
                .filter_map(|cidr| matching_length(cidr, address))
                .min()?;
            Some((length, name.as_str()))
        });
        lengths.min().map(|(_, name)| name)
    }

    /// The subnets of all networks, each an address and a prefix length: IPv4 first, in numerical order.
    pub fn subnets(&self) -> Vec<(IpAddr, u8)> {
        let endpoints = self
            .networks
            .values()
            .flat_map(|network| &network.endpoints);
        let cidrs = endpoints.filter_map(|endpoints| endpoints.from_cidr.as_deref());
        let mut subnets: Vec<_> = cidrs.filter_map(parse_subnet).collect();
        subnets.sort_unstable();
        subnets
    }
}

impl Network {
    /// Whether all endpoints of a cluster are in it.
    pub fn has_registry(&self, cluster_id: &str) -> bool {
        self.endpoints
            .iter()
            .any(|endpoints| endpoints.from_registry.as_deref() == Some(cluster_id))
    }
}

/// An address with its prefix length; a bare address is a subnet of its own.
fn parse_subnet(cidr: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = cidr
        .split_once('/')
        .map_or((cidr, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(full), |length| length.parse().ok())?;
    (length <= full).then_some((address, length))
}

/// The prefix length of a subnet that has the address.
fn matching_length(cidr: &str, address: IpAddr) -> Option<u32> {
    let (network, length) = cidr.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let (network, address, bits): (u128, u128, u32) = match (network.parse().ok()?, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (
            u128::from(u32::from(network)),
            u128::from(u32::from(address)),
            32,
        ),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.into(), address.into(), 128),
        _ => return None,
    };
    let rest = bits.checked_sub(length)?;
    // A shift by all 128 bits is none for the type: the widest subnet has every address.
    let is_same = (network ^ address).checked_shr(rest).unwrap_or(0) == 0;
    is_same.then_some(length)
}

#[cfg(test)]
mod tests {
    use super::MeshNetworks;

    fn networks(json: &str) -> MeshNetworks {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_cluster_counts_before_subnets_and_the_widest_subnet_before_others() {
        let told = networks(
            r#"{"networks": {
                "n1": {"endpoints": [{"fromCidr": "10.1.2.0/24"}]},
                "n2": {"endpoints": [{"fromCidr": "10.0.0.0/8"}, {"fromCidr": "fd00::/8"}]},
                "n3": {"endpoints": [{"fromRegistry": "east"}]}}}"#,
        );
        assert_eq!(told.network_of("east", "10.1.2.3"), Some("n3"));
        assert_eq!(told.network_of("west", "10.1.2.3"), Some("n2"));
        assert_eq!(told.network_of("west", "fd00::1"), Some("n2"));
        assert_eq!(told.network_of("west", "192.168.0.1"), None);
        assert_eq!(told.network_of("west", "name.example.com"), None);
    }

    #[test]
    fn subnets_are_in_order_whatever_network_they_are_of() {
        let told = networks(
            r#"{"networks": {
                "a": {"endpoints": [{"fromCidr": "FD00::/8"}, {"fromCidr": "10.2.0.0/16"}, {"fromCidr": "10.9.9.9"}]},
                "b": {"endpoints": [{"fromCidr": "10.2.0.0/8"}, {"fromCidr": "9.0.0.0/33"}, {"fromCidr": "x"}]},
                "c": {"endpoints": [{"fromRegistry": "east"}]}}}"#,
        );
        let subnets = told.subnets().into_iter();
        let texts: Vec<String> = subnets.map(|(a, length)| format!("{a}/{length}")).collect();
        assert_eq!(
            texts,
            ["10.2.0.0/8", "10.2.0.0/16", "10.9.9.9/32", "fd00::/8"]
        );
    }

    #[test]
    fn a_subnet_of_everything_has_every_address_of_its_family() {
        let told = networks(r#"{"networks": {"all": {"endpoints": [{"fromCidr": "::/0"}]}}}"#);
        assert_eq!(told.network_of("", "2001:db8::1"), Some("all"));
        assert_eq!(told.network_of("", "10.0.0.1"), None);
        let told = networks(r#"{"networks": {"all": {"endpoints": [{"fromCidr": "0.0.0.0/0"}]}}}"#);
        assert_eq!(told.network_of("", "10.0.0.1"), Some("all"));
    }
}
