//! Addresses in Envoy's form, and the questions that Istio asks of an address.

use std::net::IpAddr;
use std::sync::Arc;

use navarch_envoy::envoy::config::core::v3::{
    Address, CidrRange, Pipe, SocketAddress, address, socket_address,
};
use navarch_model::Proxy;

/// The source address by which iptables knows the proxy's own inbound connections, IPv4.
pub const INBOUND_PASSTHROUGH_BIND_IPV4: &str = "127.0.0.6";
/// The same for IPv6.
pub const INBOUND_PASSTHROUGH_BIND_IPV6: &str = "::6";

/// A TCP address.
pub fn socket_address(address: &str, port: u32) -> SocketAddress {
    SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    }
}

/// `address` and `port` as an endpoint or a listener has them; a `unix://` path becomes a pipe.
pub fn build_address(address: &str, port: u32) -> Address {
    let kind = match address.strip_prefix("unix://") {
        Some(path) => address::Address::Pipe(Pipe {
            path: path.to_owned(),
            ..Pipe::default()
        }),
        None if port == 0 && address.starts_with('/') => address::Address::Pipe(Pipe {
            path: address.to_owned(),
            ..Pipe::default()
        }),
        None => address::Address::SocketAddress(socket_address(address, port)),
    };
    Address {
        address: Some(kind),
    }
}

/// Whether the text is an IP address.
pub fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether the text is an IPv6 address.
pub fn is_ipv6(text: &str) -> bool {
    text.contains(':') && matches!(text.parse(), Ok(IpAddr::V6(_)))
}

/// `address` or `address/length` as a CIDR range; a bare address has its full length.
pub fn cidr_range(text: &str) -> Option<CidrRange> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let full = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let length = length.unwrap_or(full);
    (length <= full).then(|| CidrRange {
        address_prefix: address.to_owned(),
        prefix_len: Some(length),
    })
}

/// The address families that a proxy has (istio `GetIPMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpMode {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both; which comes first decides where only one can be said.
    Dual,
}

impl IpMode {
    /// The mode of a proxy that has these families.
    pub const fn of_families(has_ipv4: bool, has_ipv6: bool) -> Self {
        match (has_ipv4, has_ipv6) {
            (true, true) => Self::Dual,
            (_, false) => Self::V4,
            (false, true) => Self::V6,
        }
    }

    /// The families of some addresses.
    pub fn of(addresses: &[Arc<str>]) -> Self {
        let has_ipv6 = addresses.iter().any(|ip| ip.contains(':'));
        let has_ipv4 = addresses.iter().any(|ip| !ip.contains(':'));
        Self::of_families(has_ipv4, has_ipv6)
    }

    /// The families of a proxy.
    pub fn of_proxy(proxy: &Proxy) -> Self {
        Self::of(&proxy.ip_addresses)
    }

    /// Addresses that stand for all, the first to bind first (istio `getWildcardsAndLocalHost`).
    pub const fn wildcards(self) -> &'static [&'static str] {
        match self {
            Self::V4 => &["0.0.0.0"],
            Self::V6 => &["::"],
            Self::Dual => &["0.0.0.0", "::"],
        }
    }

    /// Addresses of the machine itself, the first to bind first.
    pub const fn localhosts(self) -> &'static [&'static str] {
        match self {
            Self::V4 => &["127.0.0.1"],
            Self::V6 => &["::1"],
            Self::Dual => &["127.0.0.1", "::1"],
        }
    }

    /// Source addresses of the proxy's own inbound connections, the first first.
    pub const fn inbound_passthrough_binds(self) -> &'static [&'static str] {
        match self {
            Self::V4 => &[INBOUND_PASSTHROUGH_BIND_IPV4],
            Self::V6 => &[INBOUND_PASSTHROUGH_BIND_IPV6],
            Self::Dual => &[INBOUND_PASSTHROUGH_BIND_IPV4, INBOUND_PASSTHROUGH_BIND_IPV6],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IpMode, cidr_range};

    #[test]
    fn a_bare_address_is_a_full_range() {
        let length = |text: &str| cidr_range(text).and_then(|range| range.prefix_len);
        assert_eq!(length("10.0.0.1"), Some(32));
        assert_eq!(length("10.0.0.0/8"), Some(8));
        assert_eq!(length("fd00::1"), Some(128));
        assert_eq!(length("10.0.0.0/33"), None);
        assert_eq!(length("name"), None);
    }

    #[test]
    fn families_are_told_from_the_addresses() {
        let of = |ips: &[&str]| IpMode::of(&ips.iter().map(|ip| (*ip).into()).collect::<Vec<_>>());
        assert_eq!(of(&["10.0.0.1"]), IpMode::V4);
        assert_eq!(of(&["fd00::1"]), IpMode::V6);
        assert_eq!(of(&["fd00::1", "10.0.0.1"]), IpMode::Dual);
    }
}
