//! Gateway (networking.istio.io), as the Python half validated it.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/networking/gateway/>.

use serde::Deserialize;

use crate::{ConfigKey, EntryPort, Hostname, Labels, Metadata};

/// A Gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Servers and the workloads that have them.
    pub spec: GatewaySpec,
    /// Instead of the selector: the Services behind which the servers are.
    #[serde(skip)]
    pub services: Option<GatewayServices>,
    /// The objects that it was made from; empty for one that was written.
    #[serde(skip)]
    pub sources: Vec<ConfigKey>,
}

/// The Services behind which the servers of a Gateway of Gateway API are: their ports are the servers'.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GatewayServices {
    /// Fully qualified.
    pub hosts: Vec<Hostname>,
    /// Where the Services are.
    pub namespace: String,
    /// Whether the workload is deployed for this Gateway alone.
    pub is_managed: bool,
}

/// Servers and the workloads that have them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct GatewaySpec {
    pub servers: Vec<Server>,
    pub selector: Labels,
}

/// One port with its hosts and TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Server {
    pub port: EntryPort,
    pub bind: String,
    pub hosts: Vec<String>,
    pub tls: Option<ServerTlsSettings>,
    pub name: String,
}

/// How a server does TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the values are Istio's own")]
pub enum ServerTlsMode {
    #[default]
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

/// TLS of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ServerTlsSettings {
    pub https_redirect: bool,
    pub mode: ServerTlsMode,
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
    pub ca_crl: String,
    pub tls_certificates: Vec<TlsCertificate>,
    pub credential_name: String,
    pub credential_names: Vec<String>,
    pub ca_cert_credential_name: String,
    pub subject_alt_names: Vec<String>,
    pub verify_certificate_spki: Vec<String>,
    pub verify_certificate_hash: Vec<String>,
    /// `TLS_AUTO`, `TLSV1_0` … `TLSV1_3`.
    pub min_protocol_version: String,
    /// `TLS_AUTO`, `TLSV1_0` … `TLSV1_3`.
    pub max_protocol_version: String,
    pub cipher_suites: Vec<String>,
    pub ecdh_curves: Vec<String>,
    pub insecure_skip_verify: Option<bool>,
}

/// One certificate of several.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct TlsCertificate {
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
}
