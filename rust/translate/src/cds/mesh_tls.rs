//! The TLS context of mutual TLS within the mesh, as bytes.
//!
//! Every cluster of the mesh has one, and only two things differ among them: the SNI and the names that the server may
//! have. The rest is encoded once, and put together in the order of the field numbers, as protobuf's own encoding of the
//! whole message would have it.

use std::sync::LazyLock;

use navarch_envoy::Any;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, UpstreamTlsContext, common_tls_context::CombinedCertificateValidationContext,
};
use prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, key_len, message, string,
};
use prost::{Message, Name};

use super::tls::{tls_parameters, validation_context};
use crate::config_source::{DEFAULT_SECRET, ROOT_SECRET, sds_secret};

/// Field numbers of `UpstreamTlsContext`, `CommonTlsContext`, `CombinedCertificateValidationContext`.
const COMMON_TLS_CONTEXT: u32 = 1;
const SNI: u32 = 2;
const COMBINED_VALIDATION_CONTEXT: u32 = 8;
const DEFAULT_VALIDATION_CONTEXT: u32 = 1;

/// Whom a cluster's proxies are, and what they speak.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeshTls {
    pub(super) is_istio: bool,
    pub(super) is_http2: bool,
}

/// What is the same for all clusters of a kind.
struct Parts {
    /// The fields of `CommonTlsContext` before the validation context, which stands where its `oneof` begins.
    before: Vec<u8>,
    /// The fields behind it.
    after: Vec<u8>,
    /// Where the trust anchors come from.
    roots: Vec<u8>,
}

static PARTS: [LazyLock<Parts>; 4] = [
    LazyLock::new(|| parts(false, false)),
    LazyLock::new(|| parts(false, true)),
    LazyLock::new(|| parts(true, false)),
    LazyLock::new(|| parts(true, true)),
];

fn parts(is_istio: bool, is_http2: bool) -> Parts {
    let names = [
        ("istio-peer-exchange", is_istio),
        ("istio", true),
        ("h2", is_http2),
    ];
    let names = names.into_iter().filter(|(_, is_offered)| *is_offered);
    let before = CommonTlsContext {
        tls_params: Some(tls_parameters()),
        ..CommonTlsContext::default()
    };
    let after = CommonTlsContext {
        alpn_protocols: names.map(|(name, _)| name.to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![sds_secret(DEFAULT_SECRET)],
        ..CommonTlsContext::default()
    };
    let roots = CombinedCertificateValidationContext {
        validation_context_sds_secret_config: Some(sds_secret(ROOT_SECRET)),
        ..CombinedCertificateValidationContext::default()
    };
    Parts {
        before: before.encode_to_vec(),
        after: after.encode_to_vec(),
        roots: roots.encode_to_vec(),
    }
}

/// The context, packed.
pub(super) fn mesh_context(tls: MeshTls, sans: Vec<String>, sni: &str) -> Any {
    let parts = &*PARTS[usize::from(tls.is_istio) * 2 + usize::from(tls.is_http2)];
    let names = validation_context(sans);
    let names_len = message::encoded_len(DEFAULT_VALIDATION_CONTEXT, &names);
    let validation_len = names_len + parts.roots.len();
    let common_len = parts.before.len()
        + nested_len(COMBINED_VALIDATION_CONTEXT, validation_len)
        + parts.after.len();
    let sni_len = key_len(SNI) + encoded_len_varint(sni.len() as u64) + sni.len();
    let mut value = Vec::with_capacity(nested_len(COMMON_TLS_CONTEXT, common_len) + sni_len);
    begin(COMMON_TLS_CONTEXT, common_len, &mut value);
    value.extend_from_slice(&parts.before);
    begin(COMBINED_VALIDATION_CONTEXT, validation_len, &mut value);
    message::encode(DEFAULT_VALIDATION_CONTEXT, &names, &mut value);
    value.extend_from_slice(&parts.roots);
    value.extend_from_slice(&parts.after);
    if !sni.is_empty() {
        string::encode(SNI, &sni.to_owned(), &mut value);
    }
    Any {
        type_url: UpstreamTlsContext::type_url(),
        value,
    }
}

/// The length of a message in a field.
fn nested_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

/// Write what stands before a message in a field.
fn begin(field: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

#[cfg(test)]
mod tests {
    use navarch_envoy::any::{pack, unpack};
    use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;

    use super::{MeshTls, mesh_context};

    #[test]
    fn the_parts_are_what_the_whole_message_would_be() {
        for (is_istio, is_http2) in [(false, false), (false, true), (true, false), (true, true)] {
            for sans in [
                &[][..],
                &["spiffe://a/b".to_owned(), "spiffe://a/c".to_owned()],
            ] {
                for sni in ["", "outbound_.80_._.a.b"] {
                    let made = mesh_context(MeshTls { is_istio, is_http2 }, sans.to_vec(), sni);
                    let read: UpstreamTlsContext = unpack(&made).unwrap();
                    assert_eq!(read.sni, sni);
                    assert_eq!(pack(&read), made);
                }
            }
        }
    }
}
