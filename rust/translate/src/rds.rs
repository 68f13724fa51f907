//! Route configurations (RDS): which listener asks for which, what is in them, and how each is built.
//!
//! [`route_inputs`] finds everything that matters, and by it the names and domains of all virtual hosts;
//! [`build_route_configuration`] makes the message. A virtual host is a piece of its own
//! ([`VirtualHostInputs`]): a change of one VirtualService makes one anew. For proxies that take virtual hosts apart
//! ([`PieceInputs`]) it is a resource, too.

mod action;
mod base64;
mod by_hash;
mod cors;
mod domain;
mod fault;
mod gateway;
mod hash_policy;
mod header;
mod host_names;
mod inbound;
mod indexes;
mod inputs;
mod name;
mod pieces;
mod report;
mod retry;
mod route;
mod route_match;
mod scalar;
mod selection;
mod sidecar;
mod string_match;
mod virtual_host;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use navarch_envoy::envoy::config::route::v3::RouteConfiguration;
use navarch_model::{Diagnostic, ProxyHeaders, ProxyKind};
use navarch_snapshot::{GatewayConflict, MeshSnapshot, ProxyScope};
use prost::Message;

use virtual_host::write_virtual_host;
use wire::{RouteList, TYPICAL_ROUTES_BYTES, encode_route_configuration};

use crate::encoded::{Encoded, References};

pub(crate) use domain::short_names;
pub use host_names::HostNames;
pub(crate) use inbound::{InboundRoute, InboundRoutes};
pub use inputs::{
    DestinationFacts, Destinations, PortNumbers, RouteClient, RouteConfigurationInputs,
    RouteSource, RouteViewer, ServiceRoute, UnknownHosts, VirtualHostInputs, VirtualServiceRoutes,
};
pub use pieces::{FrameInputs, PieceInputs, build_frame, build_piece};
pub(crate) use selection::Precedence;
pub(crate) use string_match::quote;
pub use virtual_host::{ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS, BLOCK_ALL};

/// Envoy's own limit for bodies of direct responses is 4 KiB; Istio takes up to 1 MiB.
const MAX_DIRECT_RESPONSE_BYTES: u32 = 1024 * 1024;

/// Inputs of the route configurations of these names, in their order.
///
/// The names are what listeners ask for (`lds::ListenerInputs::route_names`), so that neither lacks the other;
/// one that means nothing (any more) gives an empty configuration.
pub fn route_inputs<'a>(
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    names: &BTreeSet<String>,
) -> Vec<RouteConfigurationInputs<'a>> {
    match scope.group.kind {
        ProxyKind::Sidecar => sidecar::SidecarRoutes::new(scope).all(names),
        ProxyKind::Router => {
            let routes = gateway::GatewayRoutes::new(mesh, scope);
            names.iter().map(|name| routes.of(name)).collect()
        }
    }
}

/// The port whose services a sidecar's route configuration of that name reaches; 0 for all, and for other names.
pub(crate) fn route_port(name: &str) -> u32 {
    name::RouteName::parse(name).map_or(0, |name| name.port())
}

/// What is to be told of a router's Gateways: servers that are not in force, as others have their place.
pub fn gateway_conflicts(scope: &ProxyScope) -> Vec<Diagnostic> {
    scope
        .gateways
        .conflicts
        .iter()
        .map(GatewayConflict::diagnostic)
        .collect()
}

/// The route configuration, and what is to be told of the VirtualServices in it.
pub fn build_route_configuration(
    inputs: &RouteConfigurationInputs<'_>,
) -> (Encoded<RouteConfiguration>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let rest = &REST[usize::from(inputs.is_unknown)];
    let hosts = inputs.virtual_hosts.iter();
    let capacity_bytes = hosts.map(|host| host.names.len() + TYPICAL_ROUTES_BYTES);
    let name = (&inputs.name, capacity_bytes.sum());
    let rest = (rest.as_slice(), References::Nothing);
    let encoded = encode_route_configuration(name, rest, |out| {
        let mut routes = RouteList::new(false);
        for virtual_host in &inputs.virtual_hosts {
            write_virtual_host(virtual_host, &mut routes, out, &mut diagnostics);
        }
    });
    diagnostics.sort_unstable();
    diagnostics.dedup();
    (encoded, diagnostics)
}

/// What a route configuration has behind its virtual hosts, encoded: one that is known, and one that is not.
static REST: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let unknown = RouteConfiguration {
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    };
    [known_settings().encode_to_vec(), unknown.encode_to_vec()]
});

/// A known route configuration without its name and its virtual hosts.
fn known_settings() -> RouteConfiguration {
    RouteConfiguration {
        validate_clusters: Some(false),
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE_BYTES),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    }
}

/// Whether the proxies of a scope tell upstreams how often a request was tried.
fn has_attempt_count(scope: &ProxyScope) -> bool {
    let attempt_count = proxy_headers(scope).and_then(|headers| headers.attempt_count.as_ref());
    attempt_count.and_then(|setting| setting.disabled) != Some(true)
}

/// Whether the proxies of a scope tell upstreams the host that they rewrote.
fn has_forwarded_host(scope: &ProxyScope) -> bool {
    let forwarded_host = proxy_headers(scope).and_then(|headers| headers.x_forwarded_host.as_ref());
    forwarded_host.and_then(|setting| setting.enabled) == Some(true)
}

fn proxy_headers(scope: &ProxyScope) -> Option<&ProxyHeaders> {
    let own = scope.group.metadata.proxy_config.as_ref();
    let proxy_config = own.unwrap_or(&scope.mesh_config.default_config);
    proxy_config.proxy_headers.as_ref()
}

/// An empty route configuration: Envoy goes on asking while it drains listeners that are gone.
fn unknown(name: &str) -> RouteConfigurationInputs<'static> {
    RouteConfigurationInputs {
        name: Arc::from(name),
        virtual_hosts: Vec::new(),
        is_unknown: true,
    }
}
