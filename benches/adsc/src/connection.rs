//! One sidecar on a TCP connection of its own; when that ends it comes again as Envoy does.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::Request as HttpRequest;
use navarch_envoy::envoy::config::core::v3::Node;
use tokio::net::TcpStream;

use crate::envoy::{Envoy, Request};
use crate::marker::Change;
use crate::message::{Message, Reader, Reading, Variant};
use crate::names::{Interner, VersionTable};
use crate::request::{NamesCache, encode};
use crate::wire::Splitter;

/// Envoy's windows since 1.36.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 24 * 1024 * 1024;
/// Envoy's pauses before it asks again: any length up to the first, which doubles until a response comes
/// (`JitteredExponentialBackOffStrategy`, `SubscriptionFactory::RetryInitialDelayMs`).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// What all sidecars are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) variant: Variant,
    /// Whether the name table of Istio's agent is asked for.
    pub(crate) asks_names: bool,
}

/// Sums over all sidecars.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) n_bytes: AtomicU64,
    pub(crate) n_responses: AtomicU64,
    pub(crate) n_resources: AtomicU64,
}

/// What a sidecar tells.
#[derive(Debug)]
pub(crate) enum Report {
    /// It has all that it asked for, for the first time.
    InSync { at: Instant },
    /// It has the change that is waited for.
    Reached { change: u64, at: Instant },
    /// Its stream has ended, which none does by itself; it comes again.
    Closed {
        sidecar: usize,
        why: String,
        missing: String,
    },
    /// It was let in by nobody, or its stream ended before the first response; it comes again.
    Refused { why: String },
}

/// What the sidecars of one thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) counters: Arc<Counters>,
    pub(crate) reports: Sender<Report>,
    pub(crate) change: RefCell<Option<Rc<Change>>>,
    pub(crate) interner: RefCell<Interner>,
    pub(crate) versions: RefCell<VersionTable>,
    pub(crate) cache: RefCell<NamesCache>,
}

/// Play one sidecar for as long as the program runs.
pub(crate) async fn run(shared: Rc<Shared>, sidecar: usize, node: Node) {
    let plan = shared.plan;
    let mut state = Sidecar {
        envoy: Envoy::new(plan.variant, plan.asks_names),
        was_in_sync: false,
        seen: (0, 0),
        has_reached: false,
        has_response: false,
    };
    let mut dice = fastrand::Rng::with_seed(sidecar as u64);
    let mut pause = FIRST_PAUSE;
    loop {
        state.has_response = false;
        let why = match state.play(&shared, &node).await {
            Ok(()) => "the server ended the stream".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let report = if state.has_response {
            pause = FIRST_PAUSE;
            Report::Closed {
                sidecar,
                why,
                missing: state.envoy.missing(),
            }
        } else {
            Report::Refused { why }
        };
        if shared.reports.send(report).is_err() {
            // Nobody listens once the program ends.
            return;
        }
        tokio::time::sleep(pause.mul_f64(dice.f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Sidecar {
    envoy: Envoy,
    was_in_sync: bool,
    /// The change waited for, and its markers seen so far.
    seen: (u64, u32),
    has_reached: bool,
    /// Whether the stream at hand has brought any.
    has_response: bool,
}

impl Sidecar {
    async fn play(&mut self, shared: &Shared, node: &Node) -> anyhow::Result<()> {
        let (mut sender, response) = open_stream(shared.plan).await?;
        let mut node = Some(node);
        for request in self.envoy.start() {
            send(shared, &mut sender, request, node.take())?;
        }
        // Some servers, Istio's among them, answer nothing before they have read a request.
        let mut body = take_body(response).await?;
        let mut splitter = Splitter::new();
        let mut reader = Reader::new(shared.plan.variant);
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            _ = body.flow_control().release_capacity(chunk.len());
            if splitter.is_between_messages() {
                reader.change.clone_from(&shared.change.borrow());
            }
            let done = {
                let mut interner = shared.interner.borrow_mut();
                let mut versions = shared.versions.borrow_mut();
                let mut reading = Reading {
                    reader: &mut reader,
                    interner: &mut interner,
                    versions: &mut versions,
                    done: Vec::new(),
                };
                splitter.feed(&chunk, &mut reading)?;
                reading.done
            };
            for message in done {
                for request in self.take(shared, reader.change.as_deref(), &message) {
                    send(shared, &mut sender, request, None)?;
                }
            }
        }
        if let Some(trailers) = body.trailers().await? {
            bail!("the server ended the stream: {trailers:?}");
        }
        Ok(())
    }

    fn take(
        &mut self,
        shared: &Shared,
        change: Option<&Change>,
        message: &Message,
    ) -> Vec<Request> {
        self.has_response = true;
        let counters = &shared.counters;
        counters
            .n_bytes
            .fetch_add(message.len as u64, Ordering::Relaxed);
        counters.n_responses.fetch_add(1, Ordering::Relaxed);
        counters
            .n_resources
            .fetch_add(message.names.len() as u64, Ordering::Relaxed);
        let requests = self.envoy.on_message(message);
        let is_in_sync = self.envoy.is_in_sync();
        if is_in_sync && !self.was_in_sync {
            self.was_in_sync = true;
            _ = shared.reports.send(Report::InSync { at: Instant::now() });
        }
        if let Some(change) = change {
            if self.seen.0 != change.id {
                self.seen = (change.id, 0);
                self.has_reached = false;
            }
            self.seen.1 |= message.markers;
            if !self.has_reached && is_in_sync && self.seen.1 == change.all() {
                self.has_reached = true;
                _ = shared.reports.send(Report::Reached {
                    change: change.id,
                    at: Instant::now(),
                });
            }
        }
        requests
    }
}

async fn open_stream(plan: Plan) -> anyhow::Result<(SendStream<Bytes>, ResponseFuture)> {
    let tcp = TcpStream::connect(plan.address).await.context("connect")?;
    tcp.set_nodelay(true)?;
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake::<_, Bytes>(tcp)
        .await?;
    // It ends with the stream; errors come out at the stream as well.
    tokio::task::spawn_local(connection);
    let method = match plan.variant {
        Variant::Sotw => "StreamAggregatedResources",
        Variant::Delta => "DeltaAggregatedResources",
    };
    let request = HttpRequest::post(format!("http://{}/{SERVICE}/{method}", plan.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, sender) = client.ready().await?.send_request(request, false)?;
    Ok((sender, response))
}

async fn take_body(response: ResponseFuture) -> anyhow::Result<RecvStream> {
    let response = response.await.context("response")?;
    if !response.status().is_success() || response.headers().contains_key("grpc-status") {
        bail!("refused: {} {:?}", response.status(), response.headers());
    }
    Ok(response.into_body())
}

fn send(
    shared: &Shared,
    sender: &mut SendStream<Bytes>,
    request: Request,
    node: Option<&Node>,
) -> anyhow::Result<()> {
    let pieces = encode(
        request,
        shared.plan.variant,
        node,
        (&shared.interner.borrow(), &shared.versions.borrow()),
        &mut shared.cache.borrow_mut(),
    );
    for piece in pieces {
        if !piece.is_empty() {
            sender.send_data(piece, false)?;
        }
    }
    Ok(())
}
