//! The HTTP connection manager, with Istio's defaults.
//!
//! Sources: istio `pilot/pkg/networking/core/listener_builder.go` `buildHTTPConnectionManager`, `listener_inbound.go`,
//! `gateway.go`, `pilot/pkg/networking/util/proxy_headers.go`.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use navarch_envoy::any::{pack, pack_default};
use navarch_envoy::envoy::config::core::v3::http1_protocol_options::{
    HeaderKeyFormat, header_key_format::HeaderFormat,
};
use navarch_envoy::envoy::config::core::v3::{
    CidrRange, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions, TypedExtensionConfig,
};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, InternalAddressConfig, PathWithEscapedSlashesAction, ServerHeaderTransformation,
    SetCurrentClientCertDetails, UpgradeConfig,
};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, RequestIdExtension,
};
use navarch_envoy::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use navarch_envoy::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use navarch_envoy::field::envoy::extensions::filters::network::http_connection_manager::v3::{
    http_connection_manager as field, rds,
};
use navarch_envoy::wire::Writer;
use navarch_model::{Protocol, ProxyHeaders};
use prost::Message;
use prost_types::Duration;

use super::facts::{HttpFacts, NetworkFacts, duration};
use super::hcm_tail::TailKey;
use super::network_filter::write_filter;
use super::{access_log, connection_settings, tracing};
use crate::address::IpMode;
use crate::config_source;
use crate::http_filter::{FilterContext, ListenerClass, write_http_filters};

/// The `server` header that Istio sets where it answers for a workload or gateway.
const SERVER_NAME: &str = "istio-envoy";

/// Where a connection manager has its routes from.
pub(super) enum Routes<'a> {
    /// A route configuration of that name.
    Named(&'a str),
    /// Its own, encoded.
    Inline(&'a [u8]),
}

/// What makes one connection manager differ from another.
pub(super) struct HcmInputs<'a> {
    pub(super) class: ListenerClass,
    pub(super) stat_prefix: &'a str,
    pub(super) routes: Routes<'a>,
    pub(super) protocol: Protocol,
    /// Clients send absolute URLs, as to a proxy.
    pub(super) is_explicit_proxy: bool,
    /// The wildcard host whose requests are resolved one by one, in the cache of its cluster.
    pub(super) dynamic_host: Option<Arc<str>>,
}

/// Write the network filter into a filter chain; `network` and `http` are facts of the same group.
///
/// Name and routes come first among the fields that are set, and all others are the same for many listeners.
pub(super) fn write(
    network: &NetworkFacts,
    http: &HttpFacts,
    inputs: &HcmInputs<'_>,
    out: &mut Writer,
) {
    static ADS: LazyLock<Vec<u8>> = LazyLock::new(|| config_source::ads().encode_to_vec());
    let key = TailKey {
        class: inputs.class,
        is_http2: inputs.protocol.is_http2(),
        is_grpc_web: inputs.protocol == Protocol::GrpcWeb,
        is_explicit_proxy: inputs.is_explicit_proxy,
        dynamic_host: inputs.dynamic_host.clone(),
    };
    let tail = http
        .tails
        .resolve(key, || encode_tail(network, http, inputs));
    let name = "envoy.filters.network.http_connection_manager";
    write_filter::<HttpConnectionManager>(name, out, |out| {
        out.text(field::STAT_PREFIX, &[inputs.stat_prefix]);
        match inputs.routes {
            Routes::Named(name) => out.message(field::RDS, |out| {
                out.encoded(rds::CONFIG_SOURCE, &ADS);
                out.text(rds::ROUTE_CONFIG_NAME, &[name]);
            }),
            Routes::Inline(routes) => out.encoded(field::ROUTE_CONFIG, routes),
        }
        out.append(&tail);
    });
}

/// Everything but the name and the routes: first filters and tracing, whose numbers are the next.
fn encode_tail(network: &NetworkFacts, http: &HttpFacts, inputs: &HcmInputs<'_>) -> Writer {
    let unset = ProxyHeaders::default();
    let headers = http.proxy_config.proxy_headers.as_ref().unwrap_or(&unset);
    let context = context(network, http, headers, inputs);
    let mut out = Writer::with_capacity(2048);
    let host = inputs.dynamic_host.as_deref();
    write_http_filters(context, &http.policies, host, &mut out);
    tracing::write(http, &mut out);
    out.append_message(&build_settings(network, http, headers, inputs));
    out
}

/// Everything but name, routes, filters and tracing.
fn build_settings(
    network: &NetworkFacts,
    http: &HttpFacts,
    headers: &ProxyHeaders,
    inputs: &HcmInputs<'_>,
) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager {
        access_log: access_log::build_http(&network.access_log),
        append_x_forwarded_port: is_enabled(headers.x_forwarded_port.as_ref()),
        generate_request_id: is_disabled(headers.request_id.as_ref()).then_some(false),
        proxy_100_continue: true,
        stream_idle_timeout: Some(Duration::default()),
        use_remote_address: Some(inputs.class == ListenerClass::Gateway),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        common_http_protocol_options: network.idle_timeout.map(|idle| HttpProtocolOptions {
            idle_timeout: Some(duration(idle)),
            ..HttpProtocolOptions::default()
        }),
        http_protocol_options: http1_options(http, headers, inputs),
        request_id_extension: Some(request_id()),
        ..HttpConnectionManager::default()
    };
    normalize(&mut manager, &http.path_normalization);
    identify(&mut manager, headers, inputs.class);
    match inputs.class {
        ListenerClass::SidecarOutbound => {}
        ListenerClass::SidecarInbound => {
            forward_inbound(&mut manager, headers);
            if inputs.protocol.is_http2() {
                manager.http2_protocol_options = Some(Http2ProtocolOptions::default());
            }
        }
        ListenerClass::Gateway => forward_gateway(&mut manager, http),
    }
    connection_settings::apply(
        &mut manager,
        http.connection_settings.as_ref(),
        network.kind,
    );
    manager
}

fn context(
    network: &NetworkFacts,
    http: &HttpFacts,
    headers: &ProxyHeaders,
    inputs: &HcmInputs<'_>,
) -> FilterContext {
    FilterContext {
        class: inputs.class,
        is_istio: network.is_istio,
        protocol: inputs.protocol,
        has_peer_headers_in_mesh_only: !inputs.is_explicit_proxy
            && headers
                .metadata_exchange_headers
                .as_ref()
                .is_some_and(|settings| settings.mode == "IN_MESH"),
        has_no_debug_headers: is_disabled(headers.envoy_debug_headers.as_ref()),
        has_dynamic_dns: http.has_dynamic_dns,
        is_ipv6_only: network.ip_mode == IpMode::V6,
    }
}

fn is_disabled(switch: Option<&navarch_model::Disabled>) -> bool {
    switch.is_some_and(|switch| switch.disabled == Some(true))
}

fn is_enabled(switch: Option<&navarch_model::Enabled>) -> bool {
    switch.is_some_and(|switch| switch.enabled == Some(true))
}

fn request_id() -> RequestIdExtension {
    RequestIdExtension {
        typed_config: Some(pack(&UuidRequestIdConfig {
            use_request_id_for_trace_sampling: Some(true),
            ..UuidRequestIdConfig::default()
        })),
    }
}

fn http1_options(
    http: &HttpFacts,
    headers: &ProxyHeaders,
    inputs: &HcmInputs<'_>,
) -> Option<Http1ProtocolOptions> {
    let keeps_case = headers.preserve_http1_header_case == Some(true);
    let is_needed = inputs.class == ListenerClass::Gateway
        || inputs.is_explicit_proxy
        || http.has_http10
        || keeps_case;
    is_needed.then(|| Http1ProtocolOptions {
        allow_absolute_url: inputs.is_explicit_proxy.then_some(true),
        accept_http_10: http.has_http10,
        header_key_format: keeps_case.then(preserve_case),
        ..Http1ProtocolOptions::default()
    })
}

fn preserve_case() -> HeaderKeyFormat {
    HeaderKeyFormat {
        header_format: Some(HeaderFormat::StatefulFormatter(TypedExtensionConfig {
            name: "preserve_case".to_owned(),
            typed_config: Some(pack_default::<PreserveCaseFormatterConfig>()),
        })),
    }
}

fn normalize(manager: &mut HttpConnectionManager, normalization: &str) {
    manager.normalize_path = Some(normalization != "NONE");
    manager.merge_slashes = matches!(normalization, "MERGE_SLASHES" | "DECODE_AND_MERGE_SLASHES");
    let action = if normalization == "DECODE_AND_MERGE_SLASHES" {
        PathWithEscapedSlashesAction::UnescapeAndForward
    } else {
        PathWithEscapedSlashesAction::KeepUnchanged
    };
    manager.path_with_escaped_slashes_action = action as i32;
}

/// From where headers of requests are trusted (istio `MeshNetworksToEnvoyInternalAddressConfig`): without it Envoy, which
/// takes the address of the connection for the client's here, trusts nobody.
fn internal_addresses(subnets: &[(IpAddr, u8)]) -> Option<InternalAddressConfig> {
    let range = |(address, length): &(IpAddr, u8)| CidrRange {
        address_prefix: address.to_string(),
        prefix_len: Some(u32::from(*length)),
    };
    (!subnets.is_empty()).then(|| InternalAddressConfig {
        cidr_ranges: subnets.iter().map(range).collect(),
        ..InternalAddressConfig::default()
    })
}

/// The `server` header; towards its own workload a sidecar keeps Envoy's default.
fn identify(manager: &mut HttpConnectionManager, headers: &ProxyHeaders, class: ListenerClass) {
    if class != ListenerClass::SidecarOutbound {
        SERVER_NAME.clone_into(&mut manager.server_name);
    }
    let Some(server) = &headers.server else {
        return;
    };
    if server.disabled == Some(true) {
        manager.server_name.clear();
        manager.server_header_transformation = ServerHeaderTransformation::PassThrough as i32;
    } else if !server.value.is_empty() {
        manager.server_name.clone_from(&server.value);
    }
}

fn forward_inbound(manager: &mut HttpConnectionManager, headers: &ProxyHeaders) {
    let details = headers.forwarded_client_cert.as_deref().unwrap_or_default();
    manager.forward_client_cert_details =
        forward_details(details).unwrap_or(ForwardClientCertDetails::AppendForward) as i32;
    let parts = headers
        .set_current_client_cert_details
        .clone()
        .unwrap_or_default();
    manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
        subject: Some(parts.subject.unwrap_or(true)),
        uri: parts.uri.unwrap_or(true),
        dns: parts.dns.unwrap_or(true),
        cert: parts.cert.unwrap_or(false),
        chain: parts.chain.unwrap_or(false),
    });
}

fn forward_gateway(manager: &mut HttpConnectionManager, http: &HttpFacts) {
    let topology = http
        .proxy_config
        .gateway_topology
        .clone()
        .unwrap_or_default();
    let details = forward_details(&topology.forward_client_cert_details)
        .unwrap_or(ForwardClientCertDetails::SanitizeSet);
    manager.internal_address_config = internal_addresses(&http.internal_subnets);
    manager.xff_num_trusted_hops = topology.num_trusted_proxies;
    manager.forward_client_cert_details = details as i32;
    // Envoy refuses the parts where it sets nothing.
    if matches!(
        details,
        ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
    ) {
        manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
            subject: Some(true),
            cert: true,
            dns: true,
            uri: true,
            ..SetCurrentClientCertDetails::default()
        });
    }
}

/// Istio's name of what happens to the client certificate's header; `None` where it is left open.
fn forward_details(name: &str) -> Option<ForwardClientCertDetails> {
    Some(match name {
        "SANITIZE" => ForwardClientCertDetails::Sanitize,
        "FORWARD_ONLY" => ForwardClientCertDetails::ForwardOnly,
        "APPEND_FORWARD" => ForwardClientCertDetails::AppendForward,
        "SANITIZE_SET" => ForwardClientCertDetails::SanitizeSet,
        "ALWAYS_FORWARD_ONLY" => ForwardClientCertDetails::AlwaysForwardOnly,
        _ => return None,
    })
}
