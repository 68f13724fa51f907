//! The relay of ADS: Envoy's stream on a unix socket, carried on to the control plane with the workload's credentials.
//!
//! Frames pass as they come. Only the agent's own conversations on the same stream are looked at: the name table, and
//! the health of the application. When the control plane is lost, Envoy is told so and comes again, and the relay takes
//! it to whichever replica answers then (istio `pkg/istio-agent/xds_proxy.go`).

mod splitter;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use navarch_envoy::google::rpc;
use navarch_envoy::istio::networking::nds::v1::NameTable;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;

use crate::connect::{Connection, Upstream};
use crate::grpc::{self, Code, Messages, ResponseBody};
use crate::metrics::Metrics;
use crate::proof::{Credentials, Proof};
use splitter::{Piece, Splitter, request_type};

const SOTW: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// The type under which the application's health is told (istio `pilot/pkg/xds/v3/model.go`).
const HEALTH_TYPE: &str = "type.googleapis.com/istio.v1.HealthInformation";
const N_HELD_REQUESTS: usize = 64;
/// `INTERNAL`, as Istio's agent says that an application is not healthy.
const UNHEALTHY: i32 = 13;
const UNAUTHENTICATED: &str = "16";

/// Whether the application is healthy, and if not, why; `None` until it is known.
pub(crate) type Health = Option<Result<(), String>>;

/// What the relay knows, shared by its streams.
pub(crate) struct Relay {
    /// Where the control plane is.
    pub(crate) upstream: Upstream,
    /// How the workload proves itself, anew for every stream.
    pub(crate) proof: Arc<Proof>,
    /// Further headers of every stream.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Where name tables go, if DNS is served.
    pub(crate) names: Option<watch::Sender<Option<Arc<NameTable>>>>,
    /// What the application's health is.
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Carry one stream.
pub(crate) async fn answer(
    request: Request<Incoming>,
    relay: Arc<Relay>,
) -> Response<ResponseBody> {
    let is_delta = match request.uri().path() {
        SOTW => false,
        DELTA => true,
        _ => {
            return grpc::refuse(
                Code::Unimplemented,
                "the agent relays aggregated discovery only",
            );
        }
    };
    match carry(request, &relay, is_delta).await {
        Ok(response) => response,
        Err(fault) => {
            relay.metrics.count_stream(false);
            tracing::warn!("no stream to {}: {fault}", relay.upstream.address);
            grpc::refuse(Code::Unavailable, &fault)
        }
    }
}

async fn carry(
    request: Request<Incoming>,
    relay: &Arc<Relay>,
    is_delta: bool,
) -> Result<Response<ResponseBody>, String> {
    let shown = relay.proof.credentials();
    let opened = Connection::open(&relay.upstream, &shown).await;
    let mut connection = opened.map_err(|e| e.to_string())?;
    let (sender, body) = grpc::channel_body(N_HELD_REQUESTS);
    let (own_sender, own) = mpsc::channel(N_HELD_REQUESTS);
    let mut onward = Request::new(Body::new(body.map_err(|never| match never {})));
    *onward.method_mut() = http::Method::POST;
    *onward.uri_mut() = request.uri().path().parse().map_err(|_| "no path")?;
    let headers = onward.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.extend(relay.headers.iter().cloned());
    let requests = Requests {
        relay: Arc::clone(relay),
        is_delta,
        is_begun: false,
        sender,
    };
    // The peer may answer only after the first request.
    tokio::spawn(requests.run(request.into_body(), own));
    let answered = connection.send(onward).await.map_err(|e| told(&e))?;
    relay.metrics.count_stream(true);
    tracing::info!("Envoy is connected to {}", relay.upstream.address);
    let (head, body) = answered.into_parts();
    note_refusal(&head.headers, relay, &shown);
    let taken = relay.names.as_ref().map(|_| TypeUrl::NameTable.as_str());
    let responses = Responses {
        body,
        splitter: Splitter::new(taken, is_delta),
        relay: Arc::clone(relay),
        own: own_sender,
        shown,
        is_delta,
        is_ended: false,
    };
    Ok(Response::from_parts(head, responses.boxed()))
}

/// A control plane that does not know the caller says so at the stream's end, or at its beginning.
fn note_refusal(headers: &HeaderMap, relay: &Relay, shown: &Credentials) {
    if headers
        .get("grpc-status")
        .is_some_and(|status| status == UNAUTHENTICATED)
    {
        relay.proof.refuse(shown);
        let text = headers
            .get("grpc-message")
            .and_then(|text| text.to_str().ok());
        tracing::warn!(
            "{} does not know the workload: {}",
            relay.upstream.address,
            text.unwrap_or_default()
        );
    }
}

/// An error with its causes: hyper's own words leave them out.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Envoy's requests, with the agent's own between them.
struct Requests {
    relay: Arc<Relay>,
    is_delta: bool,
    /// Whether Envoy has told who it is and asked for listeners, so that the agent may ask too.
    is_begun: bool,
    sender: mpsc::Sender<Frame<Bytes>>,
}

impl Requests {
    async fn run(mut self, body: Incoming, mut own: mpsc::Receiver<Bytes>) {
        let mut requests = Messages::new(body);
        let mut health = self.relay.health.clone();
        loop {
            let is_open = tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => self.pass(&request).await,
                    Some(Err(grpc::TooLarge(n_bytes))) => {
                        tracing::error!(
                            "a request of Envoy's has {n_bytes} bytes: the stream is closed"
                        );
                        false
                    }
                    None => false,
                },
                Some(message) = own.recv() => self.send(message).await,
                Ok(()) = health.changed(), if self.is_begun => self.tell_health().await,
                () = self.sender.closed() => false,
            };
            if !is_open {
                return;
            }
        }
    }

    async fn pass(&mut self, request: &[u8]) -> bool {
        if !self.send(grpc::frame(request)).await {
            return false;
        }
        let is_listeners =
            request_type(request, self.is_delta) == Some(TypeUrl::Listener.as_str().as_bytes());
        self.is_begun || !is_listeners || self.begin().await
    }

    async fn begin(&mut self) -> bool {
        self.is_begun = true;
        if self.relay.names.is_some() {
            let asked = own_request(self.is_delta, TypeUrl::NameTable.as_str(), "", None);
            if !self.send(asked).await {
                return false;
            }
        }
        self.tell_health().await
    }

    async fn tell_health(&mut self) -> bool {
        let Some(health) = self.relay.health.borrow().clone() else {
            return true;
        };
        self.send(own_request(self.is_delta, HEALTH_TYPE, "", health.err()))
            .await
    }

    async fn send(&self, message: Bytes) -> bool {
        self.sender.send(Frame::data(message)).await.is_ok()
    }
}

/// A request of the agent's own: the node is known from Envoy's first.
fn own_request(is_delta: bool, type_url: &str, nonce: &str, fault: Option<String>) -> Bytes {
    let error_detail = fault.map(|message| rpc::Status {
        code: UNHEALTHY,
        message,
        ..rpc::Status::default()
    });
    if is_delta {
        return grpc::frame_message(&DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        });
    }
    grpc::frame_message(&DiscoveryRequest {
        type_url: type_url.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail,
        ..DiscoveryRequest::default()
    })
}

/// The control plane's responses, without those that are the agent's.
struct Responses {
    body: Incoming,
    splitter: Splitter,
    relay: Arc<Relay>,
    own: mpsc::Sender<Bytes>,
    /// What the stream was opened with.
    shown: Credentials,
    is_delta: bool,
    is_ended: bool,
}

impl Responses {
    fn take(&self, message: &[u8]) {
        let read = if self.is_delta {
            DeltaDiscoveryResponse::decode(message).map(|told| {
                let first = told.resources.into_iter().find_map(|r| r.resource);
                (first, told.nonce, String::new())
            })
        } else {
            DiscoveryResponse::decode(message).map(|told| {
                (
                    told.resources.into_iter().next(),
                    told.nonce,
                    told.version_info,
                )
            })
        };
        let (resource, nonce, version) = match read {
            Ok(read) => read,
            Err(error) => return tracing::warn!("the name table can't be read: {error}"),
        };
        if let (Some(resource), Some(names)) = (resource, &self.relay.names) {
            match NameTable::decode(resource.value.as_slice()) {
                Ok(table) => drop(names.send_replace(Some(Arc::new(table)))),
                Err(error) => tracing::warn!("the name table can't be read: {error}"),
            }
        }
        let ack = acknowledge(self.is_delta, nonce, version);
        // A stream that is this far behind in its requests is about to end.
        let _ = self.own.try_send(ack);
    }
}

fn acknowledge(is_delta: bool, response_nonce: String, version_info: String) -> Bytes {
    let type_url = TypeUrl::NameTable.as_str().to_owned();
    if is_delta {
        return grpc::frame_message(&DeltaDiscoveryRequest {
            type_url,
            response_nonce,
            ..DeltaDiscoveryRequest::default()
        });
    }
    grpc::frame_message(&DiscoveryRequest {
        type_url,
        response_nonce,
        version_info,
        ..DiscoveryRequest::default()
    })
}

impl http_body::Body for Responses {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            match self.splitter.pop() {
                Some(Piece::Pass(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Piece::Taken(message)) => {
                    self.take(&message);
                    continue;
                }
                None if self.is_ended => return Poll::Ready(None),
                None => {}
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.splitter.push(piece),
                    Err(trailers) => {
                        self.is_ended = true;
                        if let Some(headers) = trailers.trailers_ref() {
                            note_refusal(headers, &self.relay, &self.shown);
                        }
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                Some(Err(error)) => {
                    self.is_ended = true;
                    let fault = format!("lost {}: {}", self.relay.upstream.address, told(&error));
                    tracing::warn!("{fault}");
                    let trailers = grpc::trailers(Code::Unavailable, &fault);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                None => self.is_ended = true,
            }
        }
    }
}
