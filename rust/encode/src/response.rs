//! Discovery responses spliced from ready bytes.
//!
//! A protobuf message is the concatenation of its fields, so a response is a small prefix of the
//! stream's own (type, version, nonce) followed by bodies that all streams of a group share.
//! Field numbers: `envoy/service/discovery/v3/discovery.proto`.

use std::sync::Arc;

use bytes::Bytes;
use navarch_envoy::TypeUrl;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::resource::EncodedResource;
use crate::version::Version;

mod sotw {
    pub(super) const VERSION_INFO: u32 = 1;
    pub(super) const RESOURCES: u32 = 2;
    pub(super) const TYPE_URL: u32 = 4;
    pub(super) const NONCE: u32 = 5;
}

mod delta {
    pub(super) const SYSTEM_VERSION_INFO: u32 = 1;
    pub(super) const RESOURCES: u32 = 2;
    pub(super) const TYPE_URL: u32 = 4;
    pub(super) const NONCE: u32 = 5;
    pub(super) const REMOVED_RESOURCES: u32 = 6;
}

mod resource {
    pub(super) const VERSION: u32 = 1;
    pub(super) const RESOURCE: u32 = 2;
    pub(super) const NAME: u32 = 3;
}

/// The fields of a `DiscoveryResponse` but its resources.
pub fn encode_sotw_prefix(type_url: TypeUrl, version: Version, nonce: &str) -> Bytes {
    let mut out = Vec::with_capacity(160);
    put(sotw::VERSION_INFO, version.to_string().as_bytes(), &mut out);
    put(sotw::TYPE_URL, type_url.as_str().as_bytes(), &mut out);
    put(sotw::NONCE, nonce.as_bytes(), &mut out);
    out.into()
}

/// The fields of a `DeltaDiscoveryResponse` but its resources and removed names.
pub fn encode_delta_prefix(type_url: TypeUrl, version: Version, nonce: &str) -> Bytes {
    let mut out = Vec::with_capacity(160);
    put(
        delta::SYSTEM_VERSION_INFO,
        version.to_string().as_bytes(),
        &mut out,
    );
    put(delta::TYPE_URL, type_url.as_str().as_bytes(), &mut out);
    put(delta::NONCE, nonce.as_bytes(), &mut out);
    out.into()
}

/// Resources as the `resources` field of a `DiscoveryResponse`.
pub fn encode_sotw_resources(resources: &[Arc<EncodedResource>]) -> Vec<u8> {
    let len = resources
        .iter()
        .map(|r| field_len(sotw::RESOURCES, r.any.len()))
        .sum();
    let mut out = Vec::with_capacity(len);
    for resource in resources {
        put(sotw::RESOURCES, &resource.any, &mut out);
    }
    out
}

/// Resources as the `resources` field of a `DeltaDiscoveryResponse`.
pub fn encode_delta_resources(resources: &[Arc<EncodedResource>]) -> Vec<u8> {
    let len = resources
        .iter()
        .map(|r| field_len(delta::RESOURCES, delta_resource_len(r)))
        .sum();
    let mut out = Vec::with_capacity(len);
    for resource in resources {
        encode_key(delta::RESOURCES, WireType::LengthDelimited, &mut out);
        encode_varint(delta_resource_len(resource) as u64, &mut out);
        put(resource::NAME, resource.name.as_bytes(), &mut out);
        put(
            resource::VERSION,
            resource.version.to_string().as_bytes(),
            &mut out,
        );
        put(resource::RESOURCE, &resource.any, &mut out);
    }
    out
}

/// Names as the `removed_resources` field of a `DeltaDiscoveryResponse`.
pub fn encode_removed(names: &[Arc<str>]) -> Vec<u8> {
    let len = names
        .iter()
        .map(|n| field_len(delta::REMOVED_RESOURCES, n.len()))
        .sum();
    let mut out = Vec::with_capacity(len);
    for name in names {
        put(delta::REMOVED_RESOURCES, name.as_bytes(), &mut out);
    }
    out
}

/// Resources encoded by `encode`, appended as pieces: large ones are shared, small ones copied together.
pub fn splice_resources(
    resources: &[Arc<EncodedResource>],
    encode: fn(&[Arc<EncodedResource>]) -> Vec<u8>,
    segments: &mut Vec<Bytes>,
) {
    const LARGE_BYTES: usize = 16 * 1024;
    for run in resources.chunk_by(|a, b| a.any.len().max(b.any.len()) < LARGE_BYTES) {
        match run {
            [large] if large.any.len() >= LARGE_BYTES => {
                let mut header = encode(run);
                // The resource's own bytes come last in its field, in both forms of the response.
                header.truncate(header.len() - large.any.len());
                segments.push(header.into());
                segments.push(large.any.clone());
            }
            small => segments.push(encode(small).into()),
        }
    }
}

fn delta_resource_len(resource: &EncodedResource) -> usize {
    const VERSION_LEN: usize = 16;
    field_len(resource::NAME, resource.name.len())
        + field_len(resource::VERSION, VERSION_LEN)
        + field_len(resource::RESOURCE, resource.any.len())
}

fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn put(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_envoy::TypeUrl;
    use navarch_envoy::any::pack;
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use navarch_envoy::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse, Resource,
    };
    use prost::Message;

    use super::{
        encode_delta_prefix, encode_delta_resources, encode_removed, encode_sotw_prefix,
        encode_sotw_resources, splice_resources,
    };
    use crate::resource::EncodedResource;
    use crate::version::Version;

    fn clusters() -> (Vec<Cluster>, Vec<Arc<EncodedResource>>) {
        let message = |name: &str| Cluster {
            name: name.into(),
            ..Cluster::default()
        };
        let messages = vec![message("a"), message("b")];
        let encoded = messages
            .iter()
            .map(|m| Arc::new(EncodedResource::encode(m)))
            .collect();
        (messages, encoded)
    }

    #[test]
    fn spliced_sotw_response_is_the_message() {
        let (messages, encoded) = clusters();
        let version = Version::of_bytes(b"x");
        let mut bytes = encode_sotw_prefix(TypeUrl::Cluster, version, "n1").to_vec();
        bytes.extend(encode_sotw_resources(&encoded));
        assert_eq!(
            DiscoveryResponse::decode(bytes.as_slice()).unwrap(),
            DiscoveryResponse {
                version_info: version.to_string(),
                resources: messages.iter().map(pack).collect(),
                type_url: TypeUrl::Cluster.to_string(),
                nonce: "n1".into(),
                ..DiscoveryResponse::default()
            }
        );
    }

    #[test]
    fn large_resources_are_spliced_in_shared() {
        let cluster = |name: &str, len: usize| {
            let message = Cluster {
                name: name.into(),
                alt_stat_name: "x".repeat(len),
                ..Cluster::default()
            };
            Arc::new(EncodedResource::encode(&message))
        };
        let resources = [
            cluster("a", 1),
            cluster("b", 1),
            cluster("c", 40_000),
            cluster("d", 1),
        ];
        for encode in [encode_sotw_resources, encode_delta_resources] {
            let mut segments = Vec::new();
            splice_resources(&resources, encode, &mut segments);
            assert_eq!(segments.concat(), encode(&resources));
            assert!(
                segments
                    .iter()
                    .any(|s| s.as_ptr() == resources[2].any.as_ptr())
            );
        }
    }

    #[test]
    fn spliced_delta_response_is_the_message() {
        let (messages, encoded) = clusters();
        let version = Version::of_bytes(b"x");
        let mut bytes = encode_delta_prefix(TypeUrl::Cluster, version, "n1").to_vec();
        bytes.extend(encode_delta_resources(&encoded));
        bytes.extend(encode_removed(&["gone".into()]));
        let resources = messages.iter().zip(&encoded).map(|(m, e)| Resource {
            name: m.name.clone(),
            version: e.version.to_string(),
            resource: Some(pack(m)),
            ..Resource::default()
        });
        assert_eq!(
            DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap(),
            DeltaDiscoveryResponse {
                system_version_info: version.to_string(),
                resources: resources.collect(),
                type_url: TypeUrl::Cluster.to_string(),
                nonce: "n1".into(),
                removed_resources: vec!["gone".into()],
                ..DeltaDiscoveryResponse::default()
            }
        );
    }
}
