//! HTTP filters that every Envoy has.

use navarch_envoy::any::{pack, pack_default};
use navarch_envoy::envoy::config::cluster::v3::cluster::DnsLookupFamily;
use navarch_envoy::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use navarch_envoy::envoy::extensions::filters::http::cors::v3::Cors;
use navarch_envoy::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig as DynamicForwardProxy;
use navarch_envoy::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use navarch_envoy::envoy::extensions::filters::http::fault::v3::HttpFault;
use navarch_envoy::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use navarch_envoy::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier;
use navarch_envoy::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use navarch_envoy::envoy::extensions::filters::http::router::v3::Router;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use navarch_model::Protocol;
use prost::Message;

use super::{Constant, FilterContext, ListenerClass, filter};
use crate::name;

/// Istio's limit of names that the catch-all cluster resolves.
const MAX_DYNAMIC_HOSTS: u32 = 1024;

/// Translates gRPC-Web to gRPC.
pub(super) fn grpc_web(context: FilterContext) -> Option<&'static Constant> {
    static FILTER: Constant = Constant::new(|| {
        filter("envoy.filters.http.grpc_web", pack_default::<GrpcWeb>()).encode_to_vec()
    });
    (context.protocol == Protocol::GrpcWeb).then_some(&FILTER)
}

/// Counts gRPC messages.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of filters")]
pub(super) fn grpc_stats(_: FilterContext) -> Option<&'static Constant> {
    static FILTER: Constant = Constant::new(|| {
        let config = GrpcStats {
            emit_filter_state: true,
            per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(false)),
            ..GrpcStats::default()
        };
        filter("envoy.filters.http.grpc_stats", pack(&config)).encode_to_vec()
    });
    Some(&FILTER)
}

/// Injects the faults that routes tell.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of filters")]
pub(super) fn fault(_: FilterContext) -> Option<&'static Constant> {
    static FILTER: Constant = Constant::new(|| {
        filter("envoy.filters.http.fault", pack_default::<HttpFault>()).encode_to_vec()
    });
    Some(&FILTER)
}

/// Answers preflights as routes tell.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of filters")]
pub(super) fn cors(_: FilterContext) -> Option<&'static Constant> {
    static FILTER: Constant =
        Constant::new(|| filter("envoy.filters.http.cors", pack_default::<Cors>()).encode_to_vec());
    Some(&FILTER)
}

/// Resolves the host of requests that no service is known for.
pub(super) fn dynamic_forward_proxy(context: FilterContext) -> Option<HttpFilter> {
    if !context.has_dynamic_dns || context.class != ListenerClass::SidecarOutbound {
        return None;
    }
    Some(forward_proxy(DnsCacheConfig {
        name: name::ALLOW_ANY_DNS_CACHE.to_owned(),
        max_hosts: Some(MAX_DYNAMIC_HOSTS),
        ..dns_cache(context)
    }))
}

/// Resolves the hosts below a wildcard, in the cache of its cluster.
pub(super) fn host_resolver(context: FilterContext, host: &str) -> HttpFilter {
    forward_proxy(DnsCacheConfig {
        name: name::dns_cache(host),
        ..dns_cache(context)
    })
}

fn dns_cache(context: FilterContext) -> DnsCacheConfig {
    // Envoy refuses two caches of one name that differ: this must be what the cluster says.
    let family = if context.is_ipv6_only {
        DnsLookupFamily::V6Only
    } else {
        DnsLookupFamily::V4Only
    };
    DnsCacheConfig {
        dns_lookup_family: family as i32,
        ..DnsCacheConfig::default()
    }
}

fn forward_proxy(cache: DnsCacheConfig) -> HttpFilter {
    let config = DynamicForwardProxy {
        implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(cache)),
        ..DynamicForwardProxy::default()
    };
    filter("envoy.filters.http.dynamic_forward_proxy", pack(&config))
}

/// Forwards; the last.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of filters")]
pub(super) fn router(context: FilterContext) -> Option<&'static Constant> {
    static FILTER: Constant = Constant::new(|| build_router(false));
    static WITHOUT_HEADERS: Constant = Constant::new(|| build_router(true));
    Some(if context.has_no_debug_headers {
        &WITHOUT_HEADERS
    } else {
        &FILTER
    })
}

fn build_router(suppress_envoy_headers: bool) -> Vec<u8> {
    let config = Router {
        suppress_envoy_headers,
        ..Router::default()
    };
    filter("envoy.filters.http.router", pack(&config)).encode_to_vec()
}
