//! Requests as bytes on the wire.

use bytes::{BufMut, Bytes, BytesMut};
use navarch_envoy::envoy::config::core::v3::Node;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message as _;

use crate::envoy::{Names, Request};
use crate::message::Variant;
use crate::names::{Interner, NameId, NameSet, VersionTable};
use crate::protobuf::put_bytes;

/// `resource_names` of a `DiscoveryRequest`, `resource_names_subscribe` of a `DeltaDiscoveryRequest`.
const NAMES: u32 = 3;
/// `resource_names_unsubscribe` of a `DeltaDiscoveryRequest`.
const UNSUBSCRIBED: u32 = 4;
/// `initial_resource_versions` of a `DeltaDiscoveryRequest`: entries of a map.
const INITIAL_VERSIONS: u32 = 5;

/// The last list of names that was encoded: all sidecars of a world tell the same 2,800.
#[derive(Debug, Default)]
pub(crate) struct NamesCache(Option<(NameSet, Bytes)>);

impl NamesCache {
    fn encode(&mut self, names: NameSet, interner: &Interner) -> Bytes {
        if let Some((cached, bytes)) = &self.0
            && *cached == names
        {
            return bytes.clone();
        }
        let mut out = Vec::new();
        put_names(NAMES, names.iter(), interner, &mut out);
        let bytes = Bytes::from(out);
        self.0 = Some((names, bytes.clone()));
        bytes
    }
}

/// The gRPC frame of a request, in two pieces of which the second is shared (and may be empty).
pub(crate) fn encode(
    request: Request,
    variant: Variant,
    node: Option<&Node>,
    texts: (&Interner, &VersionTable),
    cache: &mut NamesCache,
) -> [Bytes; 2] {
    let (interner, versions) = texts;
    let type_url = request.type_url.as_str().to_owned();
    let mut head = match variant {
        Variant::Sotw => DiscoveryRequest {
            version_info: request.version,
            node: node.cloned(),
            type_url,
            response_nonce: request.nonce,
            ..DiscoveryRequest::default()
        }
        .encode_to_vec(),
        Variant::Delta => DeltaDiscoveryRequest {
            node: node.cloned(),
            type_url,
            response_nonce: request.nonce,
            ..DeltaDiscoveryRequest::default()
        }
        .encode_to_vec(),
    };
    let names = match request.names {
        Names::None => Bytes::new(),
        Names::All(names) => cache.encode(names, interner),
        Names::Delta { added, removed } => {
            put_names(NAMES, added, interner, &mut head);
            put_names(UNSUBSCRIBED, removed, interner, &mut head);
            let mut entry = Vec::new();
            for (name, version) in request.held {
                entry.clear();
                put_bytes(1, interner.name(name), &mut entry);
                put_bytes(2, versions.text(version), &mut entry);
                put_bytes(INITIAL_VERSIONS, &entry, &mut head);
            }
            Bytes::new()
        }
    };
    let mut frame = BytesMut::with_capacity(5 + head.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(head.len() + names.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&head);
    [frame.freeze(), names]
}

fn put_names(
    number: u32,
    names: impl IntoIterator<Item = NameId>,
    interner: &Interner,
    out: &mut Vec<u8>,
) {
    for name in names {
        put_bytes(number, interner.name(name), out);
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::TypeUrl;
    use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
    use prost::Message as _;

    use super::{NamesCache, encode};
    use crate::envoy::{Names, Request};
    use crate::message::Variant;
    use crate::names::{Interner, VersionTable};

    fn request(names: Names) -> Request {
        Request {
            type_url: TypeUrl::Endpoint,
            version: "v".into(),
            nonce: "n".into(),
            names,
            held: Vec::new(),
        }
    }

    #[test]
    fn pieces_are_the_message() {
        let mut interner = Interner::default();
        let (a, b) = (interner.intern(b"a"), interner.intern(b"b"));
        let (mut versions, mut cache) = (VersionTable::default(), NamesCache::default());
        for _ in 0..2 {
            let all = request(Names::All([a, b].into_iter().collect()));
            let frame =
                encode(all, Variant::Sotw, None, (&interner, &versions), &mut cache).concat();
            let read = DiscoveryRequest::decode(&frame[5..]).unwrap();
            assert_eq!(read.resource_names, ["a", "b"]);
            assert_eq!(
                (read.version_info, read.response_nonce),
                ("v".into(), "n".into())
            );
            assert_eq!(usize::from(frame[4]), frame.len() - 5);
        }
        let names = Names::Delta {
            added: vec![a],
            removed: vec![b],
        };
        let mut again = request(names);
        again.held = vec![(b, versions.intern(b, b"v7"))];
        let texts = (&interner, &versions);
        let frame = encode(again, Variant::Delta, None, texts, &mut cache).concat();
        let read = DeltaDiscoveryRequest::decode(&frame[5..]).unwrap();
        assert_eq!(read.resource_names_subscribe, ["a"]);
        assert_eq!(read.resource_names_unsubscribe, ["b"]);
        assert_eq!(read.initial_resource_versions["b"], "v7");
        assert_eq!(read.initial_resource_versions.len(), 1);
        assert_eq!(read.type_url, TypeUrl::Endpoint.as_str());
    }
}
