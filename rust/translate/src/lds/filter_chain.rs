//! Filter chains: what a chain matches, when two can't stand beside each other, and how one is written.
//!
//! Listeners of thousands of chains are written as bytes: what chains have in common (TLS contexts, connection managers'
//! settings, filters without any) is encoded once, and each one's own fields stand between.

use std::net::IpAddr;

use navarch_envoy::field::envoy::config::listener::v3::{
    filter_chain as field, filter_chain_match as conditions,
};
use navarch_envoy::field::google::protobuf::u_int32_value;
use navarch_envoy::wire::Writer;
use navarch_model::hash128;
use prost_types::Duration;

use crate::address;
use crate::istio_metadata::write_config_metadata;

/// What the HTTP inspector tells of plaintext HTTP.
pub(super) const PLAINTEXT_HTTP: &[&str] = &["http/1.1", "h2c"];
/// What Istio's clients offer for HTTP over mutual TLS.
pub(super) const MUTUAL_TLS_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What Istio's clients offer for opaque TCP over mutual TLS.
pub(super) const MUTUAL_TLS_TCP: &[&str] = &["istio-peer-exchange", "istio"];
/// All that Istio's clients offer over mutual TLS.
pub(super) const MUTUAL_TLS_ANY: &[&str] = &[
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// Envoy's name of a connection without TLS.
pub(super) const RAW_BUFFER: &str = "raw_buffer";
/// Envoy's name of a connection with TLS.
pub(super) const TLS: &str = "tls";

/// What a filter chain matches (istio `pilot/pkg/networking/core/listener.go` `filterChainOpts`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct ChainMatch {
    /// SNI; `*` among them matches every name.
    pub(super) sni_hosts: Vec<String>,
    /// Addresses or CIDRs.
    pub(super) destination_cidrs: Vec<String>,
    /// 0 matches every port.
    pub(super) destination_port: u32,
    /// As an inspector tells.
    pub(super) application_protocols: &'static [&'static str],
    /// [`RAW_BUFFER`], [`TLS`], or "" for both.
    pub(super) transport_protocol: &'static str,
}

/// All of a filter chain but its filters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChainParts<'a> {
    /// "" where telemetry needs none.
    pub(super) name: &'a str,
    /// `None` matches every connection.
    pub(super) conditions: Option<&'a ChainMatch>,
    /// Kind, namespace and name of the object it comes from.
    pub(super) origin: Option<(&'static str, &'a str, &'a str)>,
    /// Encoded; `None` takes plaintext.
    pub(super) transport_socket: Option<&'a [u8]>,
    /// How long a TLS handshake may take.
    pub(super) handshake_timeout: Option<Duration>,
}

/// Write a filter chain into the field `number` of a listener; `write_filters` writes its filters.
pub(super) fn write_chain(
    number: u32,
    parts: ChainParts<'_>,
    out: &mut Writer,
    write_filters: impl FnOnce(&mut Writer),
) {
    out.long_message(number, |out| {
        if let Some(conditions) = parts.conditions {
            conditions.write(field::FILTER_CHAIN_MATCH, out);
        }
        write_filters(out);
        if let Some((kind, namespace, name)) = parts.origin {
            write_config_metadata(field::METADATA, kind, (namespace, name), out);
        }
        if let Some(socket) = parts.transport_socket {
            out.encoded(field::TRANSPORT_SOCKET, socket);
        }
        if !parts.name.is_empty() {
            out.text(field::NAME, &[parts.name]);
        }
        if let Some(timeout) = parts.handshake_timeout {
            let number = field::TRANSPORT_SOCKET_CONNECT_TIMEOUT;
            out.message(number, |out| out.append_message(&timeout));
        }
    });
}

impl ChainMatch {
    /// Whether it matches every connection.
    pub(super) fn is_match_all(&self) -> bool {
        (self.sni_hosts.is_empty() || self.has_any_sni())
            && self.application_protocols.is_empty()
            && self.transport_protocol.is_empty()
            && self.destination_cidrs.is_empty()
            && self.destination_port == 0
    }

    /// Itself where it matches less than every connection.
    pub(super) fn narrowing(&self) -> Option<&Self> {
        Some(self).filter(|conditions| !conditions.is_match_all())
    }

    fn has_any_sni(&self) -> bool {
        self.sni_hosts.iter().any(|host| host == "*")
    }

    /// A hash of what decides whether another chain is the same to Envoy.
    pub(super) fn conflict_key(&self) -> u128 {
        let mut networks: Vec<(IpAddr, u32)> = self
            .destination_cidrs
            .iter()
            .filter_map(|cidr| masked(cidr))
            .filter(|(ip, _)| !ip.is_unspecified() || ip.is_ipv6())
            .collect();
        networks.sort_unstable();
        networks.dedup();
        let others = (self.transport_protocol, self.application_protocols);
        let names = normal_names(self.sni_hosts.iter().map(String::as_str).collect());
        hash128(&(others, names, networks, self.destination_port))
    }

    /// Write the message into the field `number`.
    fn write(&self, number: u32, out: &mut Writer) {
        let mut names: Vec<&str> = self.sni_hosts.iter().map(String::as_str).collect();
        if self.has_any_sni() {
            names.clear();
        }
        names.sort_unstable();
        let mut cidrs: Vec<&str> = self.destination_cidrs.iter().map(String::as_str).collect();
        cidrs.sort_unstable();
        let ranges = cidrs
            .into_iter()
            .filter_map(address::cidr_range)
            .filter(|range| range.address_prefix != "0.0.0.0");
        out.message(number, |out| {
            for range in ranges {
                out.message(conditions::PREFIX_RANGES, |out| out.append_message(&range));
            }
            if self.destination_port > 0 {
                out.message(conditions::DESTINATION_PORT, |out| {
                    out.varint(u_int32_value::VALUE, self.destination_port.into());
                });
            }
            if !self.transport_protocol.is_empty() {
                out.text(conditions::TRANSPORT_PROTOCOL, &[self.transport_protocol]);
            }
            for name in self.application_protocols {
                out.text(conditions::APPLICATION_PROTOCOLS, &[name]);
            }
            for name in names {
                out.text(conditions::SERVER_NAMES, &[name]);
            }
        });
    }
}

/// What the conflict key of chains that are told apart by SNI alone says of these names.
pub(super) fn sni_conflict_key(names: Vec<&str>) -> u128 {
    let others: (&str, &[&str]) = ("", &[]);
    let networks: Vec<(IpAddr, u32)> = Vec::new();
    hash128(&(others, normal_names(names), networks, 0_u32))
}

/// Each name once, without the one that stands for all.
fn normal_names(mut names: Vec<&str>) -> Vec<&str> {
    names.retain(|name| *name != "*");
    names.sort_unstable();
    names.dedup();
    names
}

/// The network of an address or CIDR, host bits cleared.
fn masked(cidr: &str) -> Option<(IpAddr, u32)> {
    let range = address::cidr_range(cidr)?;
    let length = range.prefix_len?;
    let ip = match range.address_prefix.parse().ok()? {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    };
    Some((ip, length))
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
    use navarch_envoy::field::envoy::config::listener::v3::filter_chain as field;
    use navarch_envoy::wire::Writer;
    use prost::Message;

    use super::{ChainMatch, PLAINTEXT_HTTP, RAW_BUFFER, sni_conflict_key};

    fn message(conditions: &ChainMatch) -> FilterChainMatch {
        let mut out = Writer::default();
        conditions.write(field::FILTER_CHAIN_MATCH, &mut out);
        let chain = FilterChain::decode(out.as_slice()).unwrap();
        assert_eq!(chain.encode_to_vec(), out.as_slice());
        chain.filter_chain_match.unwrap()
    }

    fn chain(sni: &[&str], cidrs: &[&str]) -> ChainMatch {
        ChainMatch {
            sni_hosts: sni.iter().map(ToString::to_string).collect(),
            destination_cidrs: cidrs.iter().map(ToString::to_string).collect(),
            ..ChainMatch::default()
        }
    }

    #[test]
    fn equal_networks_and_reordered_names_conflict() {
        let key = |sni: &[&str], cidrs: &[&str]| chain(sni, cidrs).conflict_key();
        assert_eq!(key(&["a", "b"], &[]), key(&["b", "a", "*"], &[]));
        assert_eq!(key(&[], &["1.2.3.4/8"]), key(&[], &["1.5.6.7/8"]));
        assert_eq!(key(&[], &["0.0.0.0/0"]), key(&[], &[]));
        assert_ne!(key(&[], &["1.2.3.4/8"]), key(&[], &["1.2.3.4/16"]));
        assert_ne!(key(&["a"], &[]), key(&[], &[]));
        assert_eq!(key(&["b", "a"], &[]), sni_conflict_key(vec!["a", "*", "b"]));
    }

    #[test]
    fn only_a_chain_without_conditions_matches_all() {
        assert!(chain(&[], &[]).is_match_all());
        assert!(chain(&["*", "a"], &[]).is_match_all());
        assert!(!chain(&["a"], &[]).is_match_all());
        let http = ChainMatch {
            application_protocols: PLAINTEXT_HTTP,
            transport_protocol: RAW_BUFFER,
            ..ChainMatch::default()
        };
        assert!(!http.is_match_all());
        let http = message(&http);
        assert_eq!(http.transport_protocol, RAW_BUFFER);
        assert_eq!(http.application_protocols, PLAINTEXT_HTTP);
    }

    #[test]
    fn names_and_networks_come_out_sorted() {
        let mut conditions = chain(&["b", "a"], &["10.2.0.0/16", "10.1.0.0/16"]);
        conditions.destination_port = 300;
        let m = message(&conditions);
        assert_eq!(m.destination_port, Some(300));
        assert_eq!(m.server_names, ["a", "b"]);
        assert_eq!(m.prefix_ranges[0].address_prefix, "10.1.0.0");
    }
}
