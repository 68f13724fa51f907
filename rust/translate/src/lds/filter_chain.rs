//! Filter chains as inputs: what a chain matches, and when two can't stand beside each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use navarch_envoy::envoy::config::core::v3::Metadata;
use navarch_envoy::envoy::config::listener::v3::FilterChainMatch;
use prost_types::{Struct, Value, value::Kind};

use crate::address;

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
    /// As an inspector tells.
    pub(super) application_protocols: &'static [&'static str],
    /// [`RAW_BUFFER`], [`TLS`], or "" for both.
    pub(super) transport_protocol: &'static str,
}

/// Equal keys: Envoy can't tell the two chains apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConflictKey {
    transport_protocol: &'static str,
    application_protocols: &'static [&'static str],
    sni_hosts: BTreeSet<String>,
    destination_cidrs: BTreeSet<(IpAddr, u32)>,
}

impl ChainMatch {
    /// Whether it matches every connection.
    pub(super) fn is_match_all(&self) -> bool {
        (self.sni_hosts.is_empty() || self.has_any_sni())
            && self.application_protocols.is_empty()
            && self.transport_protocol.is_empty()
            && self.destination_cidrs.is_empty()
    }

    fn has_any_sni(&self) -> bool {
        self.sni_hosts.iter().any(|host| host == "*")
    }

    /// What decides whether another chain is the same to Envoy.
    pub(super) fn conflict_key(&self) -> ConflictKey {
        ConflictKey {
            transport_protocol: self.transport_protocol,
            application_protocols: self.application_protocols,
            sni_hosts: self
                .sni_hosts
                .iter()
                .filter(|host| *host != "*")
                .cloned()
                .collect(),
            destination_cidrs: self
                .destination_cidrs
                .iter()
                .filter_map(|cidr| masked(cidr))
                .filter(|(ip, _)| !ip.is_unspecified() || ip.is_ipv6())
                .collect(),
        }
    }

    /// The message; `None` matches every connection.
    pub(super) fn build(&self) -> Option<FilterChainMatch> {
        if self.is_match_all() {
            return None;
        }
        let mut server_names = if self.has_any_sni() {
            Vec::new()
        } else {
            self.sni_hosts.clone()
        };
        server_names.sort();
        let mut cidrs = self.destination_cidrs.clone();
        cidrs.sort();
        Some(FilterChainMatch {
            server_names,
            prefix_ranges: cidrs
                .iter()
                .filter_map(|cidr| address::cidr_range(cidr))
                .filter(|range| range.address_prefix != "0.0.0.0")
                .collect(),
            application_protocols: self
                .application_protocols
                .iter()
                .map(ToString::to_string)
                .collect(),
            transport_protocol: self.transport_protocol.to_owned(),
            ..FilterChainMatch::default()
        })
    }
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

/// Metadata that names the object a chain comes from (istio `pilot/pkg/networking/util/util.go` `BuildConfigInfoMetadata`).
pub(super) fn config_metadata(kind: &str, namespace: &str, name: &str) -> Metadata {
    let path = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{kind}/{name}");
    let fields = [(
        "config".to_owned(),
        Value {
            kind: Some(Kind::StringValue(path)),
        },
    )];
    Metadata {
        filter_metadata: [(
            "istio".to_owned(),
            Struct {
                fields: fields.into(),
            },
        )]
        .into(),
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{ChainMatch, PLAINTEXT_HTTP, RAW_BUFFER};

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
        assert_eq!(
            http.build().map(|m| m.transport_protocol),
            Some(RAW_BUFFER.to_owned())
        );
    }

    #[test]
    fn names_and_networks_come_out_sorted() {
        let m = chain(&["b", "a"], &["10.2.0.0/16", "10.1.0.0/16"])
            .build()
            .unwrap();
        assert_eq!(m.server_names, ["a", "b"]);
        assert_eq!(m.prefix_ranges[0].address_prefix, "10.1.0.0");
    }
}
