//! The HTTP filters of a connection manager: the table is the order.
//!
//! Source: istio `pilot/pkg/networking/core/listener_builder.go` `buildHTTPConnectionManager`.

mod istio;
mod stock;

use std::sync::LazyLock;

use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType,
};
use navarch_envoy::field::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as field;
use navarch_envoy::wire::Writer;
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

/// A filter that is always the same, encoded once.
type Constant = LazyLock<Vec<u8>>;

/// What makes a filter, or the filters of policies.
enum Row {
    /// One of a few constants; `None` where the filter is absent in a context.
    Constant(fn(FilterContext) -> Option<&'static Constant>),
    /// Inbound and in gateways only.
    Policies(fn(&PolicyFacts) -> Vec<HttpFilter>),
    /// What resolves the hosts of requests.
    Hosts,
}

/// First to last.
const ORDER: &[Row] = &[
    // Before all others, so that what they refuse is told with the peer's name.
    Row::Constant(istio::metadata_exchange),
    // Before tokens are verified: such a policy knows nothing of them, and its authorizer may add one.
    Row::Policies(PolicyFacts::custom_http),
    Row::Policies(PolicyFacts::tokens),
    Row::Policies(PolicyFacts::authorization_http),
    Row::Constant(stock::grpc_web),
    Row::Constant(stock::grpc_stats),
    Row::Constant(istio::alpn),
    // Routes configure these two; without them their settings are refused.
    Row::Constant(stock::fault),
    Row::Constant(stock::cors),
    Row::Hosts,
    Row::Constant(stock::router),
];

/// Write the filters of a connection manager, in order; with one that resolves the hosts below a wildcard.
pub(crate) fn write_http_filters(
    context: FilterContext,
    policies: &PolicyFacts,
    dynamic_host: Option<&str>,
    out: &mut Writer,
) {
    for row in ORDER {
        match row {
            Row::Constant(find) => {
                if let Some(filter) = find(context) {
                    out.encoded(field::HTTP_FILTERS, filter);
                }
            }
            Row::Policies(build) => write_all(build(policies), out),
            Row::Hosts => {
                write_all(stock::dynamic_forward_proxy(context), out);
                write_all(
                    dynamic_host.map(|host| stock::host_resolver(context, host)),
                    out,
                );
            }
        }
    }
}

fn write_all(filters: impl IntoIterator<Item = HttpFilter>, out: &mut Writer) {
    for filter in filters {
        out.message(field::HTTP_FILTERS, |out| out.append_message(&filter));
    }
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
    use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    use navarch_envoy::wire::Writer;
    use navarch_model::Protocol;
    use prost::Message;

    use super::{FilterContext, ListenerClass, PolicyFacts, write_http_filters};

    fn names(context: FilterContext) -> Vec<String> {
        let mut out = Writer::default();
        write_http_filters(context, &PolicyFacts::default(), None, &mut out);
        let manager = HttpConnectionManager::decode(out.as_slice()).unwrap();
        let filters = manager.http_filters.into_iter();
        filters
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
