//! What the listener filters find out of a connection.
//!
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/listener_filters/listener_filters>.

use std::net::IpAddr;

use navarch_envoy::envoy::config::listener::v3::listener_filter::ConfigType;
use navarch_envoy::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use navarch_envoy::envoy::config::listener::v3::{
    Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
};
use navarch_envoy::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use navarch_envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use prost::Name;

use crate::destination::Destination;
use crate::outcome::{Stage, Step};
use crate::request::{Protocol, Request};

/// What filter chains are matched against.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) ip: IpAddr,
    pub(crate) port: u32,
    pub(crate) source: Option<IpAddr>,
    /// "" if there was none, or nobody looked.
    pub(crate) server_name: String,
    /// `tls` or `raw_buffer`.
    pub(crate) transport_protocol: &'static str,
    /// By the client's preference.
    pub(crate) application_protocols: Vec<String>,
}

/// Look into the connection as the listener's filters do.
pub(crate) fn inspect(
    listener: &Listener,
    request: &Request,
    destination: &Destination,
) -> (Connection, Step) {
    let mut made = Connection {
        ip: destination.ip,
        port: destination.port,
        source: request.source_address.parse().ok(),
        server_name: String::new(),
        transport_protocol: "raw_buffer",
        application_protocols: Vec::new(),
    };
    let mut notes = Vec::new();
    for filter in &listener.listener_filters {
        let is_off = filter
            .filter_disabled
            .as_ref()
            .is_some_and(|p| is_matched(p, destination.port));
        let is_tls = is_filter::<TlsInspector>(filter);
        let is_http = is_filter::<HttpInspector>(filter);
        if is_off {
            if is_tls || is_http {
                notes.push(format!(
                    "{} is off for port {}",
                    filter.name, destination.port
                ));
            }
        } else if is_tls && request.protocol.is_tls() {
            made.transport_protocol = "tls";
            made.server_name = request.server_name();
            made.application_protocols = request.offered_alpn();
        } else if is_http && made.transport_protocol == "raw_buffer" {
            let found = match request.protocol {
                Protocol::Http => Some("http/1.1"),
                Protocol::Http2 | Protocol::Grpc => Some("h2c"),
                _ => None,
            };
            made.application_protocols.extend(found.map(str::to_owned));
        }
    }
    if request.protocol.is_tls() && made.transport_protocol != "tls" {
        notes.push("no TLS inspector looks: the handshake counts as plain bytes".to_owned());
    }
    let mut found = vec![format!("transport {}", made.transport_protocol)];
    if !made.server_name.is_empty() {
        found.push(format!("server name {}", made.server_name));
    }
    if !made.application_protocols.is_empty() {
        found.push(format!(
            "application protocols {}",
            made.application_protocols.join(", ")
        ));
    }
    let step = Step::new(
        Stage::Detection,
        found.join("; "),
        "as the listener's filters find",
    );
    (made, step.with_notes(notes))
}

fn is_filter<M: Name>(filter: &ListenerFilter) -> bool {
    matches!(&filter.config_type, Some(ConfigType::TypedConfig(any)) if any.type_url == M::type_url())
}

fn is_matched(predicate: &ListenerFilterChainMatchPredicate, port: u32) -> bool {
    match &predicate.rule {
        Some(Rule::OrMatch(set)) => set.rules.iter().any(|rule| is_matched(rule, port)),
        Some(Rule::AndMatch(set)) => set.rules.iter().all(|rule| is_matched(rule, port)),
        Some(Rule::NotMatch(rule)) => !is_matched(rule, port),
        Some(Rule::AnyMatch(is_any)) => *is_any,
        Some(Rule::DestinationPortRange(range)) => {
            i32::try_from(port).is_ok_and(|port| (range.start..range.end).contains(&port))
        }
        None => false,
    }
}
