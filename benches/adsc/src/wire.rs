//! Splits a gRPC response stream into the fields of its messages while the bytes arrive.
//!
//! Nothing of a message is kept but the head of the field at hand: 500 sidecars that receive 3 MB each
//! at once would else cost more than the server that is measured.

/// The most bytes of one field that are handed on; names and references stand at its head.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;
const FRAME_HEADER_LEN: usize = 5;
const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// A stream that is no gRPC or no protobuf.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a compressed message, though none was asked for")]
    Compressed,
    #[error("a message of {0} bytes")]
    TooLong(usize),
    #[error("broken protobuf")]
    Broken,
}

/// Takes what a stream is made of.
pub(crate) trait Sink {
    /// Bytes of the message at hand, each once and in order.
    fn on_bytes(&mut self, part: &[u8]);
    /// A length-delimited field; `head` has its first [`MAX_HEAD_BYTES`].
    fn on_field(&mut self, number: u32, head: &[u8]);
    /// The message has ended; its length without the frame header.
    fn on_end(&mut self, len: usize);
}

#[derive(Debug)]
enum State {
    Key(Varint),
    Value(Varint),
    Fixed { left: usize },
    Len { number: u32, varint: Varint },
    Body { number: u32, left: usize },
}

#[derive(Clone, Copy, Debug, Default)]
struct Varint {
    value: u64,
    shift: u32,
}

impl Varint {
    /// Take a byte; the value when it was the last.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, WireError> {
        if self.shift > 63 {
            return Err(WireError::Broken);
        }
        self.value |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

/// The state between two chunks of one stream.
#[derive(Debug)]
pub(crate) struct Splitter {
    header: Vec<u8>,
    message_len: usize,
    left: usize,
    state: State,
    head: Vec<u8>,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Self {
            header: Vec::with_capacity(FRAME_HEADER_LEN),
            message_len: 0,
            left: 0,
            state: State::Key(Varint::default()),
            head: Vec::new(),
        }
    }

    /// Whether the next byte begins a message.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.header.is_empty()
    }

    /// Take the next chunk of the stream, wherever it was cut.
    pub(crate) fn feed(&mut self, mut chunk: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
        while !chunk.is_empty() {
            if self.header.len() < FRAME_HEADER_LEN {
                let n = chunk.len().min(FRAME_HEADER_LEN - self.header.len());
                self.header.extend_from_slice(&chunk[..n]);
                chunk = &chunk[n..];
                if self.header.len() == FRAME_HEADER_LEN {
                    self.begin_message()?;
                }
            } else {
                let (part, rest) = chunk.split_at(chunk.len().min(self.left));
                sink.on_bytes(part);
                self.feed_message(part, sink)?;
                self.left -= part.len();
                chunk = rest;
            }
            if self.left == 0 && self.header.len() == FRAME_HEADER_LEN {
                self.end_message(sink)?;
            }
        }
        Ok(())
    }

    fn begin_message(&mut self) -> Result<(), WireError> {
        let [flag, len @ ..] = self.header.as_slice() else {
            return Err(WireError::Broken);
        };
        if *flag != 0 {
            return Err(WireError::Compressed);
        }
        self.message_len = len.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        if self.message_len > MAX_MESSAGE_BYTES {
            return Err(WireError::TooLong(self.message_len));
        }
        self.left = self.message_len;
        self.state = State::Key(Varint::default());
        Ok(())
    }

    fn end_message(&mut self, sink: &mut impl Sink) -> Result<(), WireError> {
        if !matches!(self.state, State::Key(Varint { shift: 0, .. })) {
            return Err(WireError::Broken);
        }
        self.header.clear();
        sink.on_end(self.message_len);
        Ok(())
    }

    fn feed_message(&mut self, mut part: &[u8], sink: &mut impl Sink) -> Result<(), WireError> {
        while let Some((&byte, after)) = part.split_first() {
            match &mut self.state {
                State::Key(varint) => {
                    part = after;
                    if let Some(key) = varint.push(byte)? {
                        self.state = begin_field(key)?;
                    }
                }
                State::Value(varint) => {
                    part = after;
                    if varint.push(byte)?.is_some() {
                        self.state = State::Key(Varint::default());
                    }
                }
                State::Fixed { left } => {
                    part = after;
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Key(Varint::default());
                    }
                }
                State::Len { number, varint } => {
                    part = after;
                    let number = *number;
                    if let Some(len) = varint.push(byte)? {
                        self.begin_body(number, len, sink)?;
                    }
                }
                State::Body { number, left } => {
                    let (number, n) = (*number, part.len().min(*left));
                    *left -= n;
                    let is_last = *left == 0;
                    let body = &part[..n];
                    part = &part[n..];
                    self.take_body(number, body, is_last, sink);
                }
            }
        }
        Ok(())
    }

    fn begin_body(&mut self, number: u32, len: u64, sink: &mut impl Sink) -> Result<(), WireError> {
        let left = usize::try_from(len).map_err(|_| WireError::Broken)?;
        if left > self.message_len {
            return Err(WireError::Broken);
        }
        self.state = State::Body { number, left };
        if left == 0 {
            sink.on_field(number, &[]);
            self.state = State::Key(Varint::default());
        }
        Ok(())
    }

    fn take_body(&mut self, number: u32, body: &[u8], is_last: bool, sink: &mut impl Sink) {
        if is_last && self.head.is_empty() {
            sink.on_field(number, &body[..body.len().min(MAX_HEAD_BYTES)]);
        } else {
            let room = MAX_HEAD_BYTES - self.head.len();
            self.head.extend_from_slice(&body[..body.len().min(room)]);
        }
        if is_last {
            if !self.head.is_empty() {
                sink.on_field(number, &self.head);
                self.head.clear();
            }
            self.state = State::Key(Varint::default());
        }
    }
}

fn begin_field(key: u64) -> Result<State, WireError> {
    let number = u32::try_from(key >> 3).map_err(|_| WireError::Broken)?;
    Ok(match key & 7 {
        0 => State::Value(Varint::default()),
        1 => State::Fixed { left: 8 },
        2 => State::Len {
            number,
            varint: Varint::default(),
        },
        5 => State::Fixed { left: 4 },
        _ => return Err(WireError::Broken),
    })
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::service::discovery::v3::DiscoveryResponse;
    use prost::Message;
    use prost_types::Any;

    use super::{MAX_HEAD_BYTES, Sink, Splitter, WireError};

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        fields: Vec<(u32, Vec<u8>)>,
        bytes: Vec<u8>,
        ends: Vec<usize>,
    }

    impl Sink for Seen {
        fn on_bytes(&mut self, part: &[u8]) {
            self.bytes.extend_from_slice(part);
        }
        fn on_field(&mut self, number: u32, head: &[u8]) {
            self.fields.push((number, head.to_vec()));
        }
        fn on_end(&mut self, len: usize) {
            self.ends.push(len);
        }
    }

    fn frame(message: &DiscoveryResponse) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut out = vec![0];
        out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    fn response(value_len: usize) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: "v1".into(),
            resources: vec![Any {
                type_url: "t".into(),
                value: vec![7; value_len],
            }],
            canary: true,
            type_url: String::new(),
            nonce: "n".into(),
            ..DiscoveryResponse::default()
        }
    }

    fn feed(stream: &[u8], cut: usize) -> Result<Seen, WireError> {
        let (mut splitter, mut seen) = (Splitter::new(), Seen::default());
        for chunk in stream.chunks(cut) {
            splitter.feed(chunk, &mut seen)?;
        }
        Ok(seen)
    }

    #[test]
    fn any_cutting_gives_the_same_fields() {
        let message = response(100);
        let stream = [frame(&message), frame(&DiscoveryResponse::default())].concat();
        let whole = feed(&stream, stream.len()).unwrap();
        assert_eq!(whole.ends, [message.encoded_len(), 0]);
        assert_eq!(whole.bytes, message.encode_to_vec());
        let any = message.resources[0].encode_to_vec();
        let fields = [(1, b"v1".to_vec()), (2, any), (5, b"n".to_vec())];
        assert_eq!(whole.fields, fields);
        for cut in 1..20 {
            assert_eq!(feed(&stream, cut).unwrap(), whole);
        }
    }

    #[test]
    fn of_a_large_field_the_head_is_kept() {
        let stream = frame(&response(MAX_HEAD_BYTES * 2));
        for cut in [1000, stream.len()] {
            let seen = feed(&stream, cut).unwrap();
            assert_eq!(seen.fields[1].1.len(), MAX_HEAD_BYTES);
            assert_eq!(seen.fields[2], (5, b"n".to_vec()));
        }
    }

    #[test]
    fn broken_streams_are_told() {
        assert_eq!(feed(&[1, 0, 0, 0, 0], 5), Err(WireError::Compressed));
        assert_eq!(feed(&[0, 0, 0, 0, 1, 0xff], 6), Err(WireError::Broken));
        assert_eq!(
            feed(&[0, 0, 0, 0, 2, 0x0a, 0x7f], 7),
            Err(WireError::Broken)
        );
    }
}
