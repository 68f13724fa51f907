//! TLS that a listener terminates: between workloads, and at gateways.
//!
//! Sources: istio `pilot/pkg/security/authn/utils/utils.go`, `pilot/pkg/security/model/authentication.go`,
//! `pilot/pkg/networking/core/listener.go` `BuildListenerTLSContext`.

use navarch_envoy::envoy::config::core::v3::{DataSource, data_source};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    TlsCertificate, TlsParameters,
};
use navarch_envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use navarch_envoy::field::envoy::config::core::v3::transport_socket as socket;
use navarch_envoy::field::envoy::extensions::transport_sockets::tls::v3::{
    common_tls_context as common, downstream_tls_context as context,
};
use navarch_envoy::field::google::protobuf::bool_value;
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{MeshConfig, MeshTls, ServerTlsMode, ServerTlsSettings};
use navarch_snapshot::NodeGroup;

use crate::config_source::{self, DEFAULT_SECRET, ROOT_SECRET};
use crate::memo::Memo;

/// Envoy's name of TLS.
const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

/// What HTTP servers offer.
const ALPN_HTTP: &[&str] = &["h2", "http/1.1"];
/// What TCP servers offer, with the name by which Istio's proxies exchange metadata.
const ALPN_TCP: &[&str] = &["istio-peer-exchange", "h2", "http/1.1"];
/// Ciphers between workloads unless the mesh says otherwise.
const CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// What servers of the mesh check and present between workloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MutualTlsFacts {
    /// Whose workloads are let in.
    trust_domains: Vec<String>,
    is_tls13_only: bool,
    cipher_suites: Vec<String>,
    /// Whether an agent serves the files below as secrets; else Envoy reads them itself.
    has_agent: bool,
    /// Files of node metadata (`TLS_SERVER_…`), "" for the agent's secrets.
    certificate: String,
    private_key: String,
    ca_certificates: String,
    sockets: Sockets,
}

/// The transport sockets of inbound chains, encoded, and what they have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Sockets {
    common: Memo<Template>,
    http: Memo<Vec<u8>>,
    tcp: Memo<Vec<u8>>,
}

impl MutualTlsFacts {
    /// The facts of a mesh and a node.
    pub(super) fn new(mesh: &MeshConfig, group: &NodeGroup) -> Self {
        let metadata = &group.metadata;
        let unset = MeshTls::default();
        let settings = mesh.mesh_mtls.as_ref().unwrap_or(&unset);
        let mut trust_domains = vec![mesh.trust_domain.clone()];
        for alias in &mesh.trust_domain_aliases {
            if !trust_domains.contains(alias) {
                trust_domains.push(alias.clone());
            }
        }
        Self {
            trust_domains,
            has_agent: group.has_agent(),
            is_tls13_only: settings.min_protocol_version == "TLSV1_3",
            cipher_suites: settings.cipher_suites.clone(),
            certificate: metadata.tls_server_cert_chain.clone(),
            private_key: metadata.tls_server_key.clone(),
            ca_certificates: metadata.tls_server_root_cert.clone(),
            sockets: Sockets::default(),
        }
    }

    fn apply_certificate(&self, common: &mut CommonTlsContext) {
        if self.certificate.is_empty() || self.private_key.is_empty() {
            common.tls_certificate_sds_secret_configs =
                vec![config_source::sds_secret(DEFAULT_SECRET)];
        } else if self.has_agent {
            common.tls_certificate_sds_secret_configs =
                vec![config_source::file_certificate_secret(
                    &self.certificate,
                    &self.private_key,
                )];
        } else {
            common.tls_certificates = vec![certificate(&self.certificate, &self.private_key)];
        }
    }

    fn validate_by(&self, mut validation: CertificateValidationContext) -> ValidationContextType {
        if self.ca_certificates.is_empty() {
            combined(validation, config_source::sds_secret(ROOT_SECRET))
        } else if self.has_agent {
            combined(
                validation,
                config_source::file_root_secret(&self.ca_certificates),
            )
        } else {
            validation.trusted_ca = Some(file(&self.ca_certificates));
            ValidationContextType::ValidationContext(validation)
        }
    }

    /// The transport socket of an inbound chain, encoded.
    pub(super) fn socket(&self, is_http: bool) -> &[u8] {
        let (socket, names) = if is_http {
            (&self.sockets.http, ALPN_HTTP)
        } else {
            (&self.sockets.tcp, ALPN_TCP)
        };
        socket.get_or_make(|| {
            let make = || Template::of(&self.build_common(), common::ONEOFS);
            let shared = self.sockets.common.get_or_make(make);
            encode_socket(true, shared.len() + 256, |out| {
                let mut context = shared.fill(out);
                for name in names {
                    context.text(common::ALPN_PROTOCOLS, &[name]);
                }
                context.finish();
            })
        })
    }

    /// All but what is offered by ALPN.
    fn build_common(&self) -> CommonTlsContext {
        let minimum = if self.is_tls13_only {
            TlsProtocol::TlSv13
        } else {
            TlsProtocol::TlSv12
        };
        let names = self
            .trust_domains
            .iter()
            .map(|domain| prefix(&format!("spiffe://{domain}/")));
        let validation = CertificateValidationContext {
            match_subject_alt_names: names.collect(),
            ..CertificateValidationContext::default()
        };
        let mut common = CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: minimum as i32,
                tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
                cipher_suites: if self.cipher_suites.is_empty() {
                    owned(CIPHERS)
                } else {
                    self.cipher_suites.clone()
                },
                ..TlsParameters::default()
            }),
            validation_context_type: Some(self.validate_by(validation)),
            ..CommonTlsContext::default()
        };
        self.apply_certificate(&mut common);
        common
    }
}

/// A transport socket whose common context `write` writes.
fn encode_socket(
    is_client_certificate_required: bool,
    capacity_bytes: usize,
    write: impl FnOnce(&mut Writer),
) -> Vec<u8> {
    let mut out = Writer::with_capacity(capacity_bytes);
    out.text(socket::NAME, &[TLS_SOCKET]);
    out.any::<DownstreamTlsContext>(socket::TYPED_CONFIG, |out| {
        out.message(context::COMMON_TLS_CONTEXT, write);
        out.message(context::REQUIRE_CLIENT_CERTIFICATE, |out| {
            if is_client_certificate_required {
                out.flag(bool_value::VALUE);
            }
        });
    });
    out.into_bytes()
}

fn combined(
    default: CertificateValidationContext,
    secret: SdsSecretConfig,
) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(default),
        validation_context_sds_secret_config: Some(secret),
        ..CombinedCertificateValidationContext::default()
    })
}

fn prefix(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Prefix(text.to_owned())),
        ..StringMatcher::default()
    }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..StringMatcher::default()
    }
}

/// What a gateway's TLS needs of the mesh and the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ServerTlsFacts {
    pub(super) settings: ServerTlsSettings,
    pub(super) defaults: Option<MeshTls>,
    /// The node's own certificate, for `ISTIO_MUTUAL`.
    pub(super) workload: MutualTlsFacts,
    /// Whether the server proxies TCP behind the TLS it terminates.
    pub(super) is_tcp: bool,
    /// Whether an agent serves files as secrets; if not, Envoy reads them itself.
    pub(super) has_agent: bool,
    /// Cluster and host of the mesh's own secret service.
    pub(super) secret_service: Option<(String, String)>,
    pub(super) socket: Memo<Vec<u8>>,
}

impl ServerTlsFacts {
    /// The transport socket of a gateway's chain, encoded.
    pub(super) fn socket(&self) -> &[u8] {
        self.socket.get_or_make(|| {
            let mode = self.settings.mode;
            let is_required = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
            let common = self.build_common();
            encode_socket(is_required, 1024, |out| out.append_message(&common))
        })
    }

    fn build_common(&self) -> CommonTlsContext {
        let mode = self.settings.mode;
        let has_peer_exchange = mode == ServerTlsMode::IstioMutual && self.is_tcp;
        let mut common = CommonTlsContext {
            alpn_protocols: owned(if has_peer_exchange {
                ALPN_TCP
            } else {
                ALPN_HTTP
            }),
            ..CommonTlsContext::default()
        };
        if mode == ServerTlsMode::IstioMutual {
            self.workload.apply_certificate(&mut common);
            common.validation_context_type = Some(self.workload.validate_by(self.subject_names()));
        } else if self.has_credential() {
            self.apply_credentials(&mut common);
        } else {
            self.apply_files(&mut common);
        }
        if mode != ServerTlsMode::IstioMutual {
            common.tls_params = self.parameters();
        }
        common
    }

    fn has_credential(&self) -> bool {
        !self.settings.credential_name.is_empty() || !self.settings.credential_names.is_empty()
    }

    fn is_client_checked(&self) -> bool {
        matches!(
            self.settings.mode,
            ServerTlsMode::Mutual | ServerTlsMode::IstioMutual | ServerTlsMode::OptionalMutual
        )
    }

    fn subject_names(&self) -> CertificateValidationContext {
        let crl = Some(&self.settings.ca_crl).filter(|path| !path.is_empty());
        CertificateValidationContext {
            match_subject_alt_names: self
                .settings
                .subject_alt_names
                .iter()
                .map(|name| exact(name))
                .collect(),
            crl: crl.map(|path| file(path)),
            ..CertificateValidationContext::default()
        }
    }

    /// Secrets by name, which the control plane serves (istio `ApplyCredentialSDSToServerCommonTLSContext`).
    fn apply_credentials(&self, common: &mut CommonTlsContext) {
        let settings = &self.settings;
        let mut names = settings.credential_names.clone();
        if names.is_empty() {
            names.push(settings.credential_name.clone());
        }
        common.tls_certificate_sds_secret_configs = names
            .iter()
            .map(|name| self.credential_secret(name))
            .collect();
        let validation = CertificateValidationContext {
            match_subject_alt_names: settings
                .subject_alt_names
                .iter()
                .map(|name| exact(name))
                .collect(),
            verify_certificate_spki: settings.verify_certificate_spki.clone(),
            verify_certificate_hash: settings.verify_certificate_hash.clone(),
            trust_chain_verification: self.trust_chain_verification(),
            ..CertificateValidationContext::default()
        };
        if self.is_client_checked() {
            let ca = if settings.ca_cert_credential_name.is_empty() {
                format!("{}-cacert", names[0])
            } else {
                settings.ca_cert_credential_name.clone()
            };
            common.validation_context_type =
                Some(combined(validation, self.credential_secret(&ca)));
        } else if !settings.subject_alt_names.is_empty() {
            let names_only = CertificateValidationContext {
                match_subject_alt_names: validation.match_subject_alt_names,
                ..CertificateValidationContext::default()
            };
            common.validation_context_type =
                Some(ValidationContextType::ValidationContext(names_only));
        }
    }

    /// From the mesh's own secret service where the name says so, else from the control plane.
    fn credential_secret(&self, credential_name: &str) -> SdsSecretConfig {
        let external = credential_name.strip_prefix(config_source::EXTERNAL_SECRET_PREFIX);
        match (external, &self.secret_service) {
            (Some(name), Some((cluster, host))) => {
                config_source::external_secret(name, cluster, host)
            }
            _ => config_source::credential_secret(credential_name),
        }
    }

    fn trust_chain_verification(&self) -> i32 {
        if self.settings.insecure_skip_verify == Some(true) {
            TrustChainVerification::AcceptUntrusted as i32
        } else {
            TrustChainVerification::VerifyTrustChain as i32
        }
    }

    /// Files on the gateway's disk: the agent serves them as secrets and renews them, a stock Envoy reads them itself.
    fn apply_files(&self, common: &mut CommonTlsContext) {
        let settings = &self.settings;
        let mut pairs: Vec<(&str, &str)> = settings
            .tls_certificates
            .iter()
            .map(|pair| (pair.server_certificate.as_str(), pair.private_key.as_str()))
            .collect();
        if pairs.is_empty() {
            pairs.push((&settings.server_certificate, &settings.private_key));
        }
        let mut validation = self.subject_names();
        validation.trust_chain_verification = self.trust_chain_verification();
        if self.has_agent {
            common.tls_certificate_sds_secret_configs = pairs
                .iter()
                .map(|(certificate, key)| config_source::file_certificate_secret(certificate, key))
                .collect();
            if self.is_client_checked() {
                let root = config_source::file_root_secret(&settings.ca_certificates);
                common.validation_context_type = Some(combined(validation, root));
            }
            return;
        }
        common.tls_certificates = pairs
            .iter()
            .map(|(chain, key)| certificate(chain, key))
            .collect();
        if self.is_client_checked() {
            validation.trusted_ca = Some(file(&settings.ca_certificates));
            common.validation_context_type =
                Some(ValidationContextType::ValidationContext(validation));
        }
    }

    /// The server's own parameters over the mesh's defaults; `None` leaves all to Envoy.
    fn parameters(&self) -> Option<TlsParameters> {
        let unset = MeshTls::default();
        let defaults = self.defaults.as_ref().unwrap_or(&unset);
        let settings = &self.settings;
        let either = |own: &[String], default: &[String]| {
            if own.is_empty() {
                default.to_vec()
            } else {
                own.to_vec()
            }
        };
        let minimum = protocol(&settings.min_protocol_version)
            .or_else(|| protocol(&defaults.min_protocol_version));
        let parameters = TlsParameters {
            tls_minimum_protocol_version: minimum.unwrap_or(TlsProtocol::TlsAuto) as i32,
            tls_maximum_protocol_version: protocol(&settings.max_protocol_version)
                .unwrap_or(TlsProtocol::TlsAuto) as i32,
            cipher_suites: either(&settings.cipher_suites, &defaults.cipher_suites),
            ecdh_curves: either(&settings.ecdh_curves, &defaults.ecdh_curves),
            ..TlsParameters::default()
        };
        (parameters != TlsParameters::default()).then_some(parameters)
    }
}

fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::Filename(path.to_owned())),
        ..DataSource::default()
    }
}

fn certificate(chain: &str, key: &str) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(file(chain)),
        private_key: Some(file(key)),
        ..TlsCertificate::default()
    }
}

/// `None` leaves the version to Envoy.
fn protocol(name: &str) -> Option<TlsProtocol> {
    Some(match name {
        "TLSV1_0" => TlsProtocol::TlSv10,
        "TLSV1_1" => TlsProtocol::TlSv11,
        "TLSV1_2" => TlsProtocol::TlSv12,
        "TLSV1_3" => TlsProtocol::TlSv13,
        _ => return None,
    })
}
