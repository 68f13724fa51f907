//! Virtual hosts.

use std::sync::LazyLock;

use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use navarch_envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use navarch_envoy::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, VirtualHost,
};
use navarch_envoy::wire::Writer;
use navarch_model::Diagnostic;
use prost::Message;

use super::inputs::{RouteSource, UnknownHosts, VirtualHostInputs};
use super::route::{add_routes, add_service_route};
use super::route_match::match_everything;
use super::scalar::NO_TIMEOUT;
use super::wire::RouteList;

/// The virtual host and route that drop requests for unknown hosts.
pub const BLOCK_ALL: &str = "block_all";
/// The virtual host and route that let requests for unknown hosts pass.
pub const ALLOW_ANY: &str = "allow_any";
/// The same, by resolving each request's host.
pub const ALLOW_ANY_DYNAMIC_DNS: &str = "allow_any_dynamic_dns";

/// Write one virtual host, and tell what is wrong with the VirtualServices behind it; `routes` is scratch space.
pub(super) fn write_virtual_host(
    inputs: &VirtualHostInputs<'_>,
    routes: &mut RouteList,
    out: &mut Writer,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let rest = gather_routes(inputs, routes, diagnostics);
    routes.write_virtual_host(&inputs.names, rest, out);
}

/// The virtual host as a message of its own, by another name.
pub(super) fn write_virtual_host_as(
    name: &str,
    inputs: &VirtualHostInputs<'_>,
    out: &mut Writer,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut routes = RouteList::new(inputs.is_sorted);
    let rest = gather_routes(inputs, &mut routes, diagnostics);
    routes.append_virtual_host(name, &inputs.names, rest, out);
}

/// Gather the routes of a virtual host; its fields behind them, encoded.
fn gather_routes(
    inputs: &VirtualHostInputs<'_>,
    routes: &mut RouteList,
    diagnostics: &mut Vec<Diagnostic>,
) -> &'static [u8] {
    routes.clear(inputs.is_sorted);
    match &inputs.routes {
        RouteSource::Service(service) => add_service_route(routes, service),
        RouteSource::VirtualServices(all) => {
            for of in all {
                add_routes(routes, of, diagnostics);
            }
        }
        RouteSource::Unknown(unknown) => {
            let route = build_unknown_route(unknown);
            routes.push(true, |out| out.append_message(&route));
        }
    }
    &REST[usize::from(inputs.has_attempt_count)][usize::from(inputs.is_https_only)]
}

/// What a virtual host has behind its routes, encoded, by whether attempts are counted and only HTTPS is served.
static REST: LazyLock<[[Vec<u8>; 2]; 2]> = LazyLock::new(|| {
    [false, true].map(|include_request_attempt_count| {
        [TlsRequirementType::None, TlsRequirementType::All].map(|tls| {
            let rest = VirtualHost {
                include_request_attempt_count,
                require_tls: tls.into(),
                ..VirtualHost::default()
            };
            rest.encode_to_vec()
        })
    })
});

fn build_unknown_route(unknown: &UnknownHosts) -> Route {
    let (name, action) = match unknown {
        UnknownHosts::Pass {
            name,
            cluster,
            has_forwarded_host,
        } => (
            *name,
            Action::Route(RouteAction {
                cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_string())),
                timeout: Some(NO_TIMEOUT),
                max_grpc_timeout: Some(NO_TIMEOUT),
                append_x_forwarded_host: *has_forwarded_host,
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
