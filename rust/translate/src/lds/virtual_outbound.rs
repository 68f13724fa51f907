//! The listeners of a sidecar that no service asks for: what iptables redirects to, and the HTTP proxy's port.
//!
//! Source: istio `pilot/pkg/networking/core/listener_builder.go` `buildVirtualOutboundListener`, `listener.go` `buildHTTPProxy`.

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::Listener;
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use navarch_envoy::field::envoy::config::listener::v3::listener as field;
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{InterceptionMode, OutboundTrafficPolicyMode, Protocol, Shared};
use navarch_snapshot::ProxyScope;
use prost::Message;
use prost_types::Duration;

use super::facts::{HttpFacts, NetworkFacts};
use super::filter_chain::{ChainMatch, ChainParts, PLAINTEXT_HTTP, write_chain};
use super::hcm::{self, HcmInputs, Routes};
use super::listener_filter::write_http_inspector;
use super::network_filter::{TcpRoute, write_black_hole};
use super::outbound_build::{HANDSHAKE_TIMEOUT, additional_addresses, exact_balance};
use super::{access_log, tcp_routing};
use crate::address::build_address;
use crate::encoded::{Encoded, References};
use crate::http_filter::ListenerClass;
use crate::name;

const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// The route configuration of the HTTP proxy's port.
pub(super) const HTTP_PROXY_ROUTES: &str = "http_proxy";
/// Route, virtual host and configuration of requests that are resolved by name.
const DYNAMIC_DNS: &str = "allow_any_dynamic_dns";
/// Istio's bound on direct responses, which it sets on all its route configurations.
const MAX_DIRECT_RESPONSE_BYTES: u32 = 1024 * 1024;

/// The listener of redirected connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualOutboundInputs {
    pub(super) network: Shared<NetworkFacts>,
    /// Where connections to unknown destinations go.
    pub(super) fallback: Shared<TcpRoute>,
    /// Only where requests to unknown hosts are resolved by name.
    pub(super) http: Option<Shared<HttpFacts>>,
}

/// The listener of clients that talk to the sidecar as to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpProxyInputs {
    pub(super) network: Shared<NetworkFacts>,
    pub(super) http: Shared<HttpFacts>,
    pub(super) port: u32,
}

/// Where a scope sends connections to unknown destinations.
pub(super) fn fallback(scope: &ProxyScope) -> TcpRoute {
    let policy = &scope.outbound_traffic_policy;
    if policy.mode == OutboundTrafficPolicyMode::RegistryOnly {
        return TcpRoute::to_cluster(name::BLACK_HOLE_CLUSTER);
    }
    match &policy.egress_proxy {
        Some(proxy) => TcpRoute::to_cluster(&tcp_routing::destination_cluster(proxy, None, 0)),
        None => TcpRoute::to_cluster(name::PASSTHROUGH_CLUSTER),
    }
}

/// The port of the HTTP proxy's listener, if there is one: the node's word, else the mesh's.
pub(super) fn http_proxy_port(scope: &ProxyScope) -> Option<u32> {
    let own = scope.group.metadata.http_proxy_port.parse().ok();
    Some(own.unwrap_or(scope.mesh_config.proxy_http_port)).filter(|port| *port > 0)
}

/// The listener of redirected connections.
pub(super) fn build(inputs: &VirtualOutboundInputs) -> Encoded<Listener> {
    let network = &inputs.network;
    let is_transparent = network.interception == InterceptionMode::Tproxy;
    let wildcard = network.ip_mode.wildcards()[0];
    let rest = Listener {
        name: VIRTUAL_OUTBOUND.to_owned(),
        address: Some(build_address(wildcard, network.proxy_listen_port)),
        transparent: is_transparent.then_some(true),
        use_original_dst: Some(true),
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: access_log::build_listener(&network.access_log),
        ..Listener::default()
    };
    let template = Template::of(&rest, field::ONEOFS);
    let mut out = Writer::with_capacity(4096);
    let mut listener = template.fill(&mut out);
    let place = listener.at(field::FILTER_CHAINS);
    // Connections to the port itself would come back to it for ever.
    let itself = ChainMatch {
        destination_port: network.proxy_listen_port,
        ..ChainMatch::default()
    };
    let parts = ChainParts {
        name: "virtualOutbound-blackhole",
        conditions: Some(&itself),
        ..ChainParts::default()
    };
    write_chain(field::FILTER_CHAINS, parts, place, write_black_hole);
    if let Some(http) = &inputs.http {
        write_dynamic_dns_chain(network, http, place);
    }
    let parts = ChainParts {
        name: "virtualOutbound-catchall-tcp",
        ..ChainParts::default()
    };
    write_chain(field::FILTER_CHAINS, parts, place, |out| {
        inputs.fallback.write(network, out);
    });
    if inputs.http.is_some() {
        write_http_inspector(listener.at(field::LISTENER_FILTERS));
    }
    listener.finish();
    Encoded::new(VIRTUAL_OUTBOUND.into(), out, References::Nothing)
}

fn write_dynamic_dns_chain(network: &NetworkFacts, http: &HttpFacts, out: &mut Writer) {
    let manager = HcmInputs {
        class: ListenerClass::SidecarOutbound,
        stat_prefix: &name::delimited_stat_name(&format!("outbound_virtualOutbound_{DYNAMIC_DNS}")),
        routes: Routes::Inline(&dynamic_dns_routes().encode_to_vec()),
        protocol: Protocol::Http,
        is_explicit_proxy: false,
        dynamic_host: None,
    };
    let plaintext = ChainMatch {
        application_protocols: PLAINTEXT_HTTP,
        ..ChainMatch::default()
    };
    let parts = ChainParts {
        name: "virtualOutbound-catchall-tcp-http",
        conditions: Some(&plaintext),
        ..ChainParts::default()
    };
    write_chain(field::FILTER_CHAINS, parts, out, |out| {
        hcm::write(network, http, &manager, out);
    });
}

fn dynamic_dns_routes() -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(
            name::ALLOW_ANY_DYNAMIC_DNS_CLUSTER.to_owned(),
        )),
        timeout: Some(Duration::default()),
        // Envoy has its successor, max_stream_duration; Istio still writes this one here.
        max_grpc_timeout: Some(Duration::default()),
        ..RouteAction::default()
    };
    let route = Route {
        name: DYNAMIC_DNS.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(action)),
        ..Route::default()
    };
    RouteConfiguration {
        name: DYNAMIC_DNS.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: DYNAMIC_DNS.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            include_request_attempt_count: true,
            ..VirtualHost::default()
        }],
        validate_clusters: Some(false),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE_BYTES),
        ..RouteConfiguration::default()
    }
}

/// The listener of clients that talk to the sidecar as to a proxy.
pub(super) fn build_http_proxy(inputs: &HttpProxyInputs) -> Encoded<Listener> {
    let localhosts = inputs.network.ip_mode.localhosts();
    let name = format!("{}_{}", localhosts[0], inputs.port);
    let manager = HcmInputs {
        class: ListenerClass::SidecarOutbound,
        stat_prefix: &name::delimited_stat_name(&format!("outbound_{name}")),
        routes: Routes::Named(HTTP_PROXY_ROUTES),
        protocol: Protocol::HttpProxy,
        is_explicit_proxy: true,
        dynamic_host: None,
    };
    let rest = Listener {
        name: name.clone(),
        address: Some(build_address(localhosts[0], inputs.port)),
        additional_addresses: additional_addresses(localhosts, inputs.port),
        traffic_direction: TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(Duration::default()),
        max_connections_to_accept_per_socket_event: Some(1),
        connection_balance_config: exact_balance(inputs.network.has_outbound_exact_balance),
        ..Listener::default()
    };
    let template = Template::of(&rest, field::ONEOFS);
    let mut out = Writer::with_capacity(4096);
    let mut listener = template.fill(&mut out);
    let parts = ChainParts {
        handshake_timeout: Some(HANDSHAKE_TIMEOUT),
        ..ChainParts::default()
    };
    let place = listener.at(field::FILTER_CHAINS);
    write_chain(field::FILTER_CHAINS, parts, place, |out| {
        hcm::write(&inputs.network, &inputs.http, &manager, out);
    });
    listener.finish();
    let references = References::Names(vec![HTTP_PROXY_ROUTES.into()]);
    Encoded::new(name.into(), out, references)
}
