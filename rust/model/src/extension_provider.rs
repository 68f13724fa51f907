//! Extension providers of MeshConfig: named services that proxies work with.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ExtensionProvider>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Span;

/// A named service that proxies work with; those of kinds that the core does not read are empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtensionProvider {
    /// Unique in the mesh.
    pub name: String,
    /// Serves secrets of credential names that begin with `sds://`.
    pub sds: Option<ProviderService>,
    /// Decides of requests, asked over HTTP.
    pub envoy_ext_authz_http: Option<HttpAuthorizer>,
    /// Decides of requests and connections, asked over gRPC.
    pub envoy_ext_authz_grpc: Option<Authorizer>,
}

/// Where a provider is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ProviderService {
    /// `[namespace/]host`; without a namespace the host must be unique.
    pub service: String,
    /// The service's port.
    pub port: u32,
}

/// What external authorizers have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Authorizer {
    #[serde(flatten)]
    pub backend: ProviderService,
    pub timeout: Option<Span>,
    pub fail_open: bool,
    /// An HTTP status in decimal, or "".
    pub status_on_error: String,
    pub include_request_body_in_check: Option<RequestBody>,
}

/// An external authorizer that is asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpAuthorizer {
    #[serde(flatten)]
    pub common: Authorizer,
    pub path_prefix: String,
    pub include_headers_in_check: Vec<String>,
    pub include_request_headers_in_check: Vec<String>,
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    pub headers_to_upstream_on_allow: Vec<String>,
    pub headers_to_downstream_on_deny: Vec<String>,
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// How much of a request's body goes to the authorizer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct RequestBody {
    pub max_request_bytes: u32,
    pub allow_partial_message: bool,
    pub pack_as_bytes: bool,
}
