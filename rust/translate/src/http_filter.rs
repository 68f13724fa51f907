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
    /// The proxy has no IPv6 address.
    pub(crate) is_ipv4_only: bool,
}

type Build = fn(FilterContext) -> Option<HttpFilter>;

/// First to last. A filter that is absent in a context gives `None`.
const ORDER: &[Build] = &[
    // Before all others, so that what they refuse is told with the peer's name.
    istio::metadata_exchange,
    stock::grpc_web,
    stock::grpc_stats,
    istio::alpn,
    // Routes configure these two; without them their settings are refused.
    stock::fault,
    stock::cors,
    stock::dynamic_forward_proxy,
    stock::router,
];

/// The filters of a connection manager, in order.
pub(crate) fn http_filters(context: FilterContext) -> Vec<HttpFilter> {
    ORDER.iter().filter_map(|build| build(context)).collect()
}

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::Protocol;

    use super::{FilterContext, ListenerClass, http_filters};

    fn names(context: FilterContext) -> Vec<String> {
        http_filters(context)
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
        is_ipv4_only: true,
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
