//! TLS towards upstreams: automatic mutual TLS, the modes of DestinationRules, and the PROXY protocol around them.
//!
//! Source: istio `pilot/pkg/networking/core/cluster_tls.go`. A proxy without a source of the workload's certificate gets
//! no mutual TLS by itself; where a rule demands it, the cluster fails closed (see [`TlsFault`]).

use std::borrow::Cow;
use std::sync::Arc;

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::core::v3::{
    DataSource, ProxyProtocolConfig, TransportSocket, data_source::Specifier,
    proxy_protocol_config::Version, transport_socket::ConfigType,
};
use navarch_envoy::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use navarch_envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, TlsCertificate, TlsParameters,
    UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    tls_parameters::TlsProtocol,
};
use navarch_envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use navarch_model::{ClientTlsMode, ClientTlsSettings, ProxyKind, ProxyProtocol};

use super::mesh_tls::{MeshNames, MeshTls, ServerNames};
use super::pool::HttpSide;
use super::protobuf::transport_socket;
use super::settings::{ClusterClient, ClusterSettings};
use crate::config_source::{credential_secret, file_certificate_secret, file_root_secret};

pub(super) const TLS_SOCKET: &str = "envoy.transport_sockets.tls";
pub(super) const RAW_SOCKET: &str = "envoy.transport_sockets.raw_buffer";
const PROXY_PROTOCOL_SOCKET: &str = "envoy.transport_sockets.upstream_proxy_protocol";
/// The trust anchors of the machine, as Istio's agent knows them.
const SYSTEM_ROOTS: &str = "system";
/// Where they lie on Debian, whose packages Envoy's images are built on, and most others. Envoy has no name of its own
/// for them: it overlooks `system_root_certs` and would then verify nothing.
const SYSTEM_ROOTS_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// `ConfigMaps` hold no secrets: any sidecar may ask for them.
const CONFIG_MAP_PREFIX: &str = "configmap://";

/// Why the TLS that is demanded can't be had; the cluster must then lead nowhere rather than speak plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFault {
    /// `ISTIO_MUTUAL` without a source of the workload's certificate.
    NoWorkloadCertificate,
    /// `MUTUAL` without a certificate and a key.
    NoClientCertificate,
}

impl TlsFault {
    /// The diagnostic's code.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::NoWorkloadCertificate => "istio-mutual-without-certificate",
            Self::NoClientCertificate => "tls-not-possible",
        }
    }

    /// What is wrong and the remedy.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::NoWorkloadCertificate => {
                "ISTIO_MUTUAL is demanded of a proxy that announces no workload certificate: the cluster has no endpoints \
                 for it; give its bootstrap a secret source and WORKLOAD_CERTIFICATE: true in node.metadata"
            }
            Self::NoClientCertificate => {
                "MUTUAL needs clientCertificate and privateKey, or credentialName: the cluster has no endpoints"
            }
        }
    }
}

/// What a cluster's TLS depends on.
pub(super) struct TlsInputs<'a> {
    pub(crate) client: &'a ClusterClient,
    pub(crate) settings: &'a ClusterSettings,
    /// The rule's TLS settings.
    pub(crate) tls: Option<&'a ClientTlsSettings>,
    /// Whether mutual TLS is inferred.
    pub(crate) is_automatic: bool,
    /// Identities of the endpoints.
    pub(crate) identities: &'a [Arc<str>],
    /// The parts of the SNI of mutual TLS within the mesh.
    pub(crate) mesh_sni: [&'a str; 6],
    /// Whether the service's own identities stand in for those the rule leaves out.
    pub(crate) is_external_registry: bool,
    pub(crate) is_mesh_external: bool,
    /// Whether the rule is for some workloads only.
    pub(crate) has_workload_selector: bool,
    /// Whether the endpoints are chosen by Envoy and may differ in TLS.
    pub(crate) is_matched_by_endpoint: bool,
    /// Whether hosts are resolved by the name in each request.
    pub(crate) is_dynamic: bool,
}

/// Which TLS a connection uses.
enum Choice<'a> {
    Plaintext,
    Mesh,
    Files(Cow<'a, ClientTlsSettings>),
}

/// Put the transport socket into a cluster, or tell how it speaks mutual TLS of the mesh: those sockets are written.
///
/// # Errors
/// [`TlsFault`] when TLS is demanded that can't be had; the cluster is then left without a socket.
pub(super) fn apply_tls(
    cluster: &mut Cluster,
    http: &mut HttpSide,
    inputs: &TlsInputs<'_>,
) -> Result<Option<MeshTls>, TlsFault> {
    match choose(inputs)? {
        Choice::Plaintext => {}
        Choice::Mesh => {
            if inputs.is_dynamic {
                let tls = ClientTlsSettings {
                    sni: inputs.tls.map_or_else(String::new, |tls| tls.sni.clone()),
                    ..ClientTlsSettings::default()
                };
                set_automatic_names(http, &tls, true);
            }
            return Ok(Some(MeshTls {
                is_istio: inputs.client.is_istio,
                is_http2: http.is_http2(),
                is_matched_by_endpoint: inputs.tls.is_none() && inputs.is_matched_by_endpoint,
            }));
        }
        Choice::Files(tls) if is_withheld(inputs, &tls) => {}
        Choice::Files(tls) => {
            set_automatic_names(http, &tls, inputs.is_dynamic);
            let context = origination_context(inputs, &tls, http.is_http2())?;
            cluster.transport_socket = Some(transport_socket(TLS_SOCKET, &context));
        }
    }
    Ok(None)
}

fn choose<'a>(inputs: &TlsInputs<'a>) -> Result<Choice<'a>, TlsFault> {
    if let Some(tls) = inputs.tls {
        return choose_by_rule(inputs, tls);
    }
    if !inputs.is_automatic {
        return Ok(Choice::Plaintext);
    }
    let own = || {
        own_files(
            inputs.client,
            &inputs.identities(),
            &inputs.mesh_sni.concat(),
        )
    };
    Ok(match inputs.client.certificates {
        Some(_) => own().map_or(Choice::Mesh, |tls| Choice::Files(Cow::Owned(tls))),
        None => Choice::Mesh,
    })
}

fn choose_by_rule<'a>(
    inputs: &TlsInputs<'a>,
    tls: &'a ClientTlsSettings,
) -> Result<Choice<'a>, TlsFault> {
    match tls.mode {
        ClientTlsMode::Disable => return Ok(Choice::Plaintext),
        ClientTlsMode::Simple => return Ok(Choice::Files(Cow::Borrowed(tls))),
        ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => {}
    }
    // Outside of the mesh the proxy's own certificates need not be trusted: there the rule is followed.
    if !inputs.is_mesh_external
        && let Some(own) = own_files(inputs.client, &tls.subject_alt_names, &tls.sni)
    {
        return Ok(Choice::Files(Cow::Owned(own)));
    }
    if tls.mode == ClientTlsMode::Mutual {
        return Ok(Choice::Files(Cow::Borrowed(tls)));
    }
    if !inputs.client.has_workload_certificate {
        return Err(TlsFault::NoWorkloadCertificate);
    }
    Ok(Choice::Mesh)
}

/// Mutual TLS with the certificate files that the node tells of, if it does.
fn own_files(client: &ClusterClient, sans: &[String], sni: &str) -> Option<ClientTlsSettings> {
    client.certificates.as_ref().map(|files| ClientTlsSettings {
        mode: ClientTlsMode::Mutual,
        client_certificate: files.certificate_chain.clone(),
        private_key: files.private_key.clone(),
        ca_certificates: files.root_certificate.clone(),
        subject_alt_names: sans.to_vec(),
        sni: sni.to_owned(),
        ..ClientTlsSettings::default()
    })
}

impl TlsInputs<'_> {
    fn identities(&self) -> Vec<String> {
        self.identities.iter().map(ToString::to_string).collect()
    }
}

impl<'a> MeshNames<'a> {
    /// A rule's own names, else those of the endpoints and the service port.
    pub(super) fn new(
        tls: Option<&'a ClientTlsSettings>,
        identities: &'a [Arc<str>],
        sni: [&'a str; 6],
    ) -> Self {
        let names = tls.map_or(&[][..], |tls| &tls.subject_alt_names);
        let own_sni = tls.map_or("", |tls| &tls.sni);
        Self {
            server_names: if names.is_empty() {
                ServerNames::Identities(identities)
            } else {
                ServerNames::Listed(names)
            },
            sni: if own_sni.is_empty() {
                sni
            } else {
                [own_sni, "", "", "", "", ""]
            },
        }
    }
}

/// Whether a sidecar must not ask for the credential: a rule for everybody would make all sidecars wait for it.
fn is_withheld(inputs: &TlsInputs<'_>, tls: &ClientTlsSettings) -> bool {
    !tls.credential_name.is_empty()
        && !tls.credential_name.starts_with(CONFIG_MAP_PREFIX)
        && inputs.client.kind == ProxyKind::Sidecar
        && !inputs.has_workload_selector
}

pub(super) fn tls_parameters() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        ..TlsParameters::default()
    }
}

fn validation_context(sans: Vec<String>) -> CertificateValidationContext {
    let exact = |san| StringMatcher {
        match_pattern: Some(MatchPattern::Exact(san)),
        ..StringMatcher::default()
    };
    CertificateValidationContext {
        match_subject_alt_names: sans.into_iter().map(exact).collect(),
        ..CertificateValidationContext::default()
    }
}

/// TLS origination: `SIMPLE` and `MUTUAL`.
fn origination_context(
    inputs: &TlsInputs<'_>,
    tls: &ClientTlsSettings,
    is_http2: bool,
) -> Result<UpstreamTlsContext, TlsFault> {
    let sans = if inputs.is_external_registry && tls.subject_alt_names.is_empty() {
        inputs.identities()
    } else {
        tls.subject_alt_names.clone()
    };
    let mut parameters = tls_parameters();
    if let Some(defaults) = &inputs.settings.tls_defaults {
        parameters.ecdh_curves.clone_from(&defaults.ecdh_curves);
        parameters.cipher_suites.clone_from(&defaults.cipher_suites);
    }
    let mut common = CommonTlsContext {
        tls_params: Some(parameters),
        alpn_protocols: if is_http2 {
            vec!["h2".into()]
        } else {
            Vec::new()
        },
        ..CommonTlsContext::default()
    };
    if !tls.credential_name.is_empty() {
        apply_credential(&mut common, tls, sans);
    } else if inputs.client.has_agent {
        apply_files_by_sds(&mut common, tls, sans)?;
    } else {
        apply_files(&mut common, tls, sans)?;
    }
    Ok(UpstreamTlsContext {
        sni: tls.sni.clone(),
        common_tls_context: Some(common),
        ..UpstreamTlsContext::default()
    })
}

fn is_unverified(tls: &ClientTlsSettings) -> bool {
    tls.insecure_skip_verify == Some(true)
}

/// Secrets that the control plane serves; the trust anchors are the credential's own, by a suffix.
fn apply_credential(common: &mut CommonTlsContext, tls: &ClientTlsSettings, sans: Vec<String>) {
    if tls.mode == ClientTlsMode::Mutual {
        common.tls_certificate_sds_secret_configs = vec![credential_secret(&tls.credential_name)];
    }
    if is_unverified(tls) {
        return;
    }
    let roots = credential_secret(&format!("{}-cacert", tls.credential_name));
    common.validation_context_type = Some(ValidationContextType::CombinedValidationContext(
        CombinedCertificateValidationContext {
            default_validation_context: Some(validation_context(sans)),
            validation_context_sds_secret_config: Some(roots),
            ..CombinedCertificateValidationContext::default()
        },
    ));
}

fn ca_certificates(tls: &ClientTlsSettings) -> &str {
    if tls.ca_certificates.is_empty() {
        SYSTEM_ROOTS
    } else {
        &tls.ca_certificates
    }
}

fn client_files(tls: &ClientTlsSettings) -> Result<Option<(&str, &str)>, TlsFault> {
    if tls.mode != ClientTlsMode::Mutual {
        return Ok(None);
    }
    if tls.client_certificate.is_empty() || tls.private_key.is_empty() {
        return Err(TlsFault::NoClientCertificate);
    }
    Ok(Some((&tls.client_certificate, &tls.private_key)))
}

fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::Filename(path.to_owned())),
        ..DataSource::default()
    }
}

/// Files that the agent reads and serves, so that they may be renewed.
fn apply_files_by_sds(
    common: &mut CommonTlsContext,
    tls: &ClientTlsSettings,
    sans: Vec<String>,
) -> Result<(), TlsFault> {
    if let Some((certificate, key)) = client_files(tls)? {
        common.tls_certificate_sds_secret_configs = vec![file_certificate_secret(certificate, key)];
    }
    if is_unverified(tls) {
        let nothing = CertificateValidationContext::default();
        common.validation_context_type = Some(ValidationContextType::ValidationContext(nothing));
        return Ok(());
    }
    let mut context = validation_context(sans);
    context.crl = (!tls.ca_crl.is_empty()).then(|| file(&tls.ca_crl));
    common.validation_context_type = Some(ValidationContextType::CombinedValidationContext(
        CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            validation_context_sds_secret_config: Some(file_root_secret(ca_certificates(tls))),
            ..CombinedCertificateValidationContext::default()
        },
    ));
    Ok(())
}

/// Files that Envoy reads itself: a stock Envoy has no agent.
fn apply_files(
    common: &mut CommonTlsContext,
    tls: &ClientTlsSettings,
    sans: Vec<String>,
) -> Result<(), TlsFault> {
    if let Some((certificate, key)) = client_files(tls)? {
        common.tls_certificates = vec![TlsCertificate {
            certificate_chain: Some(file(certificate)),
            private_key: Some(file(key)),
            ..TlsCertificate::default()
        }];
    }
    let mut context = CertificateValidationContext::default();
    if !is_unverified(tls) {
        context = validation_context(sans);
        context.crl = (!tls.ca_crl.is_empty()).then(|| file(&tls.ca_crl));
        let path = match ca_certificates(tls) {
            SYSTEM_ROOTS => SYSTEM_ROOTS_FILE,
            path => path,
        };
        context.trusted_ca = Some(file(path));
    }
    common.validation_context_type = Some(ValidationContextType::ValidationContext(context));
    Ok(())
}

/// Where the rule names no SNI, it is the request's host; where it names no subject either, that is the host, too.
fn set_automatic_names(http: &mut HttpSide, tls: &ClientTlsSettings, is_dynamic: bool) {
    let auto_sni = tls.sni.is_empty();
    let auto_san_validation =
        ((auto_sni && tls.subject_alt_names.is_empty()) || is_dynamic) && !is_unverified(tls);
    if auto_sni || auto_san_validation {
        let upstream = http.upstream.get_or_insert_default();
        upstream.auto_sni = auto_sni;
        upstream.auto_san_validation = auto_san_validation;
    }
}

/// Wrap every transport socket of a cluster in the PROXY protocol.
pub(crate) fn apply_proxy_protocol(cluster: &mut Cluster, settings: &ProxyProtocol) {
    let version = if settings.version == "V2" {
        Version::V2
    } else {
        Version::V1
    };
    let wrap = |inner: TransportSocket| {
        let settings = ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig {
                version: version as i32,
                ..ProxyProtocolConfig::default()
            }),
            transport_socket: Some(inner),
            ..ProxyProtocolUpstreamTransport::default()
        };
        transport_socket(PROXY_PROTOCOL_SOCKET, &settings)
    };
    if cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = Some(wrap(TransportSocket {
            name: "raw_buffer".into(),
            config_type: Some(ConfigType::TypedConfig(any::pack_default::<RawBuffer>())),
        }));
        return;
    }
    cluster.transport_socket = cluster.transport_socket.take().map(wrap);
    for socket_match in &mut cluster.transport_socket_matches {
        socket_match.transport_socket = socket_match.transport_socket.take().map(wrap);
    }
}
