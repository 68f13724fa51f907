//! The xDS protocol of one stream as a state machine without I/O: requests and snapshots in, responses out.
//!
//! The caller hands in each request ([`Session::on_sotw`], [`Session::on_delta`]) and each new
//! [`ResourceSnapshot`] ([`Session::set_target`]), and takes responses with [`Session::next_response`]
//! when the transport has room. Nothing is queued: a response is made from the newest snapshot when it
//! is taken, so a slow reader costs one response of memory and skips what is outdated.
//!
//! Rules (<https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>):
//! one outstanding response for each type; CDS → EDS → LDS → RDS → VHDS; removals of clusters and endpoints last;
//! listeners and routes wait until the clusters before them are acknowledged, and their endpoints asked for and
//! acknowledged too.

mod delta;
mod nonce;
mod request;
mod selection;
mod sotw;
mod subscription;
mod type_session;
mod virtual_hosts;

use std::sync::Arc;

use bytes::Bytes;
use navarch_encode::{ResourceSnapshot, Version};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use navarch_envoy::google::rpc::Status;

pub use nonce::Nonce;
pub use request::SotwRequest;
pub use subscription::NameSets;

use nonce::{NonceMatch, Nonces, match_nonce};
use subscription::Names;
use type_session::TypeSession;
use virtual_hosts::RouteFollower;

/// The most names in one request; an Envoy of a mesh with 10,000 services stays far below.
pub const MAX_NAMES_PER_REQUEST: usize = 100_000;

/// The two forms of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// State of the world: `StreamAggregatedResources`.
    Sotw,
    /// Incremental: `DeltaAggregatedResources`.
    Delta,
}

/// A request that ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// An aggregated stream can't know what is asked for.
    #[error("the request has no type URL, which an aggregated stream needs in each request")]
    NoTypeUrl,
    /// The names are not text.
    #[error("the names of {type_url} in the request are not UTF-8")]
    BadNames {
        /// Of which type.
        type_url: TypeUrl,
        /// What the decoder found.
        #[source]
        source: prost::DecodeError,
    },
    /// More names than [`MAX_NAMES_PER_REQUEST`].
    #[error(
        "the request has {count} names of {type_url}; at most {MAX_NAMES_PER_REQUEST} are read"
    )]
    TooManyNames {
        /// How many came.
        count: usize,
        /// Of which type.
        type_url: TypeUrl,
    },
}

/// A client's rejection of a response (NACK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The type of the rejected resources.
    pub type_url: TypeUrl,
    /// The version that was rejected.
    pub version: Version,
    /// The gRPC status code that the client gave.
    pub code: i32,
    /// The client's words.
    pub message: String,
}

/// What a request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A subscription, new or changed.
    Subscribed(TypeUrl),
    /// The latest response was accepted.
    Accepted(TypeUrl),
    /// The latest response was rejected.
    Rejected(Rejection),
    /// An answer to a response that is no longer the latest: ignored.
    Stale(TypeUrl),
    /// A type that is not served: ignored, as Istio does.
    UnknownType(String),
}

/// A response, ready for the wire.
#[derive(Clone, Debug)]
pub struct Response {
    /// The type of its resources.
    pub type_url: TypeUrl,
    /// Its nonce.
    pub nonce: Nonce,
    /// The version that it leads to.
    pub version: Version,
    /// The encoded message in pieces, most of them shared with other streams.
    pub segments: Vec<Bytes>,
}

/// Where a stream stands with one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeStatus {
    /// The type.
    pub type_url: TypeUrl,
    /// The version sent last.
    pub sent: Option<Version>,
    /// The version accepted last.
    pub accepted: Option<Version>,
    /// The latest rejection, until a later response is accepted.
    pub rejection: Option<Rejection>,
}

/// One stream's state.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    target: Arc<ResourceSnapshot>,
    types: [TypeSession; TypeUrl::COUNT],
    nonces: Nonces,
    names: Arc<NameSets>,
    routes: RouteFollower,
    are_secrets_held: bool,
}

impl Session {
    /// A stream that has asked for nothing yet and will be led to `target`.
    pub fn new(variant: Variant, target: Arc<ResourceSnapshot>, names: Arc<NameSets>) -> Self {
        let types = TypeUrl::ALL.map(TypeSession::new);
        Self {
            variant,
            target,
            types,
            nonces: Nonces::default(),
            names,
            routes: RouteFollower::default(),
            are_secrets_held: false,
        }
    }

    /// Lead the stream to another snapshot; what was not yet sent of the former is skipped.
    pub fn set_target(&mut self, target: Arc<ResourceSnapshot>) {
        let endpoints = target.resources(TypeUrl::Endpoint);
        self.types[TypeUrl::Endpoint.index()].expect_no_more_than(endpoints);
        let [before, after] = [&self.target, &target].map(|t| t.resources(TypeUrl::Route));
        if !before.is_same(after) {
            self.routes.note_change();
        }
        self.target = target;
    }

    /// Whether listeners and routes wait for the client to ask for endpoints of clusters that it has got. A client
    /// may leave that be, so the wait must end: see [`Self::expect_nothing`].
    pub fn is_expecting(&self) -> bool {
        self.types[TypeUrl::Endpoint.index()].is_expecting()
    }

    /// Wait no longer for the client to ask.
    pub fn expect_nothing(&mut self) {
        self.types[TypeUrl::Endpoint.index()].expect_nothing();
    }

    /// The snapshot that the stream is led to.
    pub fn target(&self) -> &Arc<ResourceSnapshot> {
        &self.target
    }

    /// Take a state-of-the-world request.
    pub fn on_sotw(&mut self, request: &SotwRequest) -> Result<Outcome, SessionError> {
        let head = &request.head;
        let Some(type_url) = read_type(&head.type_url, request.n_names())? else {
            return Ok(Outcome::UnknownType(head.type_url.clone()));
        };
        let names = Names {
            resources: self.target.resources(type_url),
            sets: &self.names,
        };
        let state = &mut self.types[type_url.index()];
        let matched = match_nonce(&head.response_nonce, state.latest_nonce());
        // The first request of a stream counts whatever nonce it brings from a former stream.
        if state.is_subscribed() && matched == NonceMatch::Stale {
            return Ok(Outcome::Stale(type_url));
        }
        let answer = match matched {
            NonceMatch::Latest => state.take_answer(head.error_detail.as_ref()),
            NonceMatch::Absent | NonceMatch::Stale => None,
        };
        sotw::subscribe(state, request, names)
            .map_err(|source| SessionError::BadNames { type_url, source })?;
        self.heed(answer.as_ref());
        Ok(answer.unwrap_or(Outcome::Subscribed(type_url)))
    }

    /// Take a delta request.
    pub fn on_delta(&mut self, request: &DeltaDiscoveryRequest) -> Result<Outcome, SessionError> {
        let count = request.resource_names_subscribe.len()
            + request.resource_names_unsubscribe.len()
            + request.initial_resource_versions.len();
        let Some(type_url) = read_type(&request.type_url, count)? else {
            return Ok(Outcome::UnknownType(request.type_url.clone()));
        };
        let names = Names {
            resources: self.target.resources(type_url),
            sets: &self.names,
        };
        let state = &mut self.types[type_url.index()];
        let was_subscribed = state.is_subscribed();
        let matched = match_nonce(&request.response_nonce, state.latest_nonce());
        let answer = match matched {
            NonceMatch::Latest => state.take_answer(request.error_detail.as_ref()),
            NonceMatch::Absent | NonceMatch::Stale => None,
        };
        // A delta is told once, so names count even beside a stale nonce.
        delta::subscribe(state, request, names);
        if type_url == TypeUrl::Route
            && !was_subscribed
            && let Some(versions) = &state.known
        {
            self.routes.note_brought(versions, names.resources);
        }
        if count > 0 || !was_subscribed {
            self.routes.note_change();
        }
        self.heed(answer.as_ref());
        Ok(match answer {
            Some(answer) => answer,
            None if was_subscribed && matched == NonceMatch::Stale => Outcome::Stale(type_url),
            None => Outcome::Subscribed(type_url),
        })
    }

    /// A client that rejected clusters need not ask for their endpoints.
    fn heed(&mut self, answer: Option<&Outcome>) {
        if let Some(Outcome::Rejected(rejection)) = answer
            && rejection.type_url == TypeUrl::Cluster
        {
            self.expect_nothing();
        }
    }

    /// Whether the client has asked for a type.
    pub fn has_asked(&self, type_url: TypeUrl) -> bool {
        self.types[type_url.index()].is_subscribed()
    }

    /// The names asked for of a type; empty for a wildcard.
    pub fn names(&self, type_url: TypeUrl) -> &[Arc<str>] {
        self.types[type_url.index()].names()
    }

    /// Whether secrets wait: what the client may have of them is being found out.
    pub fn hold_secrets(&mut self, is_held: bool) {
        self.are_secrets_held = is_held;
    }

    /// Make the next response, if one is due now.
    pub fn next_response(&mut self) -> Option<Response> {
        for type_url in TypeUrl::ALL {
            if self.is_held_back(type_url) {
                continue;
            }
            if let Some(response) = self.compose(type_url) {
                return Some(response);
            }
        }
        [TypeUrl::Cluster, TypeUrl::Endpoint]
            .into_iter()
            .find_map(|t| self.compose_removals(t))
    }

    /// Whether the client has accepted or rejected all there is.
    pub fn is_settled(&self) -> bool {
        self.types
            .iter()
            .zip(TypeUrl::ALL)
            .all(|(state, t)| !state.is_subscribed() || state.is_quiet(self.target.resources(t)))
    }

    /// Whether something newer waits until the client has answered what it was sent before.
    pub fn is_owed(&self) -> bool {
        let mut types = self.types.iter().zip(TypeUrl::ALL);
        types.any(|(state, t)| state.is_in_flight() && !state.is_led_to(self.target.resources(t)))
    }

    /// Where the stream stands with a type, if it subscribed to it.
    pub fn status(&self, type_url: TypeUrl) -> Option<TypeStatus> {
        let state = &self.types[type_url.index()];
        state.is_subscribed().then(|| state.status())
    }

    /// Where the stream stands with each type that it subscribed to.
    pub fn statuses(&self) -> Vec<TypeStatus> {
        self.types
            .iter()
            .filter(|t| t.is_subscribed())
            .map(TypeSession::status)
            .collect()
    }

    /// Whether a type must wait for types before it (make before break).
    ///
    /// A push of listeners and routes waits until the client has the clusters before them and their
    /// endpoints; what a client asks for by itself is never held back.
    fn is_held_back(&self, type_url: TypeUrl) -> bool {
        if type_url == TypeUrl::Secret {
            return self.are_secrets_held;
        }
        if type_url == TypeUrl::VirtualHost && (!self.has_asked(type_url) || self.owes_routes()) {
            return true;
        }
        matches!(
            type_url,
            TypeUrl::Listener | TypeUrl::Route | TypeUrl::VirtualHost
        ) && !self.types[type_url.index()].must_answer()
            && (self.types[TypeUrl::Cluster.index()].is_in_flight()
                || self.types[TypeUrl::Endpoint.index()].is_warming()
                || self.is_expecting())
    }

    /// Whether route configurations are still to be sent.
    fn owes_routes(&self) -> bool {
        let routes = &self.types[TypeUrl::Route.index()];
        let target = self.target.resources(TypeUrl::Route);
        routes.is_subscribed() && (routes.must_answer() || !routes.is_led_to(target))
    }

    fn compose(&mut self, type_url: TypeUrl) -> Option<Response> {
        if type_url == TypeUrl::VirtualHost {
            self.lead_virtual_hosts();
        }
        let target = self.target.resources(type_url);
        let state = &self.types[type_url.index()];
        if !state.may_send() || state.has_nothing_of(target) {
            return None;
        }
        let may_remove = self.may_remove();
        let state = &mut self.types[type_url.index()];
        let nonce = self.nonces.next();
        let response = match self.variant {
            Variant::Sotw => sotw::compose(state, target, nonce, may_remove),
            Variant::Delta => delta::compose(state, target, nonce, may_remove),
        };
        if type_url == TypeUrl::Cluster && response.is_some() {
            self.warm_endpoints();
        }
        if type_url == TypeUrl::Route && response.is_some() {
            let routes = self.types[TypeUrl::Route.index()].resources_in_flight();
            self.routes.note_sent(routes);
        }
        response
    }

    fn lead_virtual_hosts(&mut self) {
        if !self.routes.is_stale() {
            return;
        }
        let [routes, hosts] = [TypeUrl::Route, TypeUrl::VirtualHost];
        let what = (self.target.resources(routes), self.target.resources(hosts));
        if let Ok([routes, hosts]) = self.types.get_disjoint_mut([routes.index(), hosts.index()])
            && hosts.is_subscribed()
        {
            self.routes.lead(routes, hosts, what);
        }
    }

    fn compose_removals(&mut self, type_url: TypeUrl) -> Option<Response> {
        if !self.may_remove() || !self.types[type_url.index()].may_send() {
            return None;
        }
        let nonce = self.nonces.next();
        let target = self.target.resources(type_url);
        let state = &mut self.types[type_url.index()];
        match self.variant {
            Variant::Sotw => sotw::compose_removals(state, target, nonce),
            Variant::Delta => delta::compose_removals(state, target, nonce),
        }
    }

    /// Whether clusters and endpoints may go: no listener or route of the client can still name them.
    fn may_remove(&self) -> bool {
        let users = [TypeUrl::Listener, TypeUrl::Route, TypeUrl::VirtualHost];
        users.into_iter().all(|t| {
            let state = &self.types[t.index()];
            let target = self.target.resources(t);
            !state.is_subscribed() || (state.is_quiet(target) && !state.is_behind(target))
        })
    }

    /// Answer EDS again for the clusters just sent: Envoy warms a changed cluster by waiting for its
    /// endpoints, changed or not, and does not always ask.
    /// <https://github.com/envoyproxy/envoy/issues/13009>, <https://github.com/envoyproxy/envoy/issues/33607>
    fn warm_endpoints(&mut self) {
        let names = self.types[TypeUrl::Cluster.index()].references_in_flight();
        self.types[TypeUrl::Endpoint.index()].ask_again(names);
    }
}

fn read_type(type_url: &str, n_names: usize) -> Result<Option<TypeUrl>, SessionError> {
    if type_url.is_empty() {
        return Err(SessionError::NoTypeUrl);
    }
    let Some(type_url) = TypeUrl::find(type_url) else {
        return Ok(None);
    };
    if n_names > MAX_NAMES_PER_REQUEST {
        return Err(SessionError::TooManyNames {
            count: n_names,
            type_url,
        });
    }
    Ok(Some(type_url))
}

/// The client's words in a NACK, cut to a length that a log and a page can bear.
fn rejection(type_url: TypeUrl, version: Version, error: &Status) -> Rejection {
    const MAX_MESSAGE_CHARS: usize = 2000;
    let message = error.message.chars().take(MAX_MESSAGE_CHARS).collect();
    Rejection {
        type_url,
        version,
        code: error.code,
        message,
    }
}
