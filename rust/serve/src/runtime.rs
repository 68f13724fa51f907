//! The server's threads: start, the bound address, graceful drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio_stream::StreamExt as _;
use tonic::transport::server::TcpIncoming;

use crate::ads::AggregatedDiscovery;
use crate::line::LinedStream;
use crate::push::Pusher;
use crate::registry::Fleet;
use crate::running::{self, Running};

/// Connections that the kernel holds until they are accepted, as far as its own limit (`somaxconn`) allows.
const LISTEN_BACKLOG: u32 = 16_384;
/// An Envoy opens one or two streams; load clients and proxies between may share a connection.
const MAX_STREAMS_PER_CONNECTION: u32 = 100_000;

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
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
}

/// A running ADS server. Dropping it stops it at once; [`AdsServer::drain`] lets streams end.
pub struct AdsServer {
    address: SocketAddr,
    fleet: Arc<Fleet>,
    running: Running,
}

impl AdsServer {
    /// Listen on `address` (port 0 for any) with `n_threads` I/O threads.
    pub fn start(
        address: SocketAddr,
        n_threads: usize,
        fleet: Arc<Fleet>,
        pusher: Arc<Pusher>,
    ) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(n_threads.max(1))
            .thread_name("navarch-ads")
            .enable_all()
            .build()
            .map_err(ServeError::Threads)?;
        let bind_error = |source| ServeError::Bind { address, source };
        let incoming = {
            let _inside = runtime.enter();
            let listener = listen(address).map_err(bind_error)?;
            TcpIncoming::from(listener).with_nodelay(Some(true))
        };
        let bound = incoming.local_addr().map_err(bind_error)?;
        let incoming = incoming.map(|accepted| accepted.map(LinedStream::new));
        runtime.spawn(cut_stalled(Arc::clone(&fleet)));
        let server = running::server(fleet.limits().max_age)
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            .add_service(AggregatedDiscovery::new(Arc::clone(&fleet), pusher));
        Ok(Self {
            address: bound,
            fleet,
            running: Running::start(runtime, |stopped| {
                server.serve_with_incoming_shutdown(incoming, stopped.wait())
            }),
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stop listening, tell connections to go (GOAWAY), end the streams; give up after `timeout`.
    ///
    /// Returns whether all ended in time.
    pub fn drain(&self, timeout: Duration) -> bool {
        self.running.drain(timeout, || self.fleet.close_all())
    }
}

/// Cut off clients that take nothing, until the server stops.
async fn cut_stalled(fleet: Arc<Fleet>) {
    loop {
        tokio::time::sleep(fleet.limits().max_stall / 4).await;
        fleet.cut_stalled(Instant::now());
    }
}

/// Listen with room for a fleet that connects at once: where the kernel's queue is full, it resets connections.
///
/// Called inside a runtime.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}
