//! Filters that ask an external authorizer.
//!
//! Source: istio `pilot/pkg/security/authz/builder/extauthz.go`.

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use navarch_envoy::envoy::config::core::v3::http_uri::HttpUpstreamType;
use navarch_envoy::envoy::config::core::v3::{ApiVersion, GrpcService, HeaderValue, HttpUri};
use navarch_envoy::envoy::config::listener::v3::Filter;
use navarch_envoy::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use navarch_envoy::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
use navarch_envoy::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as TcpExtAuthz;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use navarch_envoy::envoy::r#type::matcher::v3::{ListStringMatcher, MetadataMatcher};
use navarch_envoy::envoy::r#type::v3::HttpStatus;
use navarch_model::{Authorizer, HttpAuthorizer, Span};
use prost_types::Duration;

use super::authorizer::{AuthorizerSettings, FoundAuthorizer};
use super::matcher;
use super::rbac::{CUSTOM_PREFIX, HTTP_RBAC, TCP_RBAC};
use crate::http_filter::filter;
use crate::lds::network_filter;
use crate::provider::ProviderCluster;

/// How long an authorizer may take that says nothing of it.
const DEFAULT_TIMEOUT: Span = Span::from_seconds(600);
/// Where the RBAC filter before it leaves the name of the policy that a request fits.
const POLICY_KEY: &str = "istio_ext_authz_shadow_effective_policy_id";
const STAT_PREFIX: &str = "tcp.";

/// The filter of requests.
pub(super) fn http(found: &FoundAuthorizer, provider: &str) -> HttpFilter {
    let common = found.common();
    let (services, allowed_headers) = match &found.settings {
        AuthorizerSettings::Grpc(settings) => {
            (Services::GrpcService(grpc_service(found, settings)), None)
        }
        AuthorizerSettings::Http(settings) => (
            Services::HttpService(http_service(&found.place, settings)),
            checked_headers(settings),
        ),
    };
    let config = ExtAuthz {
        transport_api_version: ApiVersion::V3 as i32,
        failure_mode_allow: common.fail_open,
        status_on_error: found.status_on_error().map(|status| HttpStatus {
            code: status as i32,
        }),
        with_request_body: common.include_request_body_in_check.as_ref().map(|body| {
            BufferSettings {
                max_request_bytes: body.max_request_bytes,
                allow_partial_message: body.allow_partial_message,
                pack_as_bytes: body.pack_as_bytes,
            }
        }),
        filter_enabled_metadata: Some(fitting(HTTP_RBAC, provider)),
        allowed_headers,
        services: Some(services),
        ..ExtAuthz::default()
    };
    filter("envoy.filters.http.ext_authz", pack(&config))
}

/// The filter of connections; `None` for an authorizer that is asked over HTTP.
pub(super) fn tcp(found: &FoundAuthorizer, provider: &str) -> Option<Filter> {
    let AuthorizerSettings::Grpc(settings) = &found.settings else {
        return None;
    };
    let config = TcpExtAuthz {
        stat_prefix: STAT_PREFIX.to_owned(),
        grpc_service: Some(grpc_service(found, settings)),
        failure_mode_allow: settings.fail_open,
        transport_api_version: ApiVersion::V3 as i32,
        filter_enabled_metadata: Some(fitting(TCP_RBAC, provider)),
        ..TcpExtAuthz::default()
    };
    Some(network_filter(
        "envoy.filters.network.ext_authz",
        pack(&config),
    ))
}

/// What the RBAC filter found that a policy of the provider fits.
fn fitting(filter: &str, provider: &str) -> MetadataMatcher {
    let policy = matcher::prefix(&format!("{CUSTOM_PREFIX}{provider}"));
    matcher::metadata(filter, [POLICY_KEY], matcher::text(policy))
}

fn timeout(settings: &Authorizer) -> Duration {
    let span = settings.timeout.unwrap_or(DEFAULT_TIMEOUT);
    Duration {
        seconds: span.seconds,
        nanos: span.nanos,
    }
}

fn grpc_service(found: &FoundAuthorizer, settings: &Authorizer) -> GrpcService {
    GrpcService {
        timeout: Some(timeout(settings)),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: found.place.cluster.clone(),
            // A cluster's name has characters that no authority may have.
            authority: found.place.host.clone(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}

fn http_service(place: &ProviderCluster, settings: &HttpAuthorizer) -> HttpService {
    let to_add = &settings.include_additional_headers_in_check;
    let headers_to_add: Vec<HeaderValue> = to_add
        .iter()
        .map(|(key, value)| HeaderValue {
            key: key.clone(),
            value: value.clone(),
            ..HeaderValue::default()
        })
        .collect();
    let response = AuthorizationResponse {
        allowed_upstream_headers: header_names(&settings.headers_to_upstream_on_allow),
        allowed_client_headers: header_names(&settings.headers_to_downstream_on_deny),
        allowed_client_headers_on_success: header_names(&settings.headers_to_downstream_on_allow),
        ..AuthorizationResponse::default()
    };
    HttpService {
        server_uri: Some(HttpUri {
            uri: format!("http://{}", place.host),
            timeout: Some(timeout(&settings.common)),
            http_upstream_type: Some(HttpUpstreamType::Cluster(place.cluster.clone())),
        }),
        path_prefix: settings.path_prefix.clone(),
        authorization_request: (!headers_to_add.is_empty()).then(|| AuthorizationRequest {
            headers_to_add,
            ..AuthorizationRequest::default()
        }),
        authorization_response: (response != AuthorizationResponse::default()).then_some(response),
        ..HttpService::default()
    }
}

/// Headers of the request that the authorizer sees; the older field counts where the newer one is empty.
fn checked_headers(settings: &HttpAuthorizer) -> Option<ListStringMatcher> {
    header_names(&settings.include_request_headers_in_check)
        .or_else(|| header_names(&settings.include_headers_in_check))
}

fn header_names(names: &[String]) -> Option<ListStringMatcher> {
    (!names.is_empty()).then(|| ListStringMatcher {
        patterns: names
            .iter()
            .map(|name| matcher::header_name(name))
            .collect(),
    })
}
