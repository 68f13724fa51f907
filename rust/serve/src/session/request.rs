//! State-of-the-world requests, read no further than needed.
//!
//! Such a request repeats all names each time, also when it only accepts: an Envoy's answer to one changed
//! endpoint lists thousands of clusters. The names are read only when their bytes differ from the last ones.

use std::ops::Range;

use bytes::{Buf as _, Bytes};
use navarch_encode::Version;
use navarch_envoy::envoy::service::discovery::v3::DiscoveryRequest;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message as _};

/// The field number of `DiscoveryRequest.resource_names`.
const NAMES_TAG: u32 = 3;

/// A request whose names are still encoded.
#[derive(Clone, Debug)]
pub struct SotwRequest {
    /// The request without its names.
    pub head: DiscoveryRequest,
    /// The encoded `resource_names`.
    names: Bytes,
    n_names: usize,
}

impl SotwRequest {
    /// Read all but the names, which are only counted.
    pub fn decode(message: Bytes) -> Result<Self, DecodeError> {
        let Some((range, n_names)) = find_names(message.clone())? else {
            return Ok(Self::from(DiscoveryRequest::decode(message)?));
        };
        let (before, after) = (message.slice(..range.start), message.slice(range.end..));
        let head = DiscoveryRequest::decode(before.chain(after))?;
        Ok(Self {
            head,
            names: message.slice(range),
            n_names,
        })
    }

    /// How many names there are.
    pub(super) fn n_names(&self) -> usize {
        self.n_names
    }

    /// The same for the same names in the same order.
    pub(super) fn fingerprint(&self) -> Version {
        Version::of_bytes(&self.names)
    }

    /// The names; an error if they are not UTF-8.
    pub(super) fn read_names(&self) -> Result<Vec<String>, DecodeError> {
        Ok(DiscoveryRequest::decode(self.names.clone())?.resource_names)
    }
}

impl From<DiscoveryRequest> for SotwRequest {
    fn from(mut head: DiscoveryRequest) -> Self {
        let resource_names = std::mem::take(&mut head.resource_names);
        let n_names = resource_names.len();
        let names = DiscoveryRequest {
            resource_names,
            ..DiscoveryRequest::default()
        };
        Self {
            head,
            names: names.encode_to_vec().into(),
            n_names,
        }
    }
}

/// Where the names are, if they stand together as every encoder writes them, and how many.
fn find_names(message: Bytes) -> Result<Option<(Range<usize>, usize)>, DecodeError> {
    let len = message.len();
    let mut rest = message;
    let mut range: Option<Range<usize>> = None;
    let mut n_names = 0;
    while rest.has_remaining() {
        let start = len - rest.remaining();
        let (tag, wire_type) = decode_key(&mut rest)?;
        if tag != NAMES_TAG || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
            continue;
        }
        let name_len = usize::try_from(decode_varint(&mut rest)?).unwrap_or(usize::MAX);
        if name_len > rest.remaining() {
            // The full decoder says what is wrong.
            return Ok(None);
        }
        rest.advance(name_len);
        let end = len - rest.remaining();
        match &mut range {
            Some(range) if range.end == start => range.end = end,
            Some(_) => return Ok(None),
            None => range = Some(start..end),
        }
        n_names += 1;
    }
    Ok(Some((range.unwrap_or(0..0), n_names)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use navarch_envoy::envoy::service::discovery::v3::DiscoveryRequest;
    use prost::Message;

    use super::SotwRequest;

    fn request(names: &[&str]) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info: "v".into(),
            type_url: "t".into(),
            response_nonce: "n".into(),
            resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
            ..DiscoveryRequest::default()
        }
    }

    #[test]
    fn a_request_is_read_as_prost_reads_it() {
        for names in [&[][..], &["a"], &["b", "a", ""]] {
            let whole = request(names);
            let read = SotwRequest::decode(whole.encode_to_vec().into()).unwrap();
            assert_eq!(read.read_names().unwrap(), whole.resource_names);
            assert_eq!(read.n_names(), names.len());
            assert_eq!(
                read.fingerprint(),
                SotwRequest::from(whole.clone()).fingerprint()
            );
            assert_eq!(
                DiscoveryRequest {
                    resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
                    ..read.head
                },
                whole
            );
        }
    }

    #[test]
    fn names_apart_from_each_other_are_read_too() {
        let mut bytes = request(&["a"]).encode_to_vec();
        bytes.extend(request(&["b"]).encode_to_vec());
        let read = SotwRequest::decode(bytes.into()).unwrap();
        assert_eq!(read.read_names().unwrap(), ["a", "b"]);
    }

    #[test]
    fn broken_bytes_are_errors() {
        assert!(SotwRequest::decode(Bytes::from_static(&[0x1a, 0x7f, b'a'])).is_err());
        assert!(SotwRequest::decode(Bytes::from_static(&[0xff])).is_err());
        let read = SotwRequest::decode(Bytes::from_static(&[0x1a, 1, 0xff])).unwrap();
        assert!(read.read_names().is_err());
    }
}
