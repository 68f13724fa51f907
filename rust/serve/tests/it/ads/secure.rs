//! The authenticated port over loopback: TLS, a token, and the limits of its streams.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use hyper_util::rt::TokioIo;
use navarch_authority::{Authority, KeyKind, Lifetimes, RootOptions, make_root};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use navarch_model::Proxy;
use navarch_serve::StreamLimits;
use navarch_serve::secure::{
    Answer, CredentialReferences, Gate, GateOptions, GatewayReference, Issuers, ReviewDesk,
    SecretSource, SecretStore, SecureOptions, SecureServer, TokenFacts,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::rig::{self, Rig, Stream, delta_first};
use super::{delta_answer, eventually};
use crate::world::{World, world};

const SERVER_NAME: &str = "navarch.test";

struct NoReferences;

impl CredentialReferences for NoReferences {
    fn references_of(&self, _: &Proxy) -> Vec<GatewayReference> {
        Vec::new()
    }
}

/// A server with both ports, and who may connect to the authenticated one.
struct SecureRig {
    rig: Rig,
    server: SecureServer,
    tls: TlsConnector,
}

impl SecureRig {
    fn start(world: &World, limits: StreamLimits) -> Self {
        let rig = Rig::with_limits(world, limits);
        let now = seconds_now();
        let root = RootOptions {
            trust_domain: "cluster.local".into(),
            key: KeyKind::EcdsaP256,
            lifetime: Duration::from_secs(3600),
        };
        let files = make_root(&root, now).unwrap();
        let authority = Arc::new(Authority::new(&files, Lifetimes::default(), now).unwrap());
        let tls = connector(&authority.root_bundle());
        let gate = Gate::new(
            GateOptions {
                trust_domains: vec!["cluster.local".into()],
                has_reviewer: true,
                ..GateOptions::default()
            },
            Issuers::new(&[]).unwrap(),
        );
        let desk = Arc::clone(gate.desk());
        std::thread::spawn(move || answer_all(&desk));
        let options = SecureOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            server_names: vec![SERVER_NAME.into()],
            authority,
            gate,
            secrets: SecretSource {
                store: Arc::new(SecretStore::default()),
                references: Arc::new(NoReferences),
            },
        };
        let (fleet, pusher) = (Arc::clone(&rig.fleet), Arc::clone(&rig.pusher));
        // It waits for a runtime of its own, which a thread of the test's must not.
        let start = || SecureServer::start(options, fleet, pusher).unwrap();
        let server = std::thread::scope(|threads| threads.spawn(start).join().unwrap());
        Self { rig, server, tls }
    }

    /// A client that counts the connections that it opens.
    async fn client(&self) -> (Channel, Arc<AtomicUsize>) {
        let n_opened = Arc::new(AtomicUsize::new(0));
        let door = Door {
            address: self.server.address(),
            tls: self.tls.clone(),
            n_opened: Arc::clone(&n_opened),
        };
        let endpoint = Endpoint::from_shared(format!("http://{SERVER_NAME}")).unwrap();
        (
            endpoint.connect_with_connector(door).await.unwrap(),
            n_opened,
        )
    }
}

/// The platform: every token is the same service account's.
fn answer_all(desk: &ReviewDesk) {
    while let Some((id, _)) = desk.next(Duration::from_secs(60)) {
        let facts = TokenFacts {
            namespace: "shop".into(),
            service_account: "web".into(),
        };
        desk.answer(id, Answer::Token(facts));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server compares a token's end with the clock of its machine"
)]
fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn connector(roots_pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Opens TLS connections to one address.
struct Door {
    address: SocketAddr,
    tls: TlsConnector,
    n_opened: Arc<AtomicUsize>,
}

type Opening = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

impl tower_service::Service<Uri> for Door {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Opening {
        let (address, tls) = (self.address, self.tls.clone());
        self.n_opened.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            Ok(TokioIo::new(tls.connect(name, stream).await?))
        })
    }
}

/// Opens a stream. A request that a connection no longer takes goes to the next one, as gRPC's clients have it (RFC
/// 9113, section 8.7).
async fn delta(channel: Channel) -> Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
    let claims = format!("{{\"exp\": {}}}", seconds_now() + 600);
    let token = format!("e30.{}.c2lnbmVk", URL_SAFE_NO_PAD.encode(claims));
    loop {
        let grpc = rig::grpc(channel.clone()).await;
        match rig::open(grpc, "DeltaAggregatedResources", Some(&token)).await {
            Err(status) if status.code() == Code::Cancelled => {}
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_stream_ends_and_its_connection_takes_no_other() {
    let limits = StreamLimits {
        max_age: Some(Duration::from_millis(300)),
        ..StreamLimits::default()
    };
    let secure = SecureRig::start(&world(&["a"], 0), limits);
    let (channel, n_opened) = secure.client().await;
    let mut stream = delta(channel.clone()).await;
    stream.send(delta_first(TypeUrl::Cluster)).await;
    assert_eq!(stream.receive().await.unwrap().resources.len(), 1);
    let end = stream.receive().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert!(end.message().contains("connect anew"), "{end}");
    let mut next = delta(channel).await;
    next.send(delta_first(TypeUrl::Cluster)).await;
    assert_eq!(next.receive().await.unwrap().resources.len(), 1);
    let n_opened = n_opened.load(Ordering::SeqCst);
    assert_eq!(n_opened, 2, "the old connection was told to go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_is_cut_off_and_who_waits_for_nothing_is_not() {
    let limits = StreamLimits {
        max_stall: Duration::from_millis(400),
        ..StreamLimits::default()
    };
    // More than the window of hyper's client, 2 MB.
    let long = "x".repeat(1000);
    let names: Vec<String> = (0..2000).map(|i| format!("{i:04}-{long}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let secure = SecureRig::start(&world(&names, 0), limits);
    let stalled = delta(secure.client().await.0).await;
    stalled.send(delta_first(TypeUrl::Cluster)).await;
    let mut reading = delta(secure.client().await.0).await;
    reading.send(delta_first(TypeUrl::Cluster)).await;
    let first = reading.receive().await.unwrap();
    assert_eq!(first.resources.len(), names.len());
    let accepted = delta_answer(&first.nonce, TypeUrl::Cluster, None);
    reading.send(accepted).await;
    let fleet = &secure.rig.fleet;
    eventually("both streams", || fleet.connections().len() == 2).await;
    secure.rig.publish(&world(&names, 1));
    let second = reading.receive().await.unwrap();
    assert_eq!(second.resources.len(), names.len());
    eventually("the end", || fleet.connections().len() == 1).await;
    let text = fleet.metrics().to_text();
    let told = "navarch_stream_ends{reason=\"slow_reader\"} 1";
    assert!(text.contains(told), "{text}");
}
