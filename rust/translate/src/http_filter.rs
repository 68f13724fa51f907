//! The HTTP filters of a connection manager: the table is the order.
//!
//! Source: istio `pilot/pkg/networking/core/listener_builder.go` `buildHTTPConnectionManager`.

mod istio;
mod stock;

use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType,
};
use navarch_model::Protocol;
use prost_types::Any;

pub(crate) use istio::typed_struct;

use crate::policy::PolicyFacts;

/// Which side of a proxy a listener is on (istio `networking.ListenerClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ListenerClass {
    /// Requests of the workload beside the proxy.
    SidecarOutbound,
    /// Requests to the workload beside the proxy.
    SidecarInbound,
    /// Requests through a gateway.
    Gateway,
}

/// What decides which filters a connection manager has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterContext {
    /// The side.
    pub(crate) class: ListenerClass,
    /// Whether Istio's Envoy build runs there.
    pub(crate) is_istio: bool,
    /// What the port declares.
    pub(crate) protocol: Protocol,
    /// Istio's peer headers stay within the mesh.
    pub(crate) has_peer_headers_in_mesh_only: bool,
    /// Envoy adds no `x-envoy-*` debug headers.
    pub(crate) has_no_debug_headers: bool,
    /// Requests to unknown hosts are resolved by name.
    pub(crate) has_dynamic_dns: bool,
    /// The proxy has no IPv4 address.
    pub(crate) is_ipv6_only: bool,
}

/// What makes a filter, or the filters of policies.
enum Row {
    /// `None` where the filter is absent in a context.
    One(fn(FilterContext) -> Option<HttpFilter>),
    /// Inbound and in gateways only.
    Policies(fn(&PolicyFacts) -> Vec<HttpFilter>),
}

/// First to last.
const ORDER: &[Row] = &[
    // Before all others, so that what they refuse is told with the peer's name.
    Row::One(istio::metadata_exchange),
    // Before tokens are verified: such a policy knows nothing of them, and its authorizer may add one.
    Row::Policies(PolicyFacts::custom_http),
    Row::Policies(PolicyFacts::tokens),
    Row::Policies(PolicyFacts::authorization_http),
    Row::One(stock::grpc_web),
    Row::One(stock::grpc_stats),
    Row::One(istio::alpn),
    // Routes configure these two; without them their settings are refused.
    Row::One(stock::fault),
    Row::One(stock::cors),
    Row::One(stock::dynamic_forward_proxy),
    Row::One(stock::router),
];

/// The filters of a connection manager, in order; with one that resolves the hosts below a wildcard.
pub(crate) fn http_filters(
    context: FilterContext,
    policies: &PolicyFacts,
    dynamic_host: Option<&str>,
) -> Vec<HttpFilter> {
    let mut filters = Vec::with_capacity(ORDER.len() + 1);
    for row in ORDER {
        match row {
            Row::One(build) => filters.extend(build(context)),
            Row::Policies(build) => filters.extend(build(policies)),
        }
    }
    if let Some(host) = dynamic_host {
        let before_router = filters.len().saturating_sub(1);
        filters.insert(before_router, stock::host_resolver(context, host));
    }
    filters
}

/// An HTTP filter of that name and configuration.
pub(crate) fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::Protocol;

    use super::{FilterContext, ListenerClass, PolicyFacts, http_filters};

    fn names(context: FilterContext) -> Vec<String> {
        http_filters(context, &PolicyFacts::default(), None)
            .into_iter()
            .map(|f| f.name.rsplit('.').next().unwrap_or_default().to_owned())
            .collect()
    }

    const OUTBOUND: FilterContext = FilterContext {
        class: ListenerClass::SidecarOutbound,
        is_istio: true,
        protocol: Protocol::Http,
        has_peer_headers_in_mesh_only: false,
        has_no_debug_headers: false,
        has_dynamic_dns: false,
        is_ipv6_only: false,
    };

    #[test]
    fn istio_has_its_own_filters_in_their_places() {
        assert_eq!(
            names(OUTBOUND),
            [
                "metadata_exchange",
                "grpc_stats",
                "alpn",
                "fault",
                "cors",
                "router"
            ]
        );
        let inbound = FilterContext {
            class: ListenerClass::SidecarInbound,
            ..OUTBOUND
        };
        assert_eq!(
            names(inbound),
            ["metadata_exchange", "grpc_stats", "fault", "cors", "router"]
        );
    }

    #[test]
    fn a_stock_envoy_gets_only_what_it_knows() {
        let stock = FilterContext {
            is_istio: false,
            protocol: Protocol::GrpcWeb,
            has_dynamic_dns: true,
            ..OUTBOUND
        };
        assert_eq!(
            names(stock),
            [
                "grpc_web",
                "grpc_stats",
                "fault",
                "cors",
                "dynamic_forward_proxy",
                "router"
            ]
        );
    }
}
