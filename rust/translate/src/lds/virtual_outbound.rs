//! The listeners of a sidecar that no service asks for: what iptables redirects to, and the HTTP proxy's port.
//!
//! Source: istio `pilot/pkg/networking/core/listener_builder.go` `buildVirtualOutboundListener`, `listener.go` `buildHTTPProxy`.

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use navarch_model::{InterceptionMode, OutboundTrafficPolicyMode, Protocol, Shared};
use navarch_snapshot::ProxyScope;
use prost_types::Duration;

use super::facts::{HttpFacts, NetworkFacts};
use super::filter_chain::PLAINTEXT_HTTP;
use super::hcm::{self, HcmInputs, Routes};
use super::listener_filter::http_inspector;
use super::network_filter::{self, TcpRoute};
use super::outbound_build::exact_balance;
use super::{access_log, tcp_routing};
use crate::address::build_address;
use crate::http_filter::ListenerClass;
use crate::name;

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
pub(super) fn build(inputs: &VirtualOutboundInputs) -> Listener {
    let network = &inputs.network;
    let mut chains = vec![FilterChain {
        name: "virtualOutbound-blackhole".to_owned(),
        // Connections to the port itself would come back to it for ever.
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(network.proxy_listen_port),
            ..FilterChainMatch::default()
        }),
        filters: vec![network_filter::black_hole()],
        ..FilterChain::default()
    }];
    if let Some(http) = &inputs.http {
        chains.push(dynamic_dns_chain(network, http));
    }
    chains.push(FilterChain {
        name: "virtualOutbound-catchall-tcp".to_owned(),
        filters: inputs.fallback.build(network),
        ..FilterChain::default()
    });
    let is_transparent = network.interception == InterceptionMode::Tproxy;
    Listener {
        name: "virtualOutbound".to_owned(),
        address: Some(build_address(
            network.ip_mode.wildcards()[0],
            network.proxy_listen_port,
        )),
        transparent: is_transparent.then_some(true),
        use_original_dst: Some(true),
        listener_filters: inputs.http.iter().map(|_| http_inspector()).collect(),
        filter_chains: chains,
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: access_log::build_listener(&network.access_log),
        ..Listener::default()
    }
}

fn dynamic_dns_chain(network: &NetworkFacts, http: &HttpFacts) -> FilterChain {
    let manager = HcmInputs {
        class: ListenerClass::SidecarOutbound,
        stat_prefix: name::delimited_stat_name(&format!("outbound_virtualOutbound_{DYNAMIC_DNS}")),
        routes: Routes::Inline(Box::new(dynamic_dns_routes())),
        protocol: Protocol::Http,
        is_explicit_proxy: false,
        dynamic_host: None,
    };
    FilterChain {
        name: "virtualOutbound-catchall-tcp-http".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            application_protocols: PLAINTEXT_HTTP.iter().map(ToString::to_string).collect(),
            ..FilterChainMatch::default()
        }),
        filters: vec![hcm::build(network, http, manager)],
        ..FilterChain::default()
    }
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
pub(super) fn build_http_proxy(inputs: &HttpProxyInputs) -> Listener {
    let localhosts = inputs.network.ip_mode.localhosts();
    let name = format!("{}_{}", localhosts[0], inputs.port);
    let manager = HcmInputs {
        class: ListenerClass::SidecarOutbound,
        stat_prefix: name::delimited_stat_name(&format!("outbound_{name}")),
        routes: Routes::Named(HTTP_PROXY_ROUTES.to_owned()),
        protocol: Protocol::HttpProxy,
        is_explicit_proxy: true,
        dynamic_host: None,
    };
    Listener {
        name,
        address: Some(build_address(localhosts[0], inputs.port)),
        additional_addresses: super::outbound_build::additional_addresses(localhosts, inputs.port),
        filter_chains: vec![FilterChain {
            filters: vec![hcm::build(&inputs.network, &inputs.http, manager)],
            transport_socket_connect_timeout: Some(super::outbound_build::HANDSHAKE_TIMEOUT),
            ..FilterChain::default()
        }],
        traffic_direction: TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(Duration::default()),
        max_connections_to_accept_per_socket_event: Some(1),
        connection_balance_config: exact_balance(inputs.network.has_outbound_exact_balance),
        ..Listener::default()
    }
}
