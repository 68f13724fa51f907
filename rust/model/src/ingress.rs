//! Ingress and IngressClass (networking.k8s.io), as the API server sends them.

use serde::Deserialize;

use crate::Metadata;

/// An Ingress.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// Name, namespace, annotations, age.
    pub metadata: Metadata,
    /// Hosts, paths and certificates.
    pub spec: IngressSpec,
}

/// Hosts, paths and certificates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct IngressSpec {
    pub ingress_class_name: Option<String>,
    pub default_backend: Option<IngressBackend>,
    pub rules: Vec<IngressRule>,
    pub tls: Vec<IngressTls>,
}

/// The paths of one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct IngressRule {
    /// "" for every host.
    pub host: String,
    /// Nothing is served without.
    pub http: Option<HttpIngressRule>,
}

/// Paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct HttpIngressRule {
    /// In any order: the longest comes first.
    pub paths: Vec<HttpIngressPath>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpIngressPath {
    /// As `path_type` says.
    pub path: String,
    /// `Exact`, `Prefix`, `ImplementationSpecific`.
    pub path_type: Option<String>,
    /// Where requests go.
    pub backend: IngressBackend,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct IngressBackend {
    /// The only kind that is served.
    pub service: Option<IngressService>,
}

/// A Service of the Ingress' namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct IngressService {
    pub name: String,
    pub port: IngressServicePort,
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct IngressServicePort {
    /// Of the Service.
    pub name: String,
    /// 0 where the name counts.
    pub number: u32,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IngressTls {
    /// Empty for every host.
    pub hosts: Vec<String>,
    /// In the gateway's namespace.
    pub secret_name: String,
}

/// An IngressClass: who handles the Ingresses that name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct IngressClass {
    /// Name.
    pub metadata: Metadata,
    /// The handler.
    pub spec: IngressClassSpec,
}

/// The handler of a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct IngressClassSpec {
    /// Such as `istio.io/ingress-controller`.
    pub controller: String,
}
