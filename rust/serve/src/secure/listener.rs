//! New connections: TLS, HTTP/2 and a proof within their times, and few that have given none.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::peer::Peer;
use super::tls::ServerTls;
use super::unproven::{Eviction, Place, Unproven};
use crate::line::LinedStream;

/// A handshake takes three round trips; a path of seconds is none that a proxy lives on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon after the handshake HTTP/2 must have begun.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon after HTTP/2 has begun a request must have proved who calls; a platform may take its time to answer.
const PROOF_TIMEOUT: Duration = Duration::from_secs(20);
/// The client's preface and the head of its first frame (RFC 9113, 3.4 and 4.1).
const PREFACE_BYTES: usize = 24 + 9;
const MAX_CONNECTIONS: usize = 20_000;
/// After an error of the system (no file is free), the next connection is awaited a little later.
const PAUSE: Duration = Duration::from_millis(50);

/// Take connections until nobody wants them.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    unproven: Arc<Unproven>,
    ready: mpsc::Sender<io::Result<PeerStream>>,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let Ok((stream, address)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        // Who is too many is closed without a word: an answer would cost a handshake.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            continue;
        };
        let (place, mut eviction) = unproven.enter(address.ip());
        let acceptor = TlsAcceptor::from(tls.config());
        let ready = ready.clone();
        tokio::spawn(async move {
            let shaken = tokio::select! {
                shaken = timeout(HANDSHAKE_TIMEOUT, shake(&acceptor, stream)) => shaken,
                _ = &mut eviction => return,
            };
            if let Ok(Ok(stream)) = shaken {
                let awaited = Awaited::new(eviction);
                let stream = PeerStream::new((stream, address), place, awaited, permit);
                // The server is gone: so is the connection.
                let _ = ready.send(Ok(stream)).await;
            }
        });
    }
}

async fn shake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<LinedStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(LinedStream::new(stream)).await
}

/// What a connection still owes: until it has shown it, its time runs and it may have to make room.
struct Awaited {
    deadline: Pin<Box<Sleep>>,
    n_read: usize,
    eviction: Eviction,
}

impl Awaited {
    fn new(eviction: Eviction) -> Self {
        Self {
            deadline: Box::pin(sleep(PREFACE_TIMEOUT)),
            n_read: 0,
            eviction,
        }
    }

    /// Count what was read; the first bytes give the connection the time for its proof.
    fn read(&mut self, n_bytes: usize) {
        let before = self.n_read;
        self.n_read = before.saturating_add(n_bytes);
        if before < PREFACE_BYTES && self.n_read >= PREFACE_BYTES {
            self.deadline = Box::pin(sleep_until(Instant::now() + PROOF_TIMEOUT));
        }
    }

    /// Whether all was shown, or an error if the connection must end.
    fn poll_shown(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        match Pin::new(&mut self.eviction).poll(cx) {
            Poll::Ready(Err(_)) => return Ok(true),
            Poll::Ready(Ok(())) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => {}
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(false)
    }
}

/// A connection whose handshake is done.
pub(super) struct PeerStream {
    stream: TlsStream<LinedStream>,
    peer: Peer,
    awaited: Option<Awaited>,
    _permit: OwnedSemaphorePermit,
}

impl PeerStream {
    fn new(
        (stream, address): (TlsStream<LinedStream>, SocketAddr),
        place: Place,
        awaited: Awaited,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (lined, tls) = stream.get_ref();
        let line = lined.connect_info();
        let peer = Peer::new((address, line), tls.peer_certificates(), place);
        Self {
            stream,
            peer,
            awaited: Some(awaited),
            _permit: permit,
        }
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let n_read = buffer.filled().len() - before;
        let Some(awaited) = &mut self.awaited else {
            return polled;
        };
        awaited.read(n_read);
        match awaited.poll_shown(cx) {
            Ok(false) => {}
            Ok(true) => self.awaited = None,
            Err(error) => return Poll::Ready(Err(error)),
        }
        polled
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
