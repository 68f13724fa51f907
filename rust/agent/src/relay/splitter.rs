//! Finds the agent's own messages among the responses that pass, without putting the others together.
//!
//! A response may be of many megabytes; its type stands at its beginning, or in its first resource.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::grpc::{HEADER_LEN, message_length};

/// A message's type is known after this much of it, or is not looked for any longer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes for Envoy, as they came.
    Pass(Bytes),
    /// A whole message, without its header, of the type that is taken out.
    Taken(Bytes),
}

enum State {
    /// The message's type is not known yet; what came of it is held.
    Deciding,
    /// The rest of a message of which so many bytes are still to come.
    Passing(usize),
    /// A message of so many bytes with its header is put together.
    Taking(usize),
}

/// Splits one stream of responses.
pub(super) struct Splitter {
    /// The type that is taken out, if any is.
    taken: Option<&'static str>,
    is_delta: bool,
    state: State,
    held: Bytes,
    out: VecDeque<Piece>,
}

impl Splitter {
    pub(super) fn new(taken: Option<&'static str>, is_delta: bool) -> Self {
        Self {
            taken,
            is_delta,
            state: State::Deciding,
            held: Bytes::new(),
            out: VecDeque::new(),
        }
    }

    /// Take what came; [`Splitter::pop`] gives what is to go on.
    pub(super) fn push(&mut self, mut piece: Bytes) {
        if self.taken.is_none() {
            self.out.push_back(Piece::Pass(piece));
            return;
        }
        while !piece.is_empty() {
            if let State::Passing(left) = self.state {
                let now = piece.split_to(left.min(piece.len()));
                self.state = match left - now.len() {
                    0 => State::Deciding,
                    left => State::Passing(left),
                };
                self.out.push_back(Piece::Pass(now));
                continue;
            }
            let mut held = self.join(std::mem::take(&mut piece));
            if matches!(self.state, State::Deciding) {
                self.decide(&held);
            }
            match self.state {
                // The bytes start a message: what is of it passes in the next round.
                State::Passing(_) => piece = held,
                State::Taking(total) if held.len() >= total => {
                    let mut message = held.split_to(total);
                    message.advance(HEADER_LEN);
                    self.out.push_back(Piece::Taken(message));
                    self.state = State::Deciding;
                    piece = held;
                }
                State::Taking(_) | State::Deciding => self.held = held,
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Piece> {
        self.out.pop_front()
    }

    fn join(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            return piece;
        }
        let mut joined = BytesMut::from(std::mem::take(&mut self.held));
        joined.extend_from_slice(&piece);
        joined.freeze()
    }

    fn decide(&mut self, held: &[u8]) {
        let Some((header, body)) = held.split_first_chunk::<HEADER_LEN>() else {
            return;
        };
        let length = message_length(*header);
        let body = &body[..body.len().min(length)];
        let found = find_type(body, self.is_delta);
        let is_known = found.is_some() || body.len() == length || body.len() > MAX_HEAD_BYTES;
        if !is_known {
            return;
        }
        let total = HEADER_LEN + length;
        self.state = if found.is_some_and(|found| Some(found) == self.taken.map(str::as_bytes)) {
            State::Taking(total)
        } else {
            State::Passing(total)
        };
    }
}

/// A field of a message: its number and, if it is of bytes, as much of them as is there.
struct Field<'a> {
    number: u64,
    bytes: Option<&'a [u8]>,
    is_whole: bool,
}

/// Walks a message's fields as far as its bytes go.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let number = key >> 3;
        let is_skipped = match key & 7 {
            0 => self.varint().is_some(),
            1 => self.skip(8),
            5 => self.skip(4),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (now, rest) = self.0.split_at(length.min(self.0.len()));
                self.0 = rest;
                return Some(Field {
                    number,
                    bytes: Some(now),
                    is_whole: now.len() == length,
                });
            }
            _ => false,
        };
        is_skipped.then_some(Field {
            number,
            bytes: None,
            is_whole: true,
        })
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut made = 0;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            made |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Some(made);
            }
        }
        None
    }

    fn skip(&mut self, n_bytes: usize) -> bool {
        match self.0.split_at_checked(n_bytes) {
            Some((_, rest)) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }
}

/// A whole field of bytes, the first of its number.
fn find_field(message: &[u8], number: u64) -> Option<&[u8]> {
    let found = Fields(message).find(|field| field.number == number)?;
    found.bytes.filter(|_| found.is_whole)
}

/// The type of a response as far as it has come: by its own field, or by its first resource's.
fn find_type(message: &[u8], is_delta: bool) -> Option<&[u8]> {
    const RESOURCES: u64 = 2;
    const TYPE_URL: u64 = 4;
    for field in Fields(message) {
        let bytes = field.bytes.unwrap_or_default();
        match field.number {
            TYPE_URL if field.is_whole => return Some(bytes),
            RESOURCES => {
                let packed = if is_delta {
                    Fields(bytes).find(|f| f.number == 2)?.bytes?
                } else {
                    bytes
                };
                if let Some(found) = find_field(packed, 1) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    None
}

/// The type of a request.
pub(super) fn request_type(message: &[u8], is_delta: bool) -> Option<&[u8]> {
    find_field(message, if is_delta { 2 } else { 4 })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use navarch_envoy::TypeUrl;
    use navarch_envoy::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        Resource,
    };
    use prost::Message as _;
    use prost_types::Any;

    use super::{Piece, Splitter, request_type};
    use crate::grpc::{frame, frame_message};

    fn any(type_url: TypeUrl, n_bytes: usize) -> Any {
        Any {
            type_url: type_url.as_str().into(),
            value: vec![7; n_bytes],
        }
    }

    /// A response as Go's and prost's encoders write it: the type after the resources.
    fn sotw(type_url: TypeUrl, n_bytes: usize) -> Bytes {
        frame_message(&DiscoveryResponse {
            version_info: "1".into(),
            resources: vec![any(type_url, n_bytes), any(type_url, 3)],
            type_url: type_url.as_str().into(),
            nonce: "n".into(),
            ..DiscoveryResponse::default()
        })
    }

    fn delta(type_url: TypeUrl, n_bytes: usize) -> Bytes {
        frame_message(&DeltaDiscoveryResponse {
            resources: vec![Resource {
                name: "a".into(),
                version: "1".into(),
                resource: Some(any(type_url, n_bytes)),
                ..Resource::default()
            }],
            type_url: type_url.as_str().into(),
            ..DeltaDiscoveryResponse::default()
        })
    }

    fn run(splitter: &mut Splitter, sent: &[u8], size: usize) -> (Vec<u8>, Vec<Bytes>) {
        let (mut passed, mut taken) = (Vec::new(), Vec::new());
        for piece in sent.chunks(size) {
            splitter.push(Bytes::copy_from_slice(piece));
            while let Some(piece) = splitter.pop() {
                match piece {
                    Piece::Pass(bytes) => passed.extend_from_slice(&bytes),
                    Piece::Taken(message) => taken.push(message),
                }
            }
        }
        (passed, taken)
    }

    #[test]
    fn one_type_is_taken_out_and_the_rest_passes_byte_for_byte() {
        for (is_delta, make) in [(false, sotw as fn(_, _) -> _), (true, delta)] {
            let clusters = make(TypeUrl::Cluster, 300_000);
            let table = make(TypeUrl::NameTable, 40_000);
            let listeners = make(TypeUrl::Listener, 5);
            let empty = frame(b"");
            let sent = [&clusters[..], &table, &listeners, &empty, &table].concat();
            for size in [1, 4, 1000, 16_384, sent.len()] {
                let mut splitter = Splitter::new(Some(TypeUrl::NameTable.as_str()), is_delta);
                let (passed, taken) = run(&mut splitter, &sent, size);
                assert!(
                    passed == [&clusters[..], &listeners, &empty].concat(),
                    "{size}"
                );
                assert_eq!(taken, [table.slice(5..), table.slice(5..)]);
            }
        }
    }

    proptest::proptest! {
        /// Whatever comes, cut wherever: it passes byte for byte, or is held, and nothing is made up.
        #[test]
        fn no_bytes_break_it(sent: Vec<u8>, size in 1_usize..40, is_delta: bool) {
            let mut splitter = Splitter::new(Some(TypeUrl::NameTable.as_str()), is_delta);
            let (passed, taken) = run(&mut splitter, &sent, size);
            if taken.is_empty() {
                proptest::prop_assert!(sent.starts_with(&passed));
            }
        }

        /// Damaged messages do not keep the stream from passing those before them.
        #[test]
        fn what_came_before_a_damaged_message_has_passed(at: usize, byte: u8, size in 1_usize..400) {
            let whole = sotw(TypeUrl::Cluster, 50);
            let mut damaged = sotw(TypeUrl::NameTable, 50).to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            let mut splitter = Splitter::new(Some(TypeUrl::NameTable.as_str()), false);
            let (passed, _) = run(&mut splitter, &[&whole[..], &damaged].concat(), size);
            proptest::prop_assert!(passed.starts_with(&whole));
            let _ = request_type(&damaged, at.is_multiple_of(2));
        }
    }

    #[test]
    fn a_large_message_passes_before_it_is_whole() {
        let sent = sotw(TypeUrl::Cluster, 1_000_000);
        let mut splitter = Splitter::new(Some(TypeUrl::NameTable.as_str()), false);
        let (passed, _) = run(&mut splitter, &sent[..16_384], 16_384);
        assert_eq!(passed.len(), 16_384);
    }

    #[test]
    fn nothing_is_looked_at_where_nothing_is_taken() {
        let mut splitter = Splitter::new(None, true);
        let (passed, _) = run(&mut splitter, b"anything at all", 4);
        assert_eq!(passed, b"anything at all");
    }

    #[test]
    fn requests_tell_their_type_in_both_forms() {
        let type_url = TypeUrl::Listener.as_str();
        let sotw = DiscoveryRequest {
            version_info: "1".into(),
            type_url: type_url.into(),
            ..DiscoveryRequest::default()
        };
        assert_eq!(
            request_type(&sotw.encode_to_vec(), false),
            Some(type_url.as_bytes())
        );
        let delta = DeltaDiscoveryRequest {
            type_url: type_url.into(),
            ..DeltaDiscoveryRequest::default()
        };
        assert_eq!(
            request_type(&delta.encode_to_vec(), true),
            Some(type_url.as_bytes())
        );
        assert_eq!(request_type(b"\xff", true), None);
    }
}
