//! Route configurations as bytes.
//!
//! Routes are by far the most there is of a mesh's configuration, and most of each is the same for all conditions of a
//! rule: such parts are encoded once and put together here, in the order of their field numbers, as protobuf's own
//! encoding of the whole message would have them.

use std::borrow::Cow;
use std::sync::Arc;

use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};

/// Field numbers of `envoy.config.route.v3`.
const VIRTUAL_HOSTS: u32 = 2;
const HOST_NAME: u32 = 1;
const DOMAINS: u32 = 2;
const ROUTES: u32 = 3;
const MATCH: u32 = 1;
const ACTION: u32 = 2;
const CLUSTER: u32 = 1;
const DECORATOR: u32 = 5;
const OPERATION: u32 = 1;

/// A route configuration, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRouteConfiguration {
    /// By which listeners ask for it.
    pub name: String,
    /// The message.
    pub bytes: Vec<u8>,
}

impl EncodedRouteConfiguration {
    /// Of virtual hosts that `write` writes behind what is there, as [`RouteList::write_virtual_host`] does.
    pub(super) fn new(whole: RouteConfiguration, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let name = whole.name.clone();
        let mut bytes = Vec::new();
        let head = RouteConfiguration {
            name: whole.name,
            ..RouteConfiguration::default()
        };
        head.encode_raw(&mut bytes);
        write(&mut bytes);
        let tail = RouteConfiguration {
            name: String::new(),
            ..whole
        };
        tail.encode_raw(&mut bytes);
        Self { name, bytes }
    }

    /// The message.
    pub fn message(&self) -> RouteConfiguration {
        RouteConfiguration::decode(self.bytes.as_slice()).unwrap_or_default()
    }
}

/// The routes of one virtual host, one behind the other.
#[derive(Debug, Default)]
pub(super) struct RouteList {
    bytes: Vec<u8>,
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
pub(super) struct SharedParts {
    /// The fields between matcher and decorator.
    before: Vec<u8>,
    /// The fields behind the decorator, as a message and encoded.
    rest: Route,
    after: Vec<u8>,
    /// What traces call the routes, up to the path.
    operation: String,
}

impl SharedParts {
    /// Of a route; its matcher and decorator are each condition's own.
    pub(super) fn new(mut route: Route, operation: String) -> Self {
        let before = Route {
            action: route.action.take(),
            metadata: route.metadata.take(),
            ..Route::default()
        };
        route.r#match = None;
        route.decorator = None;
        Self {
            before: before.encode_to_vec(),
            after: route.encode_to_vec(),
            rest: route,
            operation,
        }
    }

    fn rename(&mut self, name: &str, stat_prefix: &str) {
        if self.rest.name != name || self.rest.stat_prefix != stat_prefix {
            name.clone_into(&mut self.rest.name);
            stat_prefix.clone_into(&mut self.rest.stat_prefix);
            self.after = self.rest.encode_to_vec();
        }
    }
}

/// What the routes of services without any policy have in common.
#[derive(Debug)]
pub(super) struct ServiceParts {
    matcher: Vec<u8>,
    /// The action but for its cluster.
    action: Vec<u8>,
    name: Vec<u8>,
}

impl ServiceParts {
    /// Of the route of any such service.
    pub(super) fn new(route: Route) -> Self {
        let action = match route.action {
            Some(Action::Route(action)) => RouteAction {
                cluster_specifier: None,
                ..action
            },
            _ => RouteAction::default(),
        };
        let matcher = Route {
            r#match: route.r#match,
            ..Route::default()
        };
        let name = Route {
            name: route.name,
            ..Route::default()
        };
        Self {
            matcher: matcher.encode_to_vec(),
            action: action.encode_to_vec(),
            name: name.encode_to_vec(),
        }
    }
}

/// The length of a field of so many bytes.
fn field_len(number: u32, len: usize) -> usize {
    key_len(number) + encoded_len_varint(len as u64) + len
}

/// Write what stands before so many bytes in a field.
fn begin_field(number: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn write_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    begin_field(number, bytes.len(), out);
    out.extend_from_slice(bytes);
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
        let start = self.bytes.len();
        route.encode_raw(&mut self.bytes);
        self.end(start, is_catch_all);
    }

    /// Add the route of a condition.
    pub(super) fn push_parts(&mut self, shared: &mut SharedParts, own: &OwnParts<'_>) {
        shared.rename(&own.name, own.stat_prefix);
        let start = self.bytes.len();
        message::encode(MATCH, own.matcher, &mut self.bytes);
        self.bytes.extend_from_slice(&shared.before);
        let operation_len = shared.operation.len() + own.path_label.len();
        begin_field(
            DECORATOR,
            field_len(OPERATION, operation_len),
            &mut self.bytes,
        );
        begin_field(OPERATION, operation_len, &mut self.bytes);
        self.bytes.extend_from_slice(shared.operation.as_bytes());
        self.bytes.extend_from_slice(own.path_label.as_bytes());
        self.bytes.extend_from_slice(&shared.after);
        self.end(start, own.is_catch_all);
    }

    fn end(&mut self, start: usize, is_catch_all: bool) {
        self.spans.push(Span {
            start,
            end: self.bytes.len(),
            is_catch_all,
        });
    }

    /// Put routes that catch everything behind all others.
    pub(super) fn sort(&mut self) {
        self.spans.sort_by_key(|span| span.is_catch_all);
    }

    /// Write a virtual host with these routes, and forget them.
    ///
    /// `rest` is what else the virtual host has; its own name and domains come first.
    pub(super) fn write_virtual_host(
        &mut self,
        (name, domains): (&str, &[Arc<str>]),
        rest: &VirtualHost,
        out: &mut Vec<u8>,
    ) {
        let len = field_len(HOST_NAME, name.len())
            + domains
                .iter()
                .map(|d| field_len(DOMAINS, d.len()))
                .sum::<usize>()
            + self
                .spans
                .iter()
                .map(|s| field_len(ROUTES, s.end - s.start))
                .sum::<usize>()
            + rest.encoded_len();
        out.reserve(field_len(VIRTUAL_HOSTS, len));
        begin_field(VIRTUAL_HOSTS, len, out);
        write_field(HOST_NAME, name.as_bytes(), out);
        for domain in domains {
            write_field(DOMAINS, domain.as_bytes(), out);
        }
        for span in self.spans.drain(..) {
            write_field(ROUTES, &self.bytes[span.start..span.end], out);
        }
        rest.encode_raw(out);
        self.bytes.clear();
    }

    /// Add the route of a service that differs from others of its kind by cluster and operation only.
    pub(super) fn push_service(&mut self, shared: &ServiceParts, cluster: &str, operation: &str) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&shared.matcher);
        let len = field_len(CLUSTER, cluster.len()) + shared.action.len();
        begin_field(ACTION, len, &mut self.bytes);
        write_field(CLUSTER, cluster.as_bytes(), &mut self.bytes);
        self.bytes.extend_from_slice(&shared.action);
        begin_field(
            DECORATOR,
            field_len(OPERATION, operation.len()),
            &mut self.bytes,
        );
        write_field(OPERATION, operation.as_bytes(), &mut self.bytes);
        self.bytes.extend_from_slice(&shared.name);
        self.end(start, true);
    }

    /// The routes as messages.
    #[cfg(test)]
    pub(super) fn messages(&self) -> Vec<Route> {
        let decode = |span: &Span| Route::decode(&self.bytes[span.start..span.end]).unwrap();
        self.spans.iter().map(decode).collect()
    }
}
