//! The threads of the authenticated port: start, the bound address, graceful drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use navarch_authority::Authority;
use navarch_identity::certificate_service::IstioCertificateServiceServer;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::certificates::Certificates;
use super::figures::Figures;
use super::gate::Gate;
use super::guarded::GuardedDiscovery;
use super::listener;
use super::secret_lane::SecretSource;
use super::tls::{ServerTls, TlsError};
use super::unproven::Unproven;
use super::wall_clock;
use crate::ads::AggregatedDiscovery;
use crate::push::Pusher;
use crate::registry::Fleet;
use crate::running::{self, Running};
use crate::runtime::listen;

/// I/O threads; handshakes are their heaviest work.
const N_THREADS: usize = 2;
/// An agent has one stream and asks for a certificate now and then.
const MAX_STREAMS_PER_CONNECTION: u32 = 100;
/// Streams that a client may reset before they are answered; more ends the connection (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// A token has 2 kB.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// A request for a certificate has 3 kB.
const MAX_CERTIFICATE_REQUEST_BYTES: usize = 64 * 1024;
/// How often the server's certificate and the roots are looked at.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that have not proved whose they are.
const MAX_UNPROVEN: usize = 8192;
/// Connections that are shaken and not yet taken by the server.
const MAX_READY: usize = 64;

/// Why the port can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// The address is taken, or not ours.
    #[error("can't listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Threads can't be started.
    #[error("can't start the server's threads")]
    Threads(#[source] std::io::Error),
    /// The process has such a port already.
    #[error("there is an authenticated port already")]
    Figures(#[from] prometheus::Error),
    /// There is no certificate to serve with.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What is served, and as whom.
pub struct SecureOptions {
    /// Where to listen; port 0 for any.
    pub address: SocketAddr,
    /// The names in the server's certificate.
    pub server_names: Vec<String>,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// Who is let in.
    pub gate: Arc<Gate>,
    /// The secrets that callers may have.
    pub secrets: SecretSource,
}

/// The authenticated port. Dropping it closes it at once; [`SecureServer::drain`] lets streams end.
pub struct SecureServer {
    address: SocketAddr,
    fleet: Arc<Fleet>,
    gate: Arc<Gate>,
    running: Running,
}

impl SecureServer {
    /// Listen. Streams join `fleet` and get their resources from `pusher`.
    pub fn start(
        options: SecureOptions,
        fleet: Arc<Fleet>,
        pusher: Arc<Pusher>,
    ) -> Result<Self, SecureError> {
        let SecureOptions {
            address,
            server_names,
            authority,
            gate,
            secrets,
        } = options;
        let tls = ServerTls::new(Arc::clone(&authority), server_names, wall_clock())?;
        let tls = Arc::new(tls);
        let runtime = start_threads()?;
        let bind_error = |source| SecureError::Bind { address, source };
        let listener = runtime
            .block_on(async { listen(address) })
            .map_err(bind_error)?;
        let bound = listener.local_addr().map_err(bind_error)?;
        let (ready, incoming) = mpsc::channel(MAX_READY);
        let figures = Figures::register(fleet.metrics().registry())?;
        let unproven = Unproven::new(MAX_UNPROVEN, figures.clone());
        runtime.spawn(listener::accept(
            listener,
            Arc::clone(&tls),
            unproven,
            ready,
        ));
        tls.tell_ends(&figures, wall_clock());
        runtime.spawn(keep_fresh(tls, figures.clone()));
        let discovery = GuardedDiscovery {
            inner: AggregatedDiscovery::new(Arc::clone(&fleet), pusher),
            gate: Arc::clone(&gate),
            secrets,
            figures: figures.clone(),
        };
        let certificates = Certificates {
            authority,
            gate: Arc::clone(&gate),
            figures,
        };
        let certificates = IstioCertificateServiceServer::new(certificates)
            .max_decoding_message_size(MAX_CERTIFICATE_REQUEST_BYTES);
        let server = running::server(fleet.limits().max_age)
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            .add_service(discovery)
            .add_service(certificates);
        let incoming = ReceiverStream::new(incoming);
        Ok(Self {
            address: bound,
            fleet,
            gate,
            running: Running::start(runtime, |stopped| {
                server.serve_with_incoming_shutdown(incoming, stopped.wait())
            }),
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The gate of the port.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Stop listening, end the streams; give up after `timeout`. Whether all ended in time.
    pub fn drain(&self, timeout: Duration) -> bool {
        self.gate.desk().close();
        self.running.drain(timeout, || self.fleet.close_all())
    }
}

impl Drop for SecureServer {
    fn drop(&mut self) {
        self.gate.desk().close();
    }
}

fn start_threads() -> Result<Runtime, SecureError> {
    let made = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(N_THREADS)
        .max_blocking_threads(N_THREADS * 4)
        .thread_name("navarch-secure")
        .enable_all()
        .build();
    made.map_err(SecureError::Threads)
}

/// Renew what connections are opened with, until the server stops.
async fn keep_fresh(tls: Arc<ServerTls>, figures: Figures) {
    loop {
        tokio::time::sleep(REFRESH_INTERVAL).await;
        // An authority that can't sign now leaves the certificate of before, which is good for half of its life.
        let _ = tls.refresh(wall_clock());
        tls.tell_ends(&figures, wall_clock());
    }
}
