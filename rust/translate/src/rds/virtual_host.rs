//! Virtual hosts.

use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use navarch_envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use navarch_envoy::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, VirtualHost,
};
use navarch_model::Diagnostic;

use super::inputs::{RouteSource, UnknownHosts, VirtualHostInputs};
use super::route::{build_routes, build_service_route};
use super::route_match::{is_catch_all, match_everything};
use super::scalar::NO_TIMEOUT;

/// The virtual host and route that drop requests for unknown hosts.
pub const BLOCK_ALL: &str = "block_all";
/// The virtual host and route that let requests for unknown hosts pass.
pub const ALLOW_ANY: &str = "allow_any";
/// The same, by resolving each request's host.
pub const ALLOW_ANY_DYNAMIC_DNS: &str = "allow_any_dynamic_dns";

/// One virtual host, and what is to be told of the VirtualServices behind it.
pub fn build_virtual_host(inputs: &VirtualHostInputs) -> (VirtualHost, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    for source in &inputs.routes {
        match source {
            RouteSource::Service(service) => routes.push(build_service_route(service)),
            RouteSource::VirtualService(of) => routes.extend(build_routes(of, &mut diagnostics)),
            RouteSource::Unknown(unknown) => routes.push(build_unknown_route(unknown)),
        }
    }
    if inputs.is_sorted {
        routes.sort_by_key(|route| route.r#match.as_ref().is_some_and(is_catch_all));
    }
    let tls = if inputs.is_https_only {
        TlsRequirementType::All
    } else {
        TlsRequirementType::None
    };
    let virtual_host = VirtualHost {
        name: inputs.name.to_string(),
        domains: inputs.domains.iter().map(ToString::to_string).collect(),
        routes,
        include_request_attempt_count: inputs.has_attempt_count,
        require_tls: tls.into(),
        ..VirtualHost::default()
    };
    (virtual_host, diagnostics)
}

fn build_unknown_route(unknown: &UnknownHosts) -> Route {
    let (name, action) = match unknown {
        UnknownHosts::Pass { name, cluster } => (
            *name,
            Action::Route(RouteAction {
                cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_string())),
                timeout: Some(NO_TIMEOUT),
                max_grpc_timeout: Some(NO_TIMEOUT),
                ..RouteAction::default()
            }),
        ),
        UnknownHosts::Block => (
            BLOCK_ALL,
            Action::DirectResponse(DirectResponseAction {
                status: 502,
                ..DirectResponseAction::default()
            }),
        ),
    };
    Route {
        name: name.to_owned(),
        r#match: Some(match_everything()),
        action: Some(action),
        ..Route::default()
    }
}
