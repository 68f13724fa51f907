//! A server of a hand-made source on loopback, and gRPC clients of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use navarch_encode::{ResourceCache, ResourceSnapshot};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::core::v3::Node;
use navarch_envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use navarch_envoy::google::rpc;
use navarch_model::{Proxy, Shared};
use navarch_serve::{AdsServer, Fleet, Metrics, Pusher, ResourceSource, StreamLimits};
use prost::Message;
use prost_types::Struct;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::world::{World, snapshot};

const SERVICE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService";

/// A source that gives every proxy the world last published.
pub(super) struct Source {
    cache: ResourceCache,
    target: Mutex<Arc<ResourceSnapshot>>,
    panics: AtomicBool,
}

impl Source {
    pub(super) fn panic_next(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }
}

impl ResourceSource for Source {
    fn snapshot_for(&self, _: &Shared<Proxy>) -> Arc<ResourceSnapshot> {
        assert!(
            !self.panics.swap(false, Ordering::SeqCst),
            "as the test wished"
        );
        Arc::clone(&self.target.lock().unwrap())
    }
}

pub(super) struct Rig {
    pub(super) source: Arc<Source>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) server: AdsServer,
    pub(super) pusher: Arc<Pusher>,
}

impl Rig {
    pub(super) fn start(world: &World) -> Self {
        Self::with_limits(world, StreamLimits::default())
    }

    pub(super) fn with_limits(world: &World, limits: StreamLimits) -> Self {
        let cache = ResourceCache::new();
        let target = Mutex::new(snapshot(world, &cache));
        let source = Arc::new(Source {
            cache,
            target,
            panics: AtomicBool::new(false),
        });
        let fleet = Fleet::with_limits(Metrics::new(), limits);
        let pusher = Pusher::start(source.clone(), Arc::clone(&fleet)).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdsServer::start(any_port, 2, Arc::clone(&fleet), pusher.clone()).unwrap();
        Self {
            source,
            fleet,
            server,
            pusher,
        }
    }

    pub(super) fn publish(&self, world: &World) {
        *self.source.target.lock().unwrap() = snapshot(world, &self.source.cache);
        self.pusher.notify(Instant::now());
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    async fn grpc(&self) -> tonic::client::Grpc<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).unwrap();
        grpc(endpoint.connect().await.unwrap()).await
    }

    pub(super) async fn sotw(&self) -> Stream<DiscoveryRequest, DiscoveryResponse> {
        self.open("StreamAggregatedResources").await
    }

    pub(super) async fn delta(&self) -> Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
        self.open("DeltaAggregatedResources").await
    }

    async fn open<Q, A>(&self, method: &str) -> Stream<Q, A>
    where
        Q: Message + Default + Send + 'static,
        A: Message + Default + Send + 'static,
    {
        open(self.grpc().await, method, None).await.unwrap()
    }

    /// Call a method with a header and a request side that stays open; how it ends.
    pub(super) async fn call(&self, method: &str, header: Option<(&'static str, &str)>) -> Code {
        let (_requests, receiver) = mpsc::channel::<DiscoveryRequest>(1);
        let path = PathAndQuery::try_from(format!("{SERVICE}/{method}")).unwrap();
        let mut outgoing = Request::new(ReceiverStream::new(receiver));
        if let Some((name, value)) = header {
            outgoing.metadata_mut().insert(name, value.parse().unwrap());
        }
        let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        match self.grpc().await.streaming(outgoing, path, codec).await {
            Err(status) => status.code(),
            Ok(response) => match response.into_inner().message().await {
                Err(status) => status.code(),
                Ok(_) => Code::Ok,
            },
        }
    }

    /// Send bytes as they are as the request half of a stream; its gRPC status.
    pub(super) async fn send_garbage(&self, bytes: &[u8]) -> Code {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).unwrap();
        let mut channel = endpoint.connect().await.unwrap();
        let body = OneFrame(Some(Bytes::copy_from_slice(bytes)));
        let request = http::Request::post(format!("{SERVICE}/StreamAggregatedResources"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(body))
            .unwrap();
        std::future::poll_fn(|cx| tower_service::Service::poll_ready(&mut channel, cx))
            .await
            .unwrap();
        let response = tower_service::Service::call(&mut channel, request)
            .await
            .unwrap();
        let mut body = response.into_body();
        loop {
            let next = std::future::poll_fn(|cx| {
                http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)
            });
            match tokio::time::timeout(Duration::from_secs(10), next)
                .await
                .unwrap()
            {
                Some(Ok(frame)) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Code::from_bytes(trailers["grpc-status"].as_bytes());
                    }
                }
                _ => return Code::Unknown,
            }
        }
    }
}

/// A client on a connection.
pub(super) async fn grpc(channel: Channel) -> tonic::client::Grpc<Channel> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    grpc
}

/// Open a stream of a method, with a token if there is one.
pub(super) async fn open<Q, A>(
    mut grpc: tonic::client::Grpc<Channel>,
    method: &str,
    token: Option<&str>,
) -> Result<Stream<Q, A>, Status>
where
    Q: Message + Default + Send + 'static,
    A: Message + Default + Send + 'static,
{
    let (requests, receiver) = mpsc::channel(16);
    let path = PathAndQuery::try_from(format!("{SERVICE}/{method}")).unwrap();
    let mut outgoing = Request::new(ReceiverStream::new(receiver));
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        outgoing.metadata_mut().insert("authorization", bearer);
    }
    let codec = ProstCodec::<Q, A>::default();
    let responses = grpc.streaming(outgoing, path, codec).await?.into_inner();
    Ok(Stream {
        requests,
        responses,
    })
}

/// A body of one frame that does not end, as a stream that stays open.
struct OneFrame(Option<Bytes>);

impl http_body::Body for OneFrame {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
            None => std::task::Poll::Pending,
        }
    }
}

/// One open call.
pub(super) struct Stream<Q, A> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<A>,
}

impl<Q, A> Stream<Q, A> {
    pub(super) async fn send(&self, request: Q) {
        // A stream that has ended tells why when it is read.
        let _ = self.requests.send(request).await;
    }

    pub(super) async fn receive(&mut self) -> Result<A, Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.responses.message());
        match next.await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err(Status::ok("the stream ended")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::cancelled("nothing came in time")),
        }
    }
}

/// A sidecar that says enough of itself.
pub(super) fn node() -> Node {
    Node {
        id: "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local".into(),
        metadata: Some(Struct {
            fields: BTreeMap::new(),
        }),
        ..Node::default()
    }
}

pub(super) fn rejection(message: &str) -> rpc::Status {
    rpc::Status {
        code: 13,
        message: message.to_owned(),
        details: vec![],
    }
}

pub(super) fn sotw_first(t: TypeUrl) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node()),
        type_url: t.to_string(),
        ..DiscoveryRequest::default()
    }
}

pub(super) fn delta_first(t: TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: t.to_string(),
        ..DeltaDiscoveryRequest::default()
    }
}
