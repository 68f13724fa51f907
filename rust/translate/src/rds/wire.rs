//! Route configurations as bytes.
//!
//! Routes are by far the most there is of a mesh's configuration: they are written as bytes, in the order of their field
//! numbers, as protobuf's own encoding of the whole message would have them.

use std::sync::Arc;

use navarch_envoy::envoy::config::route::v3::RouteConfiguration;
#[cfg(test)]
use navarch_envoy::envoy::config::route::v3::{Route, VirtualHost};
use navarch_envoy::field::envoy::config::route::v3::{
    decorator, route, route_action, route_configuration, virtual_host,
};
use navarch_envoy::wire::{Template, Writer};

use super::host_names::HostNames;
use crate::encoded::{Encoded, References};

/// What virtual hosts are taken to need besides their names; most have one route.
pub(super) const TYPICAL_ROUTES_BYTES: usize = 512;

/// A route configuration of virtual hosts that `write` writes behind its name, as [`RouteList::write_virtual_host`] does.
///
/// There is room for `capacity_bytes` of them at once; `rest` are the fields behind them, encoded.
pub(super) fn encode_route_configuration(
    (name, capacity_bytes): (&Arc<str>, usize),
    (rest, references): (&[u8], References),
    write: impl FnOnce(&mut Writer),
) -> Encoded<RouteConfiguration> {
    // The name has a key and a length.
    let mut out = Writer::with_capacity(name.len() + capacity_bytes + rest.len() + 16);
    if !name.is_empty() {
        out.text(route_configuration::NAME, &[name]);
    }
    write(&mut out);
    out.append(rest);
    Encoded::new(name.clone(), out, references)
}

/// The routes of one virtual host, as fields of its message.
#[derive(Debug)]
pub(super) struct RouteList {
    is_sorted: bool,
    routes: Writer,
    /// Routes that catch everything, where they go behind all others.
    catch_alls: Writer,
}

/// What the routes of services without any policy have in common, and their action.
#[derive(Debug)]
pub(super) struct ServiceParts {
    pub(super) route: Template,
    pub(super) action: Template,
}

impl RouteList {
    /// Without any; `is_sorted` puts those that catch everything behind all others.
    pub(super) fn new(is_sorted: bool) -> Self {
        Self {
            is_sorted,
            routes: Writer::with_capacity(1024),
            catch_alls: Writer::default(),
        }
    }

    /// Add a route that `write` writes.
    pub(super) fn push(&mut self, is_catch_all: bool, write: impl FnOnce(&mut Writer)) {
        let out = if is_catch_all && self.is_sorted {
            &mut self.catch_alls
        } else {
            &mut self.routes
        };
        out.message(virtual_host::ROUTES, write);
    }

    /// Add the route of a service that differs from others of its kind by cluster and operation only; both in parts.
    pub(super) fn push_service(
        &mut self,
        shared: &ServiceParts,
        cluster: &[&str],
        operation: &[&str],
    ) {
        self.push(true, |out| {
            let mut filling = shared.route.fill(out);
            filling.message(route::ROUTE, |out| {
                let mut action = shared.action.fill(out);
                action.text(route_action::CLUSTER, cluster);
                action.finish();
            });
            filling.message(route::DECORATOR, |out| {
                out.text(decorator::OPERATION, operation);
            });
            filling.finish();
        });
    }

    /// Begin with the routes of another virtual host.
    pub(super) fn clear(&mut self, is_sorted: bool) {
        self.is_sorted = is_sorted;
        self.routes.clear();
        self.catch_alls.clear();
    }

    /// Write the virtual host with these routes; `rest` are its fields behind them, encoded.
    pub(super) fn write_virtual_host(&self, names: &HostNames, rest: &[u8], out: &mut Writer) {
        let parts = [
            names.fields(),
            self.routes.as_slice(),
            self.catch_alls.as_slice(),
            rest,
        ];
        out.message_of(route_configuration::VIRTUAL_HOSTS, &parts);
    }

    /// The same as a message of its own, by another name.
    pub(super) fn append_virtual_host(
        &self,
        name: &str,
        names: &HostNames,
        rest: &[u8],
        out: &mut Writer,
    ) {
        out.text(virtual_host::NAME, &[name]);
        out.append(names.domain_fields());
        out.append(self.routes.as_slice());
        out.append(self.catch_alls.as_slice());
        out.append(rest);
    }

    /// The routes as messages.
    #[cfg(test)]
    pub(super) fn messages(&self) -> Vec<Route> {
        let fields = [self.routes.as_slice(), self.catch_alls.as_slice()].concat();
        let host: VirtualHost = prost::Message::decode(fields.as_slice()).unwrap();
        host.routes
    }
}
