//! Listeners: what each address and port of a proxy does with connections.
//!
//! The group part ([`listener_inputs`]) is shared by all proxies of a node group: a sidecar's outbound listeners, a
//! router's servers. The own part ([`inbound_listener_inputs`]) is what one sidecar's workload serves.

mod access_log;
mod connection_settings;
mod facts;
mod filter_chain;
mod gateway;
mod gateway_build;
mod hcm;
mod hcm_tail;
mod inbound;
mod inbound_build;
mod inbound_chain;
mod listener_filter;
mod network_filter;
mod outbound;
mod outbound_build;
mod outbound_places;
mod reserved;
mod service_address;
mod tcp_routing;
#[cfg(test)]
mod tests;
mod tls;
mod tracing;
mod virtual_outbound;

use navarch_envoy::envoy::config::listener::v3::Listener;
use navarch_model::{
    Diagnostic, InterceptionMode, OutboundTrafficPolicyMode, Proxy, ProxyKind, Shared,
};
use navarch_snapshot::{MeshSnapshot, ProxyScope};

use facts::{HttpFacts, NetworkFacts};
pub use gateway::GatewayInputs;
pub use inbound::InboundInputs;
pub(crate) use network_filter::network_filter;
pub use outbound::OutboundInputs;
pub use outbound_places::OutboundPlaces;
pub use virtual_outbound::{HttpProxyInputs, VirtualOutboundInputs};

use crate::encoded::Encoded;

/// All that one listener is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenerInputs {
    /// Where iptables redirects outbound connections to.
    VirtualOutbound(VirtualOutboundInputs),
    /// Services on one address and port, as clients of the workload reach them.
    Outbound(OutboundInputs),
    /// The port at which the sidecar is an HTTP proxy.
    HttpProxy(HttpProxyInputs),
    /// What the workload serves.
    Inbound(Box<InboundInputs>),
    /// Servers of a gateway.
    Gateway(GatewayInputs),
}

impl ListenerInputs {
    /// The names of the route configurations that the listener asks for.
    pub fn route_names(&self) -> Vec<&str> {
        match self {
            Self::Outbound(inputs) => inputs.route_names().collect(),
            Self::Gateway(inputs) => inputs.route_names().collect(),
            Self::HttpProxy(_) => vec![virtual_outbound::HTTP_PROXY_ROUTES],
            Self::VirtualOutbound(_) | Self::Inbound(_) => Vec::new(),
        }
    }
}

/// Inputs of the listeners that all proxies of a group share, in the order of the answer.
pub fn listener_inputs(mesh: &MeshSnapshot, scope: &ProxyScope) -> Vec<ListenerInputs> {
    if scope.group.kind == ProxyKind::Router {
        let gateways = gateway::inputs(mesh, scope).into_iter();
        return gateways.map(ListenerInputs::Gateway).collect();
    }
    if scope.mesh_config.proxy_listen_port == 0 {
        return Vec::new();
    }
    let has_dynamic_dns =
        scope.outbound_traffic_policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns;
    let network = Shared::new(NetworkFacts::new(&scope.mesh_config, &scope.group));
    let http = Shared::new(HttpFacts::new(
        &scope.mesh_config,
        &scope.group,
        has_dynamic_dns,
    ));
    let fallback = Shared::new(virtual_outbound::fallback(scope));
    let outbound = outbound::inputs(mesh, scope, (&network, &http, &fallback), None);
    let mut inputs: Vec<_> = outbound.into_iter().map(ListenerInputs::Outbound).collect();
    if let Some(port) = virtual_outbound::http_proxy_port(scope) {
        let (network, http) = (network.clone(), http.clone());
        inputs.push(ListenerInputs::HttpProxy(HttpProxyInputs {
            network,
            http,
            port,
        }));
    }
    if scope.group.interception != InterceptionMode::None {
        inputs.push(ListenerInputs::VirtualOutbound(VirtualOutboundInputs {
            network,
            fallback,
            http: has_dynamic_dns.then_some(http),
        }));
    }
    inputs
}

/// Inputs of the outbound listeners at some places alone, as [`listener_inputs`] has them.
pub fn outbound_listener_inputs(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    places: &OutboundPlaces,
) -> Vec<OutboundInputs> {
    if scope.group.kind == ProxyKind::Router || scope.mesh_config.proxy_listen_port == 0 {
        return Vec::new();
    }
    let has_dynamic_dns =
        scope.outbound_traffic_policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns;
    let (config, group) = (&scope.mesh_config, &scope.group);
    let network = Shared::new(NetworkFacts::new(config, group));
    let http = Shared::new(HttpFacts::new(config, group, has_dynamic_dns));
    let fallback = Shared::new(virtual_outbound::fallback(scope));
    outbound::inputs(mesh, scope, (&network, &http, &fallback), Some(places))
}

/// Inputs of the listeners of one sidecar's workload; routers have none.
pub fn inbound_listener_inputs(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    proxy: &Proxy,
) -> Vec<ListenerInputs> {
    let network = Shared::new(NetworkFacts::new(&scope.mesh_config, &scope.group));
    let inbound = inbound::inputs(mesh, scope, proxy, &network).into_iter();
    inbound
        .map(|inputs| ListenerInputs::Inbound(Box::new(inputs)))
        .collect()
}

/// The listener, and what is to be told of the objects in it.
pub fn build_listener(inputs: &ListenerInputs) -> (Encoded<Listener>, Vec<Diagnostic>) {
    match inputs {
        ListenerInputs::VirtualOutbound(inputs) => (virtual_outbound::build(inputs), Vec::new()),
        ListenerInputs::Outbound(inputs) => outbound_build::build(inputs),
        ListenerInputs::HttpProxy(inputs) => {
            (virtual_outbound::build_http_proxy(inputs), Vec::new())
        }
        ListenerInputs::Inbound(inputs) => inbound_build::build(inputs),
        ListenerInputs::Gateway(inputs) => gateway_build::build(inputs),
    }
}
