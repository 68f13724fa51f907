//! Listener filters: what looks at a connection before a filter chain is chosen.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use navarch_envoy::any::{pack, pack_default};
use navarch_envoy::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};
use navarch_envoy::envoy::config::listener::v3::{
    ListenerFilter, ListenerFilterChainMatchPredicate, listener_filter::ConfigType,
};
use navarch_envoy::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use navarch_envoy::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use navarch_envoy::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
use navarch_envoy::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use navarch_envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use navarch_envoy::envoy::r#type::v3::Int32Range;
use navarch_envoy::field::envoy::config::listener::v3::listener as field;
use navarch_envoy::wire::Writer;
use prost::Message;
use prost_types::Any;

use super::filter_chain::{ChainMatch, PLAINTEXT_HTTP, TLS};

/// The mark by which iptables knows connections that keep the client's address.
const TPROXY_MARK: u32 = 1337;

fn filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}

/// Write what tells SNI and ALPN of TLS connections.
pub(super) fn write_tls_inspector(out: &mut Writer) {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| tls_inspector().encode_to_vec());
    out.encoded(field::LISTENER_FILTERS, &FILTER);
}

fn tls_inspector() -> ListenerFilter {
    // A small first buffer, since most ClientHellos fit and each connection has one.
    let config = TlsInspector {
        initial_read_buffer_size: Some(512),
        ..TlsInspector::default()
    };
    filter("envoy.filters.listener.tls_inspector", pack(&config))
}

/// Write what tells HTTP from the first bytes.
pub(super) fn write_http_inspector(out: &mut Writer) {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| http_inspector().encode_to_vec());
    out.encoded(field::LISTENER_FILTERS, &FILTER);
}

fn http_inspector() -> ListenerFilter {
    filter(
        "envoy.filters.listener.http_inspector",
        pack_default::<HttpInspector>(),
    )
}

/// Write what strips the PROXY protocol's header.
pub(super) fn write_proxy_protocol(out: &mut Writer) {
    let name = "envoy.filters.listener.proxy_protocol";
    write(&filter(name, pack_default::<ProxyProtocol>()), out);
}

/// Write what restores where the connection was going before iptables.
fn write_original_destination(out: &mut Writer) {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let name = "envoy.filters.listener.original_dst";
        filter(name, pack_default::<OriginalDst>()).encode_to_vec()
    });
    out.encoded(field::LISTENER_FILTERS, &FILTER);
}

/// Keeps the client's address towards the application.
fn original_source() -> ListenerFilter {
    let config = OriginalSrc {
        mark: TPROXY_MARK,
        ..OriginalSrc::default()
    };
    filter("envoy.filters.listener.original_src", pack(&config))
}

fn write(filter: &ListenerFilter, out: &mut Writer) {
    out.message(field::LISTENER_FILTERS, |out| out.append_message(filter));
}

#[derive(Clone, Copy, Default)]
struct Needs {
    tls: bool,
    http: bool,
}

/// Write the listener filters of an inbound listener: inspectors are off on ports whose chains need none
/// (istio `pilot/pkg/networking/core/listener_inbound.go` `populateListenerFilters`).
pub(super) fn write_inbound_filters<'a>(
    chains: impl Iterator<Item = &'a ChainMatch>,
    is_bound: bool,
    is_transparent: bool,
    out: &mut Writer,
) {
    if !is_bound {
        write_original_destination(out);
        if is_transparent {
            write(&original_source(), out);
        }
    }
    let needs = needs_by_port(chains);
    if needs.values().any(|needs| needs.tls) {
        let is_default = needs.get(&0).is_some_and(|needs| needs.tls);
        let ports = ports_where(&needs, |port, needs| port != 0 && needs.tls != is_default);
        if ports.is_empty() {
            write_tls_inspector(out);
        } else {
            let those = any_of_ports(&ports);
            let disabled = if is_default { those } else { not(those) };
            write(&disabled_where(disabled, tls_inspector()), out);
        }
    }
    // After the TLS inspector: once that one has told TLS, this one doesn't look.
    if needs.values().any(|needs| needs.http) {
        let ports = ports_where(&needs, |_, needs| !needs.http);
        if ports.is_empty() {
            write_http_inspector(out);
        } else {
            let disabled = any_of_ports(&ports);
            write(&disabled_where(disabled, http_inspector()), out);
        }
    }
}

fn disabled_where(
    condition: ListenerFilterChainMatchPredicate,
    filter: ListenerFilter,
) -> ListenerFilter {
    ListenerFilter {
        filter_disabled: Some(condition),
        ..filter
    }
}

/// What the chains of each destination port need; port 0 stands for every other port.
fn needs_by_port<'a>(chains: impl Iterator<Item = &'a ChainMatch>) -> BTreeMap<u32, Needs> {
    let mut needs: BTreeMap<u32, Needs> = BTreeMap::new();
    for conditions in chains {
        let of_port = needs.entry(conditions.destination_port).or_default();
        of_port.tls |= conditions.transport_protocol == TLS;
        let mut names = conditions.application_protocols.iter();
        of_port.http |= names.any(|name| PLAINTEXT_HTTP.contains(name));
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
    use navarch_envoy::envoy::config::listener::v3::Listener;
    use navarch_envoy::wire::Writer;
    use prost::Message;

    use super::{ChainMatch, write_inbound_filters};

    fn chain(port: u32, transport: &'static str, protocols: &'static [&'static str]) -> ChainMatch {
        ChainMatch {
            destination_port: port,
            transport_protocol: transport,
            application_protocols: protocols,
            ..ChainMatch::default()
        }
    }

    fn summary(chains: &[ChainMatch], is_bound: bool) -> Vec<(String, bool)> {
        let mut out = Writer::default();
        write_inbound_filters(chains.iter(), is_bound, false, &mut out);
        let listener = Listener::decode(out.as_slice()).unwrap();
        listener
            .listener_filters
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
