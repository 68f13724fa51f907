//! The filter chain for a connection: criteria in Envoy's order, each keeping the most specific chains only.
//!
//! There is no way back: where the chains that a criterion keeps fail at a later one, the default chain is
//! taken, not a less specific chain.
//! Source: Envoy `source/common/listener_manager/filter_chain_manager_impl.cc` `findFilterChain`;
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch>.

use std::net::IpAddr;

use navarch_envoy::envoy::config::core::v3::CidrRange;
use navarch_envoy::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use navarch_envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use crate::connection::Connection;
use crate::outcome::{End, Other, Stage, Step, closed};

/// How specifically a chain matches by one criterion: `None` not at all, 0 without a requirement.
type Specificity = Option<usize>;

struct Criterion {
    name: &'static str,
    specificity: fn(&FilterChainMatch, &Connection) -> Specificity,
    wanted: fn(&FilterChainMatch) -> String,
}

/// The order is the table.
const CRITERIA: [Criterion; 9] = [
    Criterion {
        name: "destination port",
        specificity: |m, c| {
            m.destination_port
                .map_or(Some(0), |port| (port == c.port).then_some(1))
        },
        wanted: |m| {
            m.destination_port
                .map_or_else(String::new, |port| port.to_string())
        },
    },
    Criterion {
        name: "destination address",
        specificity: |m, c| longest_prefix(&m.prefix_ranges, Some(c.ip)),
        wanted: |m| ranges(&m.prefix_ranges),
    },
    Criterion {
        name: "server name",
        specificity: |m, c| server_name(&m.server_names, &c.server_name),
        wanted: |m| m.server_names.join(", "),
    },
    Criterion {
        name: "transport protocol",
        specificity: |m, c| match m.transport_protocol.as_str() {
            "" => Some(0),
            wanted => (wanted == c.transport_protocol).then_some(1),
        },
        wanted: |m| m.transport_protocol.clone(),
    },
    Criterion {
        name: "application protocol",
        specificity: application_protocol,
        wanted: |m| m.application_protocols.join(", "),
    },
    Criterion {
        name: "direct source address",
        specificity: |m, c| longest_prefix(&m.direct_source_prefix_ranges, c.source),
        wanted: |m| ranges(&m.direct_source_prefix_ranges),
    },
    Criterion {
        name: "source type",
        specificity: source_type,
        wanted: |m| m.source_type().as_str_name().to_owned(),
    },
    Criterion {
        name: "source address",
        specificity: |m, c| longest_prefix(&m.source_prefix_ranges, c.source),
        wanted: |m| ranges(&m.source_prefix_ranges),
    },
    Criterion {
        name: "source port",
        // Clients' ports are any: no request here comes from a certain one.
        specificity: |m, _| m.source_ports.is_empty().then_some(0),
        wanted: |m| format!("{:?}", m.source_ports),
    },
];

/// What the criteria leave of a listener's chains.
#[derive(Default)]
struct Narrowed {
    kept: Vec<(usize, FilterChainMatch)>,
    others: Vec<(usize, String)>,
    /// What the kept ones match by.
    reasons: Vec<String>,
}

/// The chain, and the step that tells of it.
pub(crate) fn choose(
    listener: Listener,
    connection: &Connection,
) -> Result<(FilterChain, Step), End> {
    let narrowed = narrow(&listener.filter_chains, connection);
    let name = |at: usize| chain_name(&listener.filter_chains[at], at);
    let others = narrowed.others.into_iter();
    let others: Vec<Other> = others.map(|(at, why)| Other::new(name(at), why)).collect();
    if let Some((at, _)) = narrowed.kept.first() {
        let why = match narrowed.reasons.join("; ") {
            none if none.is_empty() => "it takes every connection".to_owned(),
            reasons => reasons,
        };
        let step = Step::new(Stage::FilterChain, name(*at), why).with_others(others);
        let mut chains = listener.filter_chains;
        return Ok((chains.swap_remove(*at), step));
    }
    let Some(chain) = listener.default_filter_chain else {
        let tried = others.iter().map(|o| format!("{} ({})", o.name, o.why));
        let tried = tried.collect::<Vec<_>>().join("; ");
        let why = format!("no filter chain of {} matches: {tried}", listener.name);
        return Err(closed(why));
    };
    let named = match chain.name.as_str() {
        "" => "default filter chain",
        name => name,
    };
    let why = "the default: no other chain matches";
    let step = Step::new(Stage::FilterChain, named, why).with_others(others);
    Ok((chain, step))
}

fn narrow(chains: &[FilterChain], connection: &Connection) -> Narrowed {
    let match_of = |chain: &FilterChain| chain.filter_chain_match.clone().unwrap_or_default();
    let mut made = Narrowed {
        kept: chains.iter().map(match_of).enumerate().collect(),
        ..Narrowed::default()
    };
    for criterion in &CRITERIA {
        let kept = std::mem::take(&mut made.kept).into_iter();
        let scored = kept.map(|(at, wanted)| {
            let score = (criterion.specificity)(&wanted, connection);
            (at, wanted, score)
        });
        let scored: Vec<_> = scored.collect();
        let best = scored.iter().filter_map(|(.., score)| *score).max();
        for (at, wanted, score) in scored {
            if score.is_some() && score == best {
                made.kept.push((at, wanted));
            } else {
                let what = (criterion.wanted)(&wanted);
                made.others
                    .push((at, rejection(criterion.name, score, &what)));
            }
        }
        if best.is_some_and(|best| best > 0) {
            let what = (criterion.wanted)(&made.kept[0].1);
            made.reasons.push(format!("{} {what}", criterion.name));
        }
    }
    made.others.sort();
    made
}

fn rejection(criterion: &str, score: Specificity, wanted: &str) -> String {
    match score {
        None => format!("{criterion} is not {wanted}"),
        Some(0) => format!("asks for no {criterion}, another chain does"),
        Some(_) => format!("{criterion} {wanted} is less specific than another chain's"),
    }
}

/// A chain's place and name; names need not be unique.
fn chain_name(chain: &FilterChain, at: usize) -> String {
    match chain.name.as_str() {
        "" => format!("chain {at}"),
        name => format!("chain {at} ({name})"),
    }
}

fn ranges(ranges: &[CidrRange]) -> String {
    let written = |r: &CidrRange| format!("{}/{}", r.address_prefix, r.prefix_len.unwrap_or(0));
    ranges.iter().map(written).collect::<Vec<_>>().join(", ")
}

/// One more than the longest matching prefix, so that `0.0.0.0/0` is more than no requirement.
fn longest_prefix(ranges: &[CidrRange], ip: Option<IpAddr>) -> Specificity {
    if ranges.is_empty() {
        return Some(0);
    }
    let matching = ranges
        .iter()
        .filter(|range| ip.is_some_and(|ip| is_in(range, ip)));
    matching
        .map(|range| range.prefix_len.unwrap_or(0) as usize + 1)
        .max()
}

/// Whether an address is in a range.
pub(crate) fn is_in(range: &CidrRange, ip: IpAddr) -> bool {
    let length = range.prefix_len.unwrap_or(0);
    match (range.address_prefix.parse::<IpAddr>(), ip) {
        (Ok(IpAddr::V4(net)), IpAddr::V4(ip)) => {
            let shift = 32_u32.saturating_sub(length);
            u32::from(net).checked_shr(shift).unwrap_or(0)
                == u32::from(ip).checked_shr(shift).unwrap_or(0)
        }
        (Ok(IpAddr::V6(net)), IpAddr::V6(ip)) => {
            let shift = 128_u32.saturating_sub(length);
            u128::from(net).checked_shr(shift).unwrap_or(0)
                == u128::from(ip).checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

/// Exact names before wildcards, longer wildcards before shorter.
fn server_name(wanted: &[String], name: &str) -> Specificity {
    if wanted.is_empty() {
        return Some(0);
    }
    let specificity = |wanted: &String| {
        if let Some(suffix) = wanted.strip_prefix('*') {
            let is_below = name.len() > suffix.len() && name.ends_with(suffix);
            return is_below.then_some(suffix.len() + 1);
        }
        (!name.is_empty() && wanted == name).then_some(usize::MAX)
    };
    wanted.iter().filter_map(specificity).max()
}

/// The client's first preference that a chain asks for.
fn application_protocol(m: &FilterChainMatch, connection: &Connection) -> Specificity {
    if m.application_protocols.is_empty() {
        return Some(0);
    }
    let offered = &connection.application_protocols;
    let first = offered
        .iter()
        .position(|p| m.application_protocols.contains(p))?;
    Some(offered.len() - first)
}

fn source_type(m: &FilterChainMatch, connection: &Connection) -> Specificity {
    let is_local = connection
        .source
        .is_some_and(|ip| ip.is_loopback() || ip == connection.ip);
    match m.source_type() {
        ConnectionSourceType::Any => Some(0),
        ConnectionSourceType::SameIpOrLoopback => is_local.then_some(1),
        ConnectionSourceType::External => (!is_local).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use navarch_envoy::envoy::config::core::v3::CidrRange;
    use navarch_envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

    use super::choose;
    use crate::connection::Connection;

    fn listener() -> Listener {
        let range = |address: &str, length| CidrRange {
            address_prefix: address.to_owned(),
            prefix_len: Some(length),
        };
        let names = |name: &str| vec![name.to_owned()];
        let chain = |name: &str, change: &dyn Fn(&mut FilterChainMatch)| {
            let mut wanted = FilterChainMatch::default();
            change(&mut wanted);
            FilterChain {
                name: name.to_owned(),
                filter_chain_match: Some(wanted),
                ..FilterChain::default()
            }
        };
        let filter_chains = vec![
            chain("any", &|_| {}),
            chain("port", &|m| {
                m.destination_port = Some(80);
                m.server_names = names("a.b");
            }),
            chain("net", &|m| m.prefix_ranges = vec![range("10.0.0.0", 8)]),
            chain("host", &|m| m.prefix_ranges = vec![range("10.0.0.1", 32)]),
            chain("wild", &|m| m.server_names = names("*.b")),
            chain("exact", &|m| m.server_names = names("x.b")),
            chain("h2", &|m| m.application_protocols = names("h2")),
            chain("http", &|m| m.application_protocols = names("http/1.1")),
        ];
        Listener {
            filter_chains,
            ..Listener::default()
        }
    }

    fn connection(ip: &str, port: u32, server_name: &str, alpn: &[&str]) -> Connection {
        Connection {
            ip: ip.parse::<IpAddr>().unwrap(),
            port,
            source: None,
            server_name: server_name.to_owned(),
            transport_protocol: "tls",
            application_protocols: alpn.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn criteria_narrow_in_envoys_order() {
        for (connection, wanted) in [
            (connection("192.0.2.1", 1, "", &[]), "any"),
            (connection("10.0.0.2", 1, "x.b", &["h2"]), "net"),
            (connection("10.0.0.1", 1, "", &[]), "host"),
            (connection("192.0.2.1", 1, "x.b", &["h2"]), "exact"),
            (connection("192.0.2.1", 1, "y.x.b", &[]), "wild"),
            (connection("192.0.2.1", 1, "", &["http/1.1", "h2"]), "http"),
            (connection("192.0.2.1", 1, "", &["h2", "http/1.1"]), "h2"),
            (connection("192.0.2.1", 80, "a.b", &[]), "port"),
        ] {
            assert_eq!(choose(listener(), &connection).unwrap().0.name, wanted);
        }
    }

    #[test]
    fn there_is_no_way_back_from_a_more_specific_chain() {
        // Port 80 has a chain, if for another server name: the chains without a port are out.
        let refused = connection("192.0.2.1", 80, "x.b", &[]);
        assert!(choose(listener(), &refused).is_err());
        let default = Listener {
            default_filter_chain: Some(FilterChain::default()),
            ..listener()
        };
        assert_eq!(
            choose(default, &refused).unwrap().1.chosen,
            "default filter chain"
        );
    }
}
