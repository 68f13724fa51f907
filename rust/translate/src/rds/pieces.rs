//! Route configurations in pieces: a frame without virtual hosts, and each of these as a resource (VHDS).
//!
//! A virtual host is called `<route configuration>/<its name>`: by the part before the last slash Envoy finds the route
//! configuration (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds>).

use std::sync::{Arc, LazyLock};

use navarch_envoy::envoy::config::route::v3::{RouteConfiguration, Vhds, VirtualHost};
use navarch_envoy::wire::Writer;
use navarch_model::Diagnostic;
use prost::Message;

use super::host_names::HostNames;
use super::inputs::{RouteConfigurationInputs, RouteSource, VirtualHostInputs};
use super::virtual_host::write_virtual_host_as;
use super::wire::{TYPICAL_ROUTES_BYTES, encode_route_configuration};
use crate::config_source::ads;
use crate::encoded::{Encoded, References};

/// The frame of a route configuration; it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FrameInputs {
    /// Of the route configuration.
    pub name: Arc<str>,
}

/// One virtual host as a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PieceInputs<'a> {
    /// The name of the route configuration.
    pub route: Arc<str>,
    /// What it is made of.
    pub host: Arc<VirtualHostInputs<'a>>,
}

impl<'a> RouteConfigurationInputs<'a> {
    /// What stays when all virtual hosts are taken apart.
    pub fn frame(&self) -> FrameInputs {
        FrameInputs {
            name: self.name.clone(),
        }
    }

    /// The virtual hosts apart; at least one.
    pub fn pieces(&self) -> impl Iterator<Item = PieceInputs<'a>> {
        // Envoy uses a listener only when it has got a virtual host for its route configuration.
        let none = self.virtual_hosts.is_empty().then(|| NO_HOST.clone());
        let hosts = self.virtual_hosts.iter().cloned().chain(none);
        hosts.map(|host| PieceInputs {
            route: self.name.clone(),
            host,
        })
    }
}

/// A virtual host that no request is for (RFC 2606), of a route configuration that has no other.
static NO_HOST: LazyLock<Arc<VirtualHostInputs<'static>>> = LazyLock::new(|| {
    Arc::new(VirtualHostInputs {
        names: HostNames::of("none", "none.invalid"),
        routes: RouteSource::VirtualServices(Vec::new()),
        has_attempt_count: false,
        is_https_only: false,
        is_sorted: false,
    })
});

/// The route configuration without its virtual hosts, which it has Envoy ask for on the same stream.
pub fn build_frame(inputs: &FrameInputs) -> Encoded<RouteConfiguration> {
    let rest = (REST.as_slice(), References::SameName);
    encode_route_configuration((&inputs.name, 0), rest, |_| ())
}

static REST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let frame = RouteConfiguration {
        vhds: Some(Vhds {
            config_source: Some(ads()),
        }),
        ..super::known_settings()
    };
    frame.encode_to_vec()
});

/// The virtual host, and what is to be told of the VirtualServices in it.
pub fn build_piece(inputs: &PieceInputs<'_>) -> (Encoded<VirtualHost>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let names = &inputs.host.names;
    let name: Arc<str> = format!("{}/{}", inputs.route, names.name()).into();
    let capacity_bytes = inputs.route.len() + names.len() + TYPICAL_ROUTES_BYTES;
    let mut out = Writer::with_capacity(capacity_bytes);
    write_virtual_host_as(&name, &inputs.host, &mut out, &mut diagnostics);
    diagnostics.sort_unstable();
    diagnostics.dedup();
    (Encoded::new(name, out, References::Nothing), diagnostics)
}
