//! BackendTLSPolicy: TLS towards a Service.

use serde::Deserialize;

use super::ObjectReference;
use crate::Metadata;

/// A BackendTLSPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct BackendTlsPolicy {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// For whom, and what is checked.
    pub spec: BackendTlsPolicySpec,
}

/// For whom, and what is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// Services of the policy's namespace; `sectionName` is a port's name.
    pub target_refs: Vec<ObjectReference>,
    /// What is checked.
    pub validation: BackendTlsValidation,
}

/// What the backend must show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BackendTlsValidation {
    /// Sent as SNI; the certificate's name unless `subjectAltNames` has others.
    pub hostname: String,
    /// ConfigMaps; the first counts.
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// `System`.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    /// Names that the certificate may have.
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// A name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct SubjectAltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub name_type: String,
    /// For `Hostname`.
    pub hostname: String,
    /// For `URI`.
    pub uri: String,
}
