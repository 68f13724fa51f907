//! Listener filters: what looks at a connection before a filter chain is chosen.

use std::collections::BTreeMap;

use navarch_envoy::any::{pack, pack_default};
use navarch_envoy::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};
use navarch_envoy::envoy::config::listener::v3::{
    FilterChain, ListenerFilter, ListenerFilterChainMatchPredicate, listener_filter::ConfigType,
};
use navarch_envoy::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use navarch_envoy::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use navarch_envoy::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
use navarch_envoy::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use navarch_envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use navarch_envoy::envoy::r#type::v3::Int32Range;
use prost_types::Any;

use super::filter_chain::{PLAINTEXT_HTTP, TLS};

/// The mark by which iptables knows connections that keep the client's address.
const TPROXY_MARK: u32 = 1337;

fn filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}

/// Tells SNI and ALPN of TLS connections.
pub(super) fn tls_inspector() -> ListenerFilter {
    // A small first buffer, since most ClientHellos fit and each connection has one.
    let config = TlsInspector {
        initial_read_buffer_size: Some(512),
        ..TlsInspector::default()
    };
    filter("envoy.filters.listener.tls_inspector", pack(&config))
}

/// Tells HTTP from the first bytes.
pub(super) fn http_inspector() -> ListenerFilter {
    filter(
        "envoy.filters.listener.http_inspector",
        pack_default::<HttpInspector>(),
    )
}

/// Strips the PROXY protocol's header.
pub(super) fn proxy_protocol() -> ListenerFilter {
    filter(
        "envoy.filters.listener.proxy_protocol",
        pack_default::<ProxyProtocol>(),
    )
}

/// Restores where the connection was going before iptables.
pub(super) fn original_destination() -> ListenerFilter {
    filter(
        "envoy.filters.listener.original_dst",
        pack_default::<OriginalDst>(),
    )
}

/// Keeps the client's address towards the application.
fn original_source() -> ListenerFilter {
    let config = OriginalSrc {
        mark: TPROXY_MARK,
        ..OriginalSrc::default()
    };
    filter("envoy.filters.listener.original_src", pack(&config))
}

#[derive(Clone, Copy, Default)]
struct Needs {
    tls: bool,
    http: bool,
}

/// The listener filters of an inbound listener: inspectors are off on ports whose chains need none
/// (istio `pilot/pkg/networking/core/listener_inbound.go` `populateListenerFilters`).
pub(super) fn inbound_filters(
    chains: &[FilterChain],
    is_bound: bool,
    is_transparent: bool,
) -> Vec<ListenerFilter> {
    let mut filters = Vec::with_capacity(4);
    if !is_bound {
        filters.push(original_destination());
        if is_transparent {
            filters.push(original_source());
        }
    }
    let needs = needs_by_port(chains);
    if needs.values().any(|needs| needs.tls) {
        let is_default = needs.get(&0).is_some_and(|needs| needs.tls);
        let ports = ports_where(&needs, |port, needs| port != 0 && needs.tls != is_default);
        let disabled = if ports.is_empty() {
            None
        } else if is_default {
            Some(any_of_ports(&ports))
        } else {
            Some(not(any_of_ports(&ports)))
        };
        filters.push(ListenerFilter {
            filter_disabled: disabled,
            ..tls_inspector()
        });
    }
    // After the TLS inspector: once that one has told TLS, this one doesn't look.
    if needs.values().any(|needs| needs.http) {
        let ports = ports_where(&needs, |_, needs| !needs.http);
        filters.push(ListenerFilter {
            filter_disabled: (!ports.is_empty()).then(|| any_of_ports(&ports)),
            ..http_inspector()
        });
    }
    filters
}

/// What the chains of each destination port need; port 0 stands for every other port.
fn needs_by_port(chains: &[FilterChain]) -> BTreeMap<u32, Needs> {
    let mut needs: BTreeMap<u32, Needs> = BTreeMap::new();
    for chain in chains {
        let Some(conditions) = &chain.filter_chain_match else {
            needs.entry(0).or_default();
            continue;
        };
        let of_port = needs
            .entry(conditions.destination_port.unwrap_or(0))
            .or_default();
        of_port.tls |= conditions.transport_protocol == TLS;
        of_port.http |= conditions
            .application_protocols
            .iter()
            .any(|name| PLAINTEXT_HTTP.contains(&name.as_str()));
    }
    needs
}

fn ports_where(needs: &BTreeMap<u32, Needs>, is_picked: impl Fn(u32, Needs) -> bool) -> Vec<u32> {
    needs
        .iter()
        .filter(|(port, needs)| is_picked(**port, **needs))
        .map(|(port, _)| *port)
        .collect()
}

fn not(predicate: ListenerFilterChainMatchPredicate) -> ListenerFilterChainMatchPredicate {
    ListenerFilterChainMatchPredicate {
        rule: Some(Rule::NotMatch(Box::new(predicate))),
    }
}

/// True on each of the ports, of which there is at least one.
fn any_of_ports(ports: &[u32]) -> ListenerFilterChainMatchPredicate {
    let mut rules: Vec<_> = ports
        .iter()
        .map(|port| {
            let start = i32::try_from(*port).unwrap_or(i32::MAX - 1);
            ListenerFilterChainMatchPredicate {
                rule: Some(Rule::DestinationPortRange(Int32Range {
                    start,
                    end: start + 1,
                })),
            }
        })
        .collect();
    if rules.len() == 1 {
        return rules.remove(0);
    }
    ListenerFilterChainMatchPredicate {
        rule: Some(Rule::OrMatch(MatchSet { rules })),
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch};

    use super::inbound_filters;

    fn chain(port: u32, transport: &str, protocols: &[&str]) -> FilterChain {
        FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                destination_port: (port > 0).then_some(port),
                transport_protocol: transport.to_owned(),
                application_protocols: protocols.iter().map(ToString::to_string).collect(),
                ..FilterChainMatch::default()
            }),
            ..FilterChain::default()
        }
    }

    fn summary(chains: &[FilterChain], is_bound: bool) -> Vec<(String, bool)> {
        inbound_filters(chains, is_bound, false)
            .into_iter()
            .map(|f| {
                (
                    f.name.rsplit('.').next().unwrap().to_owned(),
                    f.filter_disabled.is_some(),
                )
            })
            .collect()
    }

    #[test]
    fn inspectors_are_there_only_where_a_chain_needs_them() {
        let named = |text: &str, disabled: bool| (text.to_owned(), disabled);
        assert_eq!(summary(&[chain(80, "raw_buffer", &[])], true), []);
        assert_eq!(
            summary(
                &[chain(0, "tls", &[]), chain(0, "raw_buffer", &["http/1.1"])],
                false
            ),
            [
                named("original_dst", false),
                named("tls_inspector", false),
                named("http_inspector", false)
            ]
        );
        assert_eq!(
            summary(&[chain(0, "tls", &[]), chain(15006, "", &[])], false),
            [named("original_dst", false), named("tls_inspector", true)]
        );
        assert_eq!(
            summary(&[chain(80, "tls", &[])], true),
            [named("tls_inspector", true)]
        );
    }
}
