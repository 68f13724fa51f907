//! gRPC frames made of shared bytes.

use bytes::Bytes;
use std::collections::VecDeque;

/// The five bytes before each gRPC message: not compressed, and its length.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const HEADER_LEN: usize = 5;

/// Frame a message that is in pieces: the header joins the first piece, the others stay shared.
pub(crate) fn frame_message(segments: Vec<Bytes>, out: &mut VecDeque<Bytes>) {
    let len: usize = segments.iter().map(Bytes::len).sum();
    let mut segments = segments.into_iter();
    let first = segments.next().unwrap_or_default();
    let mut head = Vec::with_capacity(HEADER_LEN + first.len());
    head.push(0);
    // A message of more than 4 GiB can't be framed; a mesh's largest response is some MB.
    head.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    head.extend_from_slice(&first);
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
        let body = Bytes::from(vec![7; 300]);
        let mut out = VecDeque::new();
        frame_message(vec![Bytes::from_static(b"ab"), body.clone()], &mut out);
        assert_eq!(out[0].as_ref(), [0, 0, 0, 1, 46, b'a', b'b']);
        assert_eq!(out[1].as_ptr(), body.as_ptr());
    }

    #[test]
    fn an_empty_message_has_a_header() {
        let mut out = VecDeque::new();
        frame_message(Vec::new(), &mut out);
        assert_eq!(out[0].as_ref(), [0; 5]);
    }
}
