//! New connections: TLS within a time limit, few unfinished ones for each address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::peer::Peer;
use super::tls::ServerTls;
use crate::registry::lock;

/// A handshake takes three round trips; a path of seconds is none that a proxy lives on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon after the handshake HTTP/2 must have begun.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's preface and the head of its first frame (RFC 9113, 3.4 and 4.1).
const PREFACE_BYTES: usize = 24 + 9;
const MAX_UNFINISHED: usize = 4096;
/// So many sidecars may start at once behind one address (a node that translates addresses).
const MAX_UNFINISHED_PER_ADDRESS: usize = 256;
const MAX_CONNECTIONS: usize = 20_000;
/// After an error of the system (no file is free), the next connection is awaited a little later.
const PAUSE: Duration = Duration::from_millis(50);

/// How many handshakes go on, in all and for each address.
#[derive(Debug, Default)]
struct Unfinished {
    by_address: Mutex<HashMap<IpAddr, usize>>,
    in_all: std::sync::atomic::AtomicUsize,
}

/// One handshake that is counted.
struct Handshake {
    unfinished: Arc<Unfinished>,
    address: IpAddr,
}

impl Unfinished {
    fn begin(self: &Arc<Self>, address: IpAddr) -> Option<Handshake> {
        use std::sync::atomic::Ordering;
        let mut by_address = lock(&self.by_address);
        let count = by_address.entry(address).or_default();
        if *count >= MAX_UNFINISHED_PER_ADDRESS
            || self.in_all.load(Ordering::Relaxed) >= MAX_UNFINISHED
        {
            if *count == 0 {
                by_address.remove(&address);
            }
            return None;
        }
        *count += 1;
        self.in_all.fetch_add(1, Ordering::Relaxed);
        Some(Handshake {
            unfinished: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut by_address = lock(&self.unfinished.by_address);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        self.unfinished
            .in_all
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Take connections until nobody wants them.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    ready: mpsc::Sender<io::Result<PeerStream>>,
) {
    let unfinished = Arc::new(Unfinished::default());
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
        let permit = Arc::clone(&connections).try_acquire_owned();
        // Who is too many is closed without a word: an answer would cost a handshake.
        let (Some(handshake), Ok(permit)) = (unfinished.begin(address.ip()), permit) else {
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.config());
        let ready = ready.clone();
        tokio::spawn(async move {
            let shaken = timeout(HANDSHAKE_TIMEOUT, shake(&acceptor, stream)).await;
            drop(handshake);
            if let Ok(Ok(stream)) = shaken {
                let stream = PeerStream::new(stream, address, permit);
                // The server is gone: so is the connection.
                let _ = ready.send(Ok(stream)).await;
            }
        });
    }
}

async fn shake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}

/// A connection whose handshake is done.
pub(super) struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Until HTTP/2 has begun.
    awaited: Option<(Pin<Box<Sleep>>, usize)>,
    _permit: OwnedSemaphorePermit,
}

impl PeerStream {
    fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let peer = Peer::new(address, stream.get_ref().1.peer_certificates());
        Self {
            stream,
            peer,
            awaited: Some((Box::pin(sleep(PREFACE_TIMEOUT)), 0)),
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
        let Some((deadline, n_read)) = &mut self.awaited else {
            return polled;
        };
        *n_read += buffer.filled().len() - before;
        if *n_read >= PREFACE_BYTES {
            self.awaited = None;
        } else if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
