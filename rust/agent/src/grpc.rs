//! gRPC over HTTP/2 as far as the agent speaks it itself: messages framed by hand, a status at the end.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::convert::Infallible;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;
use tokio::sync::mpsc;

/// The five bytes before each message: whether it is compressed, and its length.
pub(crate) const HEADER_LEN: usize = 5;
/// The largest message that is put together here; those that are passed on have no limit.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// The codes that the agent answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    Unimplemented = 12,
    Unavailable = 14,
}

/// A response body, whatever it is made of.
pub(crate) type ResponseBody = BoxBody<Bytes, hyper::Error>;

/// A message too large to be put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge(pub(crate) usize);

/// The messages of a body.
pub(crate) struct Messages<B> {
    body: B,
    deframer: Deframer,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    pub(crate) fn new(body: B) -> Self {
        Self {
            body,
            deframer: Deframer::default(),
        }
    }

    /// The next message; None when the body has ended, or its connection broke.
    ///
    /// Dropped before it is ready it loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, TooLarge>> {
        loop {
            if let Some(next) = self.deframer.next_message().transpose() {
                return Some(next);
            }
            let piece = self.body.frame().await?.ok()?;
            if let Ok(piece) = piece.into_data() {
                self.deframer.push(&piece);
            }
        }
    }
}

/// Puts messages together from the pieces that they come in.
#[derive(Default)]
struct Deframer {
    held: BytesMut,
}

impl Deframer {
    /// Take a piece.
    fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// The next whole message without its header, if it is there.
    fn next_message(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let Some(header) = self.held.first_chunk::<HEADER_LEN>().copied() else {
            return Ok(None);
        };
        let length = message_length(header);
        if length > MAX_MESSAGE_BYTES {
            return Err(TooLarge(length));
        }
        if self.held.len() < HEADER_LEN + length {
            self.held.reserve(HEADER_LEN + length - self.held.len());
            return Ok(None);
        }
        self.held.advance(HEADER_LEN);
        Ok(Some(self.held.split_to(length).freeze()))
    }
}

/// The length that a header tells.
pub(crate) fn message_length(header: [u8; HEADER_LEN]) -> usize {
    u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

/// A message that is encoded already, with its header.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_LEN + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// A message with its header.
pub(crate) fn frame_message(message: &impl Message) -> Bytes {
    frame(&message.encode_to_vec())
}

/// The trailers of a status.
pub(crate) fn trailers(code: Code, text: &str) -> HeaderMap {
    let mut made = HeaderMap::new();
    made.insert("grpc-status", HeaderValue::from(code as u16));
    // Control characters would end the header; what is not ASCII is rare here and replaced.
    let plain: String = text
        .chars()
        .map(|c| {
            if (' '..='~').contains(&c) && c != '%' {
                c
            } else {
                '?'
            }
        })
        .collect();
    if let Ok(message) = HeaderValue::from_str(&plain) {
        made.insert("grpc-message", message);
    }
    made
}

/// A response that is a status and nothing else.
pub(crate) fn refuse(code: Code, text: &str) -> Response<ResponseBody> {
    let mut response = respond(BoxBody::default());
    response.headers_mut().extend(trailers(code, text));
    response
}

/// A response whose messages, and at last its trailers, come from a body.
pub(crate) fn respond(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// Pieces that a task sends, as a body; it ends when the task drops its end.
pub(crate) struct Pieces<T> {
    receiver: mpsc::Receiver<T>,
}

impl futures_core::Stream for Pieces<Frame<Bytes>> {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|piece| piece.map(Ok))
    }
}

/// A channel whose receiving end is a body.
pub(crate) fn channel_body(
    n_held: usize,
) -> (mpsc::Sender<Frame<Bytes>>, StreamBody<Pieces<Frame<Bytes>>>) {
    let (sender, receiver) = mpsc::channel(n_held);
    (sender, StreamBody::new(Pieces { receiver }))
}

#[cfg(test)]
mod tests {
    use super::{Deframer, TooLarge, frame};

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let sent = [frame(b"one"), frame(b""), frame(&[7; 300])].concat();
        for size in [1, 3, 7, sent.len()] {
            let mut deframer = Deframer::default();
            let mut lengths = Vec::new();
            for piece in sent.chunks(size) {
                deframer.push(piece);
                while let Some(message) = deframer.next_message().unwrap() {
                    lengths.push(message.len());
                }
            }
            assert_eq!(lengths, [3, 0, 300]);
        }
    }

    #[test]
    fn an_endless_message_is_not_waited_for() {
        let mut deframer = Deframer::default();
        deframer.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(deframer.next_message(), Err(TooLarge(u32::MAX as usize)));
    }
}
