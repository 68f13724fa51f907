//! The requests of one stream, out of the body's frames.
//!
//! tonic's `Streaming` keeps the buffer of the largest message for the stream's life: 0.2 MB for each sidecar that
//! asked for 2,800 endpoints once. Here a buffer goes with its message.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;

/// A flag that says whether the message is compressed, and its length
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
const HEADER_BYTES: usize = 5;
/// An empty buffer up to this size is kept for the next message: acknowledgements are smaller.
const KEPT_BYTES: usize = 1024;

/// Reads a request from its bytes.
pub(super) trait ReadRequest: Sized {
    fn read(message: Bytes) -> Result<Self, Status>;
}

/// The messages of a body, in order.
pub(super) struct Requests<R> {
    body: Body,
    limit: usize,
    buffer: BytesMut,
    is_ended: bool,
    request: PhantomData<fn() -> R>,
}

impl<R: ReadRequest> Requests<R> {
    /// Messages of at most `limit` bytes.
    pub(super) fn new(body: Body, limit: usize) -> Self {
        Self {
            body,
            limit,
            buffer: BytesMut::new(),
            is_ended: false,
            request: PhantomData,
        }
    }

    /// The next request; after an error, or after the last one, `None`.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, Status>>> {
        loop {
            if self.is_ended {
                return Poll::Ready(None);
            }
            match self.take_message() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(R::read(message))),
                Err(status) => return self.end(Some(status)),
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Poll::Ready(Some(Err(status))) => return self.end(Some(status)),
                Poll::Ready(None) => {
                    let is_cut = !self.buffer.is_empty();
                    return self
                        .end(is_cut.then(|| Status::internal("the last request is cut off")));
                }
            }
        }
    }

    fn end(&mut self, status: Option<Status>) -> Poll<Option<Result<R, Status>>> {
        self.is_ended = true;
        self.buffer = BytesMut::new();
        Poll::Ready(status.map(Err))
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((header, rest)) = self.buffer.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        if header[0] != 0 {
            let text = "requests must not be compressed (grpc-encoding: identity)";
            return Err(Status::unimplemented(text));
        }
        let len = (&header[1..]).get_u32() as usize;
        if len > self.limit {
            let limit = self.limit;
            return Err(Status::out_of_range(format!(
                "a request of {len} bytes; at most {limit} are read"
            )));
        }
        if rest.len() < len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let message = self.buffer.split_to(len).freeze();
        if self.buffer.is_empty() && len > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use http_body::Frame;
    use tonic::body::Body;
    use tonic::{Code, Status};

    use super::{ReadRequest, Requests};

    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[derive(Debug, PartialEq)]
    struct Text(String);

    impl ReadRequest for Text {
        fn read(message: Bytes) -> Result<Self, Status> {
            Ok(Self(String::from_utf8_lossy(&message).into_owned()))
        }
    }

    /// What comes of bytes that arrive in pieces of so many.
    fn read(bytes: &[u8], piece: usize) -> (Vec<String>, Option<Code>) {
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let mut requests = Requests::<Text>::new(Body::new(Pieces(pieces)), 5000);
        let mut cx = Context::from_waker(Waker::noop());
        let mut texts = Vec::new();
        loop {
            match requests.poll_next(&mut cx) {
                Poll::Ready(Some(Ok(Text(text)))) => texts.push(text),
                Poll::Ready(Some(Err(status))) => return (texts, Some(status.code())),
                Poll::Ready(None) => return (texts, None),
                Poll::Pending => unreachable!("the body is there"),
            }
        }
    }

    fn framed(texts: &[&str]) -> Vec<u8> {
        let frame = |text: &&str| {
            let len = u32::try_from(text.len()).unwrap().to_be_bytes();
            [&[0], &len[..], text.as_bytes()].concat()
        };
        texts.iter().flat_map(frame).collect()
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let long = "x".repeat(4000);
        let texts = ["", "a", &long, "b"];
        for piece in [1, 3, 7, 1000, 10_000] {
            assert_eq!(
                read(&framed(&texts), piece),
                (texts.map(str::to_owned).to_vec(), None)
            );
        }
    }

    #[test]
    fn what_is_too_long_compressed_or_cut_off_is_an_error() {
        let too_long = framed(&["a", &"x".repeat(5001)]);
        let mut compressed = framed(&["a", "b"]);
        compressed[6] = 1;
        let cut_off = &framed(&["a", "bc"])[..12];
        let a = vec!["a".to_owned()];
        assert_eq!(read(&too_long, 100), (a.clone(), Some(Code::OutOfRange)));
        assert_eq!(
            read(&compressed, 100),
            (a.clone(), Some(Code::Unimplemented))
        );
        assert_eq!(read(cut_off, 100), (a, Some(Code::Internal)));
    }
}
