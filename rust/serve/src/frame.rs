//! gRPC frames made of shared bytes.

use bytes::Bytes;
use std::collections::VecDeque;

/// The five bytes before each gRPC message: not compressed, and its length.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const HEADER_LEN: usize = 5;
/// Messages up to this length go as one piece: copying them costs less than a second frame on the wire.
const ONE_PIECE_LEN: usize = 4096;

/// Frame a message that is in pieces: the header joins the first piece; the others stay shared, unless all are small.
pub(crate) fn frame_message(segments: Vec<Bytes>, out: &mut VecDeque<Bytes>) {
    let len: usize = segments.iter().map(Bytes::len).sum();
    let mut segments = segments.into_iter();
    let is_small = len <= ONE_PIECE_LEN;
    let first = segments.next().unwrap_or_default();
    let mut head = Vec::with_capacity(HEADER_LEN + if is_small { len } else { first.len() });
    head.push(0);
    // A message of more than 4 GiB can't be framed; a mesh's largest response is some MB.
    head.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    head.extend_from_slice(&first);
    for segment in segments
        .by_ref()
        .take(if is_small { usize::MAX } else { 0 })
    {
        head.extend_from_slice(&segment);
    }
    out.push_back(head.into());
    out.extend(segments);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use std::collections::VecDeque;

    use super::frame_message;

    #[test]
    fn later_pieces_are_not_copied() {
        let body = Bytes::from(vec![7; 5000]);
        let mut out = VecDeque::new();
        frame_message(vec![Bytes::from_static(b"ab"), body.clone()], &mut out);
        assert_eq!(out[0].as_ref(), [0, 0, 0, 19, 138, b'a', b'b']);
        assert_eq!(out[1].as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_small_message_is_one_piece() {
        let mut out = VecDeque::new();
        let pieces = [&b"ab"[..], b"c", b"de"].map(Bytes::from_static);
        frame_message(pieces.to_vec(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ref(), b"\0\0\0\0\x05abcde");
    }

    #[test]
    fn an_empty_message_has_a_header() {
        let mut out = VecDeque::new();
        frame_message(Vec::new(), &mut out);
        assert_eq!(out[0].as_ref(), [0; 5]);
    }
}
