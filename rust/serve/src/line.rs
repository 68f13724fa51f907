//! Connections that can be cut from outside: a stream whose client takes nothing is not asked for frames any more, so
//! that it can't end itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

/// A hold on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Arc<State>);

impl Line {
    /// Have the connection fail. Whether it was whole before.
    pub(crate) fn cut(&self) -> bool {
        let was_cut = self.0.is_cut.swap(true, Ordering::SeqCst);
        self.0.waker.wake();
        !was_cut
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.waker.register(cx.waker());
        if self.0.is_cut.load(Ordering::SeqCst) {
            let text = "the client neither took nor answered anything while more waited for it";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }
}

/// A connection with a hold on it, which requests carry as an extension.
#[derive(Debug)]
pub(crate) struct LinedStream {
    stream: TcpStream,
    line: Line,
}

impl LinedStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            line: Line::default(),
        }
    }
}

impl Connected for LinedStream {
    type ConnectInfo = Line;

    fn connect_info(&self) -> Line {
        self.line.clone()
    }
}

impl AsyncRead for LinedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for LinedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.check(cx)?;
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
