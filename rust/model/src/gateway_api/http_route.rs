//! HTTPRoute, and the filters that GRPCRoutes share.

use serde::Deserialize;

use super::{BackendReference, ParentReference};
use crate::Metadata;

/// An HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct HttpRoute {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Parents, hosts, rules.
    pub spec: HttpRouteSpec,
}

/// Parents, hosts, rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct HttpRouteSpec {
    pub parent_refs: Vec<ParentReference>,
    pub hostnames: Vec<String>,
    pub rules: Vec<HttpRouteRule>,
}

/// What happens to requests that any match takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct HttpRouteRule {
    pub name: Option<String>,
    pub matches: Vec<HttpRouteMatch>,
    pub filters: Vec<RouteFilter>,
    pub backend_refs: Vec<BackendReference>,
    pub timeouts: Option<RouteTimeouts>,
    pub retry: Option<RouteRetry>,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct HttpRouteMatch {
    pub path: PathMatch,
    pub headers: Vec<ValueMatch>,
    pub query_params: Vec<ValueMatch>,
    pub method: Option<String>,
}

/// A condition on the path; prefix `/` when absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// `PathPrefix` (also when absent), `Exact`, `RegularExpression`.
    #[serde(rename = "type")]
    pub match_type: Option<String>,
    /// `/` when absent.
    pub value: Option<String>,
}

/// A condition on a header or a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ValueMatch {
    /// `Exact` (also when absent) or `RegularExpression`.
    #[serde(rename = "type")]
    pub match_type: Option<String>,
    /// Of the header or parameter.
    pub name: String,
    /// Wanted.
    pub value: String,
}

/// One step of handling; the field of its type's name is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct RouteFilter {
    #[serde(rename = "type")]
    pub filter_type: String,
    pub request_header_modifier: Option<HeaderModifier>,
    pub response_header_modifier: Option<HeaderModifier>,
    pub request_redirect: Option<RequestRedirect>,
    pub request_mirror: Option<RequestMirror>,
    pub url_rewrite: Option<UrlRewrite>,
    pub cors: Option<Cors>,
}

/// Changes of headers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct HeaderModifier {
    pub set: Vec<HeaderValue>,
    pub add: Vec<HeaderValue>,
    pub remove: Vec<String>,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct HeaderValue {
    pub name: String,
    pub value: String,
}

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct RequestRedirect {
    pub scheme: Option<String>,
    pub hostname: Option<String>,
    pub path: Option<PathModifier>,
    pub port: Option<u32>,
    pub status_code: Option<u32>,
}

/// A change of the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub modifier_type: String,
    /// The whole new path.
    pub replace_full_path: Option<String>,
    /// What stands in the place of the prefix that matched.
    pub replace_prefix_match: Option<String>,
}

/// A copy of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct RequestMirror {
    pub backend_ref: BackendReference,
    pub percent: Option<u32>,
    pub fraction: Option<Fraction>,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Fraction {
    /// Of the denominator.
    pub numerator: u32,
    /// 100 when absent.
    pub denominator: Option<u32>,
}

/// A rewrite before forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct UrlRewrite {
    pub hostname: Option<String>,
    pub path: Option<PathModifier>,
}

/// Cross-origin rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct Cors {
    pub allow_origins: Vec<String>,
    pub allow_credentials: Option<bool>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    /// Seconds.
    pub max_age: i64,
}

/// Limits of time, in the API's own form (`1h2m3s4ms`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct RouteTimeouts {
    pub request: Option<String>,
    pub backend_request: Option<String>,
}

/// When to try again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct RouteRetry {
    pub codes: Vec<u32>,
    pub attempts: Option<i32>,
    pub backoff: Option<String>,
}
