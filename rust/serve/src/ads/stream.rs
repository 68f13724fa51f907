//! One ADS stream: its request half read and its response half made in the same poll.
//!
//! The transport polls for a frame only when the client's window has room. Only then are requests
//! read and the next response made, so a slow reader holds one response and costs nothing else.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::core::v3::Node;
use navarch_envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use navarch_envoy::google::rpc;
use navarch_envoy::json::struct_to_json;
use navarch_model::{Proxy, Shared};
use prost::Message as _;
use tokio::time::Sleep;
use tonic::Status;

use super::requests::{ReadRequest, Requests};
use crate::frame::frame_message;
use crate::health::HEALTH_TYPE;
use crate::line::Line;
use crate::metrics::StreamEnd;
use crate::push::{Pusher, Since};
use crate::registry::{Connection, Fleet};
use crate::secure::{SecretLane, Standing};
use crate::session::{Outcome, Session, SessionError, SotwRequest, Variant};
use crate::status::write_status;

/// Requests read in one poll before the responses get their turn.
const MAX_REQUESTS_PER_POLL: usize = 64;

/// A request of either form of the protocol.
pub(super) trait XdsRequest: ReadRequest + Unpin + Send + 'static {
    const VARIANT: Variant;
    fn node(&self) -> Option<&Node>;
    /// What the client says of its workload in place of asking for resources.
    fn health(&self) -> Option<Result<(), &str>>;
    fn apply(&self, session: &mut Session) -> Result<Outcome, SessionError>;
}

impl ReadRequest for SotwRequest {
    fn read(message: Bytes) -> Result<Self, Status> {
        let unreadable = |e| Status::invalid_argument(format!("not a DiscoveryRequest: {e}"));
        Self::decode(message).map_err(unreadable)
    }
}

impl ReadRequest for DeltaDiscoveryRequest {
    fn read(message: Bytes) -> Result<Self, Status> {
        let unreadable = |e| Status::invalid_argument(format!("not a DeltaDiscoveryRequest: {e}"));
        Self::decode(message).map_err(unreadable)
    }
}

impl XdsRequest for SotwRequest {
    const VARIANT: Variant = Variant::Sotw;

    fn node(&self) -> Option<&Node> {
        self.head.node.as_ref()
    }

    fn health(&self) -> Option<Result<(), &str>> {
        read_health(&self.head.type_url, self.head.error_detail.as_ref())
    }

    fn apply(&self, session: &mut Session) -> Result<Outcome, SessionError> {
        session.on_sotw(self)
    }
}

impl XdsRequest for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn health(&self) -> Option<Result<(), &str>> {
        read_health(&self.type_url, self.error_detail.as_ref())
    }

    fn apply(&self, session: &mut Session) -> Result<Outcome, SessionError> {
        session.on_delta(self)
    }
}

/// What a request says of the client's workload, if it says anything: a fault, or that there is none.
fn read_health<'a>(type_url: &str, error: Option<&'a rpc::Status>) -> Option<Result<(), &'a str>> {
    (type_url == HEALTH_TYPE).then(|| error.map_or(Ok(()), |error| Err(&*error.message)))
}

/// Where a stream is in its life.
enum Phase<R> {
    /// Nothing has come yet.
    Unknown,
    /// Its first snapshot is being built; the first request waits, later ones stay with the transport.
    Waiting(Arc<Connection>, R),
    /// It is served.
    Open(Arc<Connection>, Box<Session>),
    /// It has ended; its status was sent.
    Ended,
}

/// What is known of a caller beside its requests.
pub(super) struct Caller {
    /// When the caller gives up, by its own word.
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    /// The rights of one that has proved who it is.
    pub(super) standing: Option<Standing>,
    /// What transports its stream, where that can be cut.
    pub(super) line: Option<Line>,
}

pub(super) struct AdsStream<R> {
    requests: Requests<R>,
    fleet: Arc<Fleet>,
    pusher: Arc<Pusher>,
    phase: Phase<R>,
    frames: VecDeque<Bytes>,
    end: Option<Status>,
    deadline: Option<Pin<Box<Sleep>>>,
    standing: Option<Standing>,
    line: Option<Line>,
    /// The secrets of a caller that has proved who it is.
    secrets: Option<SecretLane>,
    /// The oldest change that the client has not got in full.
    since: Option<Since>,
    /// A request came since progress was last noted.
    has_moved: bool,
    /// When the stream is old enough to end.
    retirement: Option<Pin<Box<Sleep>>>,
    /// How long the client may still ask for endpoints before the rest goes on.
    expectation: Option<Pin<Box<Sleep>>>,
}

impl<R: XdsRequest> AdsStream<R> {
    pub(super) fn new(
        requests: Requests<R>,
        fleet: Arc<Fleet>,
        pusher: Arc<Pusher>,
        caller: Caller,
    ) -> Self {
        Self {
            requests,
            fleet,
            pusher,
            phase: Phase::Unknown,
            frames: VecDeque::new(),
            end: None,
            deadline: caller.deadline,
            since: None,
            has_moved: false,
            retirement: None,
            expectation: None,
            standing: caller.standing,
            line: caller.line,
            secrets: None,
        }
    }

    /// Take what has come: the mailbox, then requests. Both register for wake-up.
    fn take_input(&mut self, cx: &mut Context<'_>) {
        self.take_letter(cx);
        for _ in 0..MAX_REQUESTS_PER_POLL {
            if self.end.is_some() || matches!(self.phase, Phase::Waiting(..)) {
                return;
            }
            match self.requests.poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = Some(Status::ok("")),
                Poll::Ready(Some(Err(status))) => self.end = Some(status),
                Poll::Ready(Some(Ok(request))) => self.take_request(request, cx),
            }
        }
        cx.waker().wake_by_ref();
    }

    fn take_letter(&mut self, cx: &mut Context<'_>) {
        let (Phase::Waiting(connection, _) | Phase::Open(connection, _)) = &self.phase else {
            return;
        };
        let letter = connection.take_letter(cx.waker());
        if letter.is_closing {
            // Envoy reconnects at once, to another replica or to the next process.
            self.end = Some(Status::unavailable("the server is shutting down"));
            return;
        }
        let Some((target, since)) = letter.target else {
            return;
        };
        self.since = Some(self.since.map_or(since, |before| before.merge(since)));
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Waiting(connection, first) => {
                let names = Arc::clone(self.fleet.names());
                let session = Session::new(R::VARIANT, target, names);
                self.phase = Phase::Open(connection, Box::new(session));
                self.apply(&first);
                return;
            }
            Phase::Open(connection, mut session) => {
                let target = match &self.secrets {
                    Some(lane) => lane.add_to(&target),
                    None => target,
                };
                session.set_target(target);
                Phase::Open(connection, session)
            }
            other => other,
        };
    }

    fn take_request(&mut self, request: R, cx: &mut Context<'_>) {
        if let Some(standing) = &mut self.standing
            && let Err(status) = standing.take_message()
        {
            self.end = Some(status);
            return;
        }
        if !matches!(self.phase, Phase::Unknown) {
            return self.apply(&request);
        }
        match self.identify(request.node()) {
            Ok(mut proxy) => {
                // State of the world has no form for them.
                proxy.has_virtual_hosts_apart &= R::VARIANT == Variant::Delta;
                let connection = self.fleet.connect(Shared::new(proxy), R::VARIANT);
                if let Some(line) = self.line.take() {
                    connection.attach(line);
                }
                let age = self.fleet.limits().age_of(connection.id());
                self.retirement = age.map(|age| Box::pin(tokio::time::sleep(age)));
                let standing = self.standing.as_ref();
                self.secrets =
                    standing.map(|standing| standing.secrets_of(connection.proxy().clone()));
                self.phase = Phase::Waiting(Arc::clone(&connection), request);
                self.pusher.welcome(connection);
                self.take_letter(cx);
            }
            Err(status) => self.end = Some(status),
        }
    }

    fn apply(&mut self, request: &R) {
        let Phase::Open(connection, session) = &mut self.phase else {
            return;
        };
        self.has_moved = true;
        if let Some(health) = request.health() {
            if self.fleet.health().tell(connection, health) {
                self.pusher.notify(Instant::now());
            }
            return;
        }
        match request.apply(session) {
            Ok(outcome) => {
                let type_url = match outcome {
                    Outcome::Rejected(rejection) => {
                        let type_url = rejection.type_url;
                        self.fleet.note_rejection(connection, rejection);
                        type_url
                    }
                    Outcome::Accepted(type_url) | Outcome::Subscribed(type_url) => type_url,
                    Outcome::Stale(type_url) => {
                        self.fleet.metrics().count_expired_nonce(type_url);
                        return;
                    }
                    Outcome::UnknownType(_) => return,
                };
                if let Some(status) = session.status(type_url) {
                    self.fleet.note_status(connection, status);
                }
            }
            Err(error) => self.end = Some(Status::invalid_argument(error.to_string())),
        }
    }

    /// Take what has become known of the secrets that the client asks for.
    fn take_secrets(&mut self, cx: &mut Context<'_>) {
        let (Phase::Open(_, session), Some(lane)) = (&mut self.phase, &mut self.secrets) else {
            return;
        };
        if lane.poll(cx, session.names(TypeUrl::Secret)) {
            session.set_target(lane.add_to(session.target()));
        }
        session.hold_secrets(lane.is_pending());
    }

    /// Wait for the client to ask for what it has been given reason to, but not for ever. Whether it was long enough.
    fn has_expected_enough(&mut self, cx: &mut Context<'_>) -> bool {
        let Phase::Open(_, session) = &mut self.phase else {
            return false;
        };
        if !session.is_expecting() {
            self.expectation = None;
            return false;
        }
        let limit = self.fleet.limits().max_expectation;
        let sleep = &mut self.expectation;
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        let is_over = sleep.as_mut().poll(cx).is_ready();
        if is_over {
            session.expect_nothing();
            self.expectation = None;
        }
        is_over
    }

    /// Make the next response, if one is due.
    fn make_frames(&mut self) {
        let Phase::Open(connection, session) = &mut self.phase else {
            return;
        };
        if let Some(response) = session.next_response() {
            self.fleet.metrics().count_push(response.type_url);
            frame_message(response.segments, &mut self.frames);
            if let Some(status) = session.status(response.type_url) {
                self.fleet.note_status(connection, status);
            }
        } else if session.is_settled() {
            if let Some(since) = self.since.take() {
                self.fleet.metrics().observe_convergence(since);
            }
            // Envoy asks for listeners last; who asks for none makes room after a while.
            if session.has_asked(TypeUrl::Listener) && connection.note_synced() {
                self.pusher.make_room();
            }
        }
    }

    /// The transport has room for a piece: hand over the next, if there is one.
    fn take_frame(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front();
        if let Phase::Open(connection, session) = &self.phase {
            let is_owed = !self.frames.is_empty() || session.is_owed();
            connection.note_progress(is_owed, self.has_moved || frame.is_some());
        }
        self.has_moved = false;
        frame
    }

    /// Who asks; a caller that has proved who it is can ask as itself alone.
    fn identify(&self, node: Option<&Node>) -> Result<Proxy, Status> {
        let proxy = read_node(node)?;
        if let Some(standing) = &self.standing {
            standing.check_node(&proxy)?;
        }
        Ok(proxy)
    }

    /// Why the stream must end now, if its time is over.
    fn find_end_of_time(&mut self, cx: &mut Context<'_>) -> Option<Status> {
        let mut is_over = |sleep: &mut Option<Pin<Box<Sleep>>>| {
            let sleep = sleep.as_mut();
            sleep.is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        };
        if is_over(&mut self.deadline) {
            let text = "the stream's own timeout has passed";
            return Some(Status::deadline_exceeded(text));
        }
        if is_over(&mut self.retirement) {
            self.fleet.metrics().count_end(StreamEnd::MaxAge);
            let text = "the stream has reached its maximum age: connect anew";
            return Some(Status::unavailable(text));
        }
        None
    }
}

impl<R> AdsStream<R> {
    fn leave(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        if let Phase::Waiting(connection, _) | Phase::Open(connection, _) = phase {
            self.fleet.disconnect(&connection);
            self.pusher.part(connection.proxy().clone());
        }
    }
}

impl<R: XdsRequest> Body for AdsStream<R> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if !this.frames.is_empty()
            && let Some(bytes) = this.take_frame()
        {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if matches!(this.phase, Phase::Ended) {
            return Poll::Ready(None);
        }
        if let Some(status) = this.find_end_of_time(cx) {
            this.end = Some(status);
        }
        if let Some(standing) = &mut this.standing
            && let Some(status) = standing.poll_end(cx)
        {
            this.end = Some(status);
        }
        if this.end.is_none() {
            this.take_input(cx);
        }
        if let Some(status) = this.end.take() {
            this.leave();
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(
                write_status(&status, &mut trailers).map(|()| Frame::trailers(trailers)),
            ));
        }
        this.take_secrets(cx);
        this.make_frames();
        if this.frames.is_empty() && this.has_expected_enough(cx) {
            this.make_frames();
        }
        match this.take_frame() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

impl<R> Drop for AdsStream<R> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The proxy that the node of the first request describes.
fn read_node(node: Option<&Node>) -> Result<Proxy, Status> {
    let Some(node) = node else {
        return Err(Status::invalid_argument(
            "the first request has no node: set node.id and node.metadata in Envoy's bootstrap \
             (`navarch bootstrap` prints one)",
        ));
    };
    if node.metadata.is_none() {
        return Err(Status::invalid_argument(format!(
            "node `{}` has no metadata: set at least NAMESPACE and LABELS in node.metadata of \
             Envoy's bootstrap (`navarch bootstrap` prints one)",
            node.id
        )));
    }
    Proxy::from_node_json(node_json(node).to_string().as_bytes())
        .map_err(|e| Status::invalid_argument(e.to_string()))
}

/// What a proxy is read from. By hand: reflection would keep the descriptors of all of Envoy's messages for it.
fn node_json(node: &Node) -> serde_json::Value {
    let locality = node.locality.clone().unwrap_or_default();
    let extensions = node.extensions.iter();
    serde_json::json!({
        "id": node.id,
        "metadata": node.metadata.as_ref().map(struct_to_json),
        "locality": {
            "region": locality.region,
            "zone": locality.zone,
            "sub_zone": locality.sub_zone,
        },
        "extensions": extensions.map(|e| serde_json::json!({"name": e.name})).collect::<Vec<_>>(),
    })
}
