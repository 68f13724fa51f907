//! Mutual TLS within the mesh, as bytes.
//!
//! Every cluster of the mesh has it, and only two things differ among them: the SNI and the names that the server may
//! have. The rest is encoded once.

use std::sync::{Arc, LazyLock};

use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use navarch_envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, UpstreamTlsContext, common_tls_context::CombinedCertificateValidationContext,
};
use navarch_envoy::field::envoy::config::cluster::v3::cluster as field;
use navarch_envoy::field::envoy::config::core::v3::transport_socket as socket;
use navarch_envoy::field::envoy::extensions::transport_sockets::tls::v3::{
    certificate_validation_context as validation, common_tls_context as common,
    upstream_tls_context as context,
};
use navarch_envoy::field::envoy::r#type::matcher::v3::string_matcher;
use navarch_envoy::field::google::protobuf::any;
use navarch_envoy::wire::{Template, Writer};
use prost::{Message, Name};
use prost_types::Struct;

use super::protobuf::{object, text, transport_socket};
use super::tls::{RAW_SOCKET, TLS_SOCKET, tls_parameters};
use crate::config_source::{DEFAULT_SECRET, ROOT_SECRET, sds_secret};

/// How a cluster's proxies speak mutual TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MeshTls {
    pub(super) is_istio: bool,
    pub(super) is_http2: bool,
    /// Only to endpoints that are marked for it.
    pub(super) is_matched_by_endpoint: bool,
}

/// Names that a server may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum ServerNames<'a> {
    /// Of the endpoints.
    Identities(&'a [Arc<str>]),
    /// As a rule lists them.
    Listed(&'a [String]),
}

/// What differs from cluster to cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeshNames<'a> {
    pub(super) server_names: ServerNames<'a>,
    /// The parts of the SNI.
    pub(super) sni: [&'a str; 6],
}

/// What is the same for all clusters of a kind.
struct Parts {
    context_url: String,
    common: [Template; 4],
    validation: Template,
    /// The match of endpoints with mutual TLS, and the one of all others.
    marked: Template,
    others: Vec<u8>,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| Parts {
    context_url: UpstreamTlsContext::type_url(),
    common: [(false, false), (false, true), (true, false), (true, true)]
        .map(|(is_istio, is_http2)| common_context(is_istio, is_http2)),
    validation: Template::of(
        &CombinedCertificateValidationContext {
            validation_context_sds_secret_config: Some(sds_secret(ROOT_SECRET)),
            ..CombinedCertificateValidationContext::default()
        },
        common::combined_certificate_validation_context::ONEOFS,
    ),
    marked: Template::of(
        &TransportSocketMatch {
            name: "tlsMode-istio".into(),
            r#match: Some(object([("tlsMode", text("istio"))])),
            transport_socket: None,
        },
        field::transport_socket_match::ONEOFS,
    ),
    others: TransportSocketMatch {
        name: "tlsMode-disabled".into(),
        r#match: Some(Struct::default()),
        transport_socket: Some(transport_socket(RAW_SOCKET, &RawBuffer::default())),
    }
    .encode_to_vec(),
});

fn common_context(is_istio: bool, is_http2: bool) -> Template {
    let names = [
        ("istio-peer-exchange", is_istio),
        ("istio", true),
        ("h2", is_http2),
    ];
    let names = names.into_iter().filter(|(_, is_offered)| *is_offered);
    let message = CommonTlsContext {
        tls_params: Some(tls_parameters()),
        alpn_protocols: names.map(|(name, _)| name.to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![sds_secret(DEFAULT_SECRET)],
        ..CommonTlsContext::default()
    };
    Template::of(&message, common::ONEOFS)
}

impl MeshTls {
    /// Write a cluster's only transport socket, if it has one for all endpoints.
    pub(super) fn write_socket(self, names: &MeshNames<'_>, cluster: &mut Writer) {
        if !self.is_matched_by_endpoint {
            cluster.message(field::TRANSPORT_SOCKET, |out| self.write(names, out));
        }
    }

    /// Write mutual TLS to the endpoints that are marked for it and plaintext to the others, if a cluster has both.
    pub(super) fn write_socket_matches(self, names: &MeshNames<'_>, cluster: &mut Writer) {
        if !self.is_matched_by_endpoint {
            return;
        }
        cluster.message(field::TRANSPORT_SOCKET_MATCHES, |out| {
            let mut marked = PARTS.marked.fill(out);
            let number = field::transport_socket_match::TRANSPORT_SOCKET;
            marked.message(number, |out| self.write(names, out));
            marked.finish();
        });
        cluster.encoded(field::TRANSPORT_SOCKET_MATCHES, &PARTS.others);
    }

    /// Put the transport sockets into a cluster that is not written yet.
    pub(super) fn apply(self, names: &MeshNames<'_>, cluster: &mut Cluster) {
        let mut out = Writer::default();
        self.write_socket(names, &mut out);
        self.write_socket_matches(names, &mut out);
        let merged = cluster.merge(out.as_slice());
        debug_assert_eq!(merged, Ok(()), "what was just written can be read");
    }

    fn write(self, names: &MeshNames<'_>, out: &mut Writer) {
        out.text(socket::NAME, &[TLS_SOCKET]);
        out.message(socket::TYPED_CONFIG, |out| {
            out.text(any::TYPE_URL, &[&PARTS.context_url]);
            out.message(any::VALUE, |out| self.write_context(names, out));
        });
    }

    fn write_context(self, names: &MeshNames<'_>, out: &mut Writer) {
        let template = &PARTS.common[usize::from(self.is_istio) * 2 + usize::from(self.is_http2)];
        out.message(context::COMMON_TLS_CONTEXT, |out| {
            let mut filling = template.fill(out);
            filling.message(common::COMBINED_VALIDATION_CONTEXT, |out| {
                let mut filling = PARTS.validation.fill(out);
                filling.message(
                    common::combined_certificate_validation_context::DEFAULT_VALIDATION_CONTEXT,
                    |out| names.server_names.write(out),
                );
                filling.finish();
            });
            filling.finish();
        });
        if names.sni.iter().any(|part| !part.is_empty()) {
            out.text(context::SNI, &names.sni);
        }
    }
}

impl ServerNames<'_> {
    fn write(&self, out: &mut Writer) {
        let mut write = |name: &str| {
            out.message(validation::MATCH_SUBJECT_ALT_NAMES, |matcher| {
                matcher.text(string_matcher::EXACT, &[name]);
            });
        };
        match self {
            Self::Identities(names) => names.iter().for_each(|name| write(name)),
            Self::Listed(names) => names.iter().for_each(|name| write(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::any::{pack, unpack};
    use navarch_envoy::envoy::config::cluster::v3::Cluster;
    use navarch_envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
    use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
    use navarch_envoy::wire::Writer;
    use prost::Message;

    use super::{MeshNames, MeshTls, ServerNames};

    fn context(socket: &TransportSocket) -> UpstreamTlsContext {
        let Some(ConfigType::TypedConfig(config)) = &socket.config_type else {
            panic!("a socket without settings");
        };
        let context = unpack(config).unwrap();
        assert_eq!(pack(&context), *config);
        context
    }

    #[test]
    fn the_parts_are_what_the_whole_message_would_be() {
        let listed = ["spiffe://a/b".to_owned(), "spiffe://a/c".to_owned()];
        for (i, server_names) in [&[][..], &listed].into_iter().enumerate() {
            for sni in [[""; 6], ["outbound_.", "80", "_.", "", "_.", "a.b"]] {
                let names = MeshNames {
                    server_names: ServerNames::Listed(server_names),
                    sni,
                };
                for n in 0..8 {
                    let tls = MeshTls {
                        is_istio: n & 1 > 0,
                        is_http2: n & 2 > 0,
                        is_matched_by_endpoint: n & 4 > 0,
                    };
                    let mut out = Writer::default();
                    tls.write_socket(&names, &mut out);
                    tls.write_socket_matches(&names, &mut out);
                    let cluster = Cluster::decode(out.as_slice()).unwrap();
                    assert_eq!(cluster.encode_to_vec(), out.as_slice());
                    let mut applied = Cluster::default();
                    tls.apply(&names, &mut applied);
                    assert_eq!(applied, cluster);

                    let matches = &cluster.transport_socket_matches;
                    assert_eq!(matches.len(), usize::from(n & 4 > 0) * 2);
                    let marked = matches.first().and_then(|m| m.transport_socket.as_ref());
                    let context = context(cluster.transport_socket.as_ref().or(marked).unwrap());
                    assert_eq!(context.sni, sni.concat());
                    let told = format!("{context:?}");
                    assert_eq!(told.matches("spiffe://").count(), i * 2);
                }
            }
        }
    }
}
