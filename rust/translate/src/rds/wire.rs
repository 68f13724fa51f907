//! Route configurations as bytes.
//!
//! Routes are by far the most there is of a mesh's configuration, and most of each is the same for all conditions of a
//! rule: such parts are encoded once and put together here, in the order of their field numbers, as protobuf's own
//! encoding of the whole message would have them.

use std::borrow::Cow;
use std::sync::Arc;

use navarch_envoy::envoy::config::route::v3::{Route, RouteConfiguration, RouteMatch};
use navarch_envoy::field::envoy::config::route::v3::{
    decorator, route, route_action, route_configuration, virtual_host,
};
use navarch_envoy::wire::{Template, Writer};

use super::text_list::TextList;
use crate::encoded::{Encoded, References};
use crate::istio_metadata::write_config_metadata;

/// A route configuration of virtual hosts that `write` writes behind its name, as [`RouteList::write_virtual_host`] does.
pub(super) fn encode_route_configuration(
    name: &Arc<str>,
    rest: &RouteConfiguration,
    write: impl FnOnce(&mut Writer),
) -> Encoded<RouteConfiguration> {
    let mut out = Writer::default();
    if !name.is_empty() {
        out.text(route_configuration::NAME, &[name]);
    }
    write(&mut out);
    out.append_message(rest);
    Encoded::new(name.clone(), out, References::Nothing)
}

/// The routes of one virtual host, one behind the other.
#[derive(Debug, Default)]
pub(super) struct RouteList {
    out: Writer,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    is_catch_all: bool,
}

/// What routes of one rule have in common.
#[derive(Debug)]
pub(super) struct SharedParts<'a> {
    /// All fields but an action that forwards, matcher, metadata, decorator, name and prefix of statistics.
    pub(super) fields: Template,
    /// The action, if it forwards.
    pub(super) forward: Option<ForwardParts>,
    /// Namespace and name of the VirtualService.
    pub(super) origin: (&'a str, &'a str),
    /// What traces call the routes, up to the path.
    pub(super) operation: String,
}

/// An action that forwards.
#[derive(Debug)]
pub(super) struct ForwardParts {
    /// All fields but the retry policy.
    pub(super) fields: Template,
    /// The retry policy, encoded.
    pub(super) retry: Option<Cow<'static, [u8]>>,
}

/// What the routes of services without any policy have in common, and their action.
#[derive(Debug)]
pub(super) struct ServiceParts {
    pub(super) route: Template,
    pub(super) action: Template,
}

/// What a condition adds to the parts of its rule.
#[derive(Debug)]
pub(super) struct OwnParts<'a> {
    pub(super) matcher: &'a RouteMatch,
    pub(super) path_label: Cow<'a, str>,
    pub(super) is_catch_all: bool,
    pub(super) name: Cow<'a, str>,
    pub(super) stat_prefix: &'a str,
}

impl RouteList {
    /// Add a route.
    pub(super) fn push(&mut self, route: &Route, is_catch_all: bool) {
        self.add(is_catch_all, |out| out.append_message(route));
    }

    /// Add the route of a condition.
    pub(super) fn push_parts(&mut self, shared: &SharedParts<'_>, own: &OwnParts<'_>) {
        self.add(own.is_catch_all, |out| {
            let mut filling = shared.fields.fill(out);
            filling.message(route::MATCH, |out| out.append_message(own.matcher));
            if let Some(forward) = &shared.forward {
                filling.message(route::ROUTE, |out| {
                    let mut action = forward.fields.fill(out);
                    if let Some(retry) = &forward.retry {
                        action.encoded(route_action::RETRY_POLICY, retry);
                    }
                    action.finish();
                });
            }
            let place = filling.at(route::METADATA);
            write_config_metadata(route::METADATA, "virtual-service", shared.origin, place);
            filling.message(route::DECORATOR, |out| {
                out.text(decorator::OPERATION, &[&shared.operation, &own.path_label]);
            });
            if !own.name.is_empty() {
                filling.text(route::NAME, &[&own.name]);
            }
            if !own.stat_prefix.is_empty() {
                filling.text(route::STAT_PREFIX, &[own.stat_prefix]);
            }
            filling.finish();
        });
    }

    /// Add the route of a service that differs from others of its kind by cluster and operation only; both in parts.
    pub(super) fn push_service(
        &mut self,
        shared: &ServiceParts,
        cluster: &[&str],
        operation: &[&str],
    ) {
        self.add(true, |out| {
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

    fn add(&mut self, is_catch_all: bool, write: impl FnOnce(&mut Writer)) {
        let start = self.out.len();
        write(&mut self.out);
        self.spans.push(Span {
            start,
            end: self.out.len(),
            is_catch_all,
        });
    }

    /// Put routes that catch everything behind all others.
    pub(super) fn sort(&mut self) {
        self.spans.sort_by_key(|span| span.is_catch_all);
    }

    /// Write a virtual host with these routes, and forget them.
    ///
    /// `rest` is what else the virtual host has.
    pub(super) fn write_virtual_host(
        &mut self,
        (name, domains): (&str, &TextList),
        rest: &Template,
        out: &mut Writer,
    ) {
        let routes = self.out.as_slice();
        out.message(route_configuration::VIRTUAL_HOSTS, |out| {
            let mut host = rest.fill(out);
            host.text(virtual_host::NAME, &[name]);
            for domain in domains.iter() {
                host.text(virtual_host::DOMAINS, &[domain]);
            }
            for span in &self.spans {
                host.encoded(virtual_host::ROUTES, &routes[span.start..span.end]);
            }
            host.finish();
        });
        self.spans.clear();
        self.out.clear();
    }

    /// The routes as messages.
    #[cfg(test)]
    pub(super) fn messages(&self) -> Vec<Route> {
        let routes = self.out.as_slice();
        let decode = |span: &Span| prost::Message::decode(&routes[span.start..span.end]).unwrap();
        self.spans.iter().map(decode).collect()
    }
}
