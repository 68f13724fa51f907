//! VirtualService (networking.istio.io), as the Python half validated it.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/networking/virtual-service/>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{ConfigKey, Labels, Metadata, Number, Percent, Span};

/// A VirtualService.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct VirtualService {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// The rules.
    pub spec: VirtualServiceSpec,
    /// Whose rules hold for what the specification leaves open.
    #[serde(skip)]
    pub semantics: RouteSemantics,
    /// The objects that it was made from; empty for one that was written.
    #[serde(skip)]
    pub sources: Vec<ConfigKey>,
}

/// Whose rules hold for what a VirtualService leaves open (istio `model.UseGatewaySemantics`, `UseIngressSemantics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RouteSemantics {
    /// Istio's own.
    #[default]
    Istio,
    /// Gateway API's: prefixes end at a slash, missing backends answer 500, routes of the client's namespace first.
    GatewayApi,
    /// Ingress': prefixes end at a slash.
    Ingress,
}

impl RouteSemantics {
    /// Whether the prefix `/a` takes `/a/b` and not `/ab`.
    pub const fn has_path_prefixes(self) -> bool {
        matches!(self, Self::GatewayApi | Self::Ingress)
    }
}

/// The rules of a VirtualService.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct VirtualServiceSpec {
    pub hosts: Vec<String>,
    pub gateways: Vec<String>,
    pub http: Vec<HttpRoute>,
    pub tls: Vec<TlsRoute>,
    pub tcp: Vec<TcpRoute>,
    pub export_to: Vec<String>,
}

/// Exactly one way to match a string; `Any` (an empty object) matches presence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The whole string.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// RE2, the whole string.
    Regex(String),
    /// Anything.
    #[default]
    #[serde(skip)]
    Any,
}

/// One HTTP rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpRoute {
    pub name: String,
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatchRequest>,
    pub route: Vec<HttpRouteDestination>,
    pub redirect: Option<HttpRedirect>,
    pub direct_response: Option<HttpDirectResponse>,
    pub delegate: Option<Delegate>,
    pub rewrite: Option<HttpRewrite>,
    pub timeout: Option<Span>,
    pub retries: Option<HttpRetry>,
    pub fault: Option<HttpFaultInjection>,
    pub mirror: Option<Destination>,
    pub mirrors: Vec<HttpMirrorPolicy>,
    pub mirror_percent: Option<u32>,
    pub mirror_percentage: Option<Percent>,
    pub cors_policy: Option<CorsPolicy>,
    pub headers: Option<Headers>,
}

/// Conditions on a request, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpMatchRequest {
    pub name: String,
    pub uri: Option<MatchOrAny>,
    pub scheme: Option<MatchOrAny>,
    pub method: Option<MatchOrAny>,
    pub authority: Option<MatchOrAny>,
    pub headers: BTreeMap<String, MatchOrAny>,
    pub without_headers: BTreeMap<String, MatchOrAny>,
    pub query_params: BTreeMap<String, MatchOrAny>,
    pub port: u32,
    pub source_labels: Labels,
    pub source_namespace: String,
    pub gateways: Vec<String>,
    pub ignore_uri_case: bool,
    pub stat_prefix: String,
}

/// A [`StringMatch`], or an empty object for mere presence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MatchOrAny(pub StringMatch);

impl<'de> Deserialize<'de> for MatchOrAny {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Form {
            exact: Option<String>,
            prefix: Option<String>,
            regex: Option<String>,
        }
        let form = Option::<Form>::deserialize(deserializer)?.unwrap_or_default();
        Ok(Self(match form {
            Form {
                exact: Some(text), ..
            } => StringMatch::Exact(text),
            Form {
                prefix: Some(text), ..
            } => StringMatch::Prefix(text),
            Form {
                regex: Some(text), ..
            } => StringMatch::Regex(text),
            Form { .. } => StringMatch::Any,
        }))
    }
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// A host as written: short names are of the rule's namespace.
    pub host: String,
    /// A subset of the host's DestinationRule, or "".
    pub subset: String,
    /// The service port.
    pub port: Option<PortSelector>,
}

/// A port by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct PortSelector {
    /// 1 to 65535.
    pub number: u32,
}

/// A weighted destination of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpRouteDestination {
    pub destination: Destination,
    pub weight: i32,
    pub headers: Option<Headers>,
}

/// A weighted destination of connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct RouteDestination {
    pub destination: Destination,
    pub weight: i32,
}

/// Header operations on both ways.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Headers {
    pub request: Option<HeaderOperations>,
    pub response: Option<HeaderOperations>,
}

/// Header operations on one way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HeaderOperations {
    pub set: BTreeMap<String, String>,
    pub add: BTreeMap<String, String>,
    pub remove: Vec<String>,
}

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpRedirect {
    pub uri: String,
    pub prefix_rewrite: String,
    pub authority: String,
    pub port: Option<u32>,
    /// `FROM_PROTOCOL_DEFAULT` or `FROM_REQUEST_PORT`.
    pub derive_port: Option<String>,
    pub scheme: String,
    pub redirect_code: u32,
}

/// An answer without an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpDirectResponse {
    pub status: u32,
    pub body: Option<HttpBody>,
}

/// A fixed body.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct HttpBody {
    /// Text.
    pub string: Option<String>,
    /// Base64 of anything.
    pub bytes: Option<String>,
}

/// Names the VirtualService that has the routes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Delegate {
    pub name: String,
    pub namespace: String,
}

/// A rewrite before forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpRewrite {
    pub uri: String,
    pub authority: String,
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A rewrite of the path by RE2.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct RegexRewrite {
    /// The expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// With `\1` for groups.
    pub rewrite: String,
}

/// A retry policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpRetry {
    pub attempts: i32,
    pub per_try_timeout: Option<Span>,
    pub retry_on: String,
    pub retry_remote_localities: Option<bool>,
    pub retry_ignore_previous_hosts: Option<bool>,
    pub backoff: Option<Span>,
}

/// Faults to inject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpFaultInjection {
    pub delay: Option<FaultDelay>,
    pub abort: Option<FaultAbort>,
}

/// A delay before forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct FaultDelay {
    pub percent: i32,
    pub fixed_delay: Option<Span>,
    pub percentage: Option<Percent>,
}

/// An answer in place of forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct FaultAbort {
    pub http_status: Option<i32>,
    pub grpc_status: Option<String>,
    pub http2_error: Option<String>,
    pub percentage: Option<Percent>,
}

/// A copy of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpMirrorPolicy {
    pub destination: Option<Destination>,
    pub percentage: Option<Percent>,
}

/// Cross-origin rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct CorsPolicy {
    pub allow_origin: Vec<String>,
    pub allow_origins: Vec<MatchOrAny>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Option<Span>,
    pub allow_credentials: Option<bool>,
    /// `UNSPECIFIED`, `FORWARD` or `IGNORE`.
    pub unmatched_preflights: String,
}

/// One rule for TLS connections told apart by SNI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct TlsRoute {
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatchAttributes>,
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct TlsMatchAttributes {
    pub sni_hosts: Vec<String>,
    pub destination_subnets: Vec<String>,
    pub port: u32,
    pub source_labels: Labels,
    pub gateways: Vec<String>,
    pub source_namespace: String,
}

/// One rule for opaque connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct TcpRoute {
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    pub route: Vec<RouteDestination>,
}

/// Conditions on an opaque connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct L4MatchAttributes {
    pub destination_subnets: Vec<String>,
    pub port: u32,
    pub source_subnet: String,
    pub source_labels: Labels,
    pub gateways: Vec<String>,
    pub source_namespace: String,
}

/// The share in percent of a deprecated integer and its successor; the successor wins.
pub fn effective_percent(percentage: Option<Percent>, deprecated: Option<u32>) -> Option<Number> {
    percentage
        .map(|p| p.value)
        .or_else(|| deprecated.map(|p| Number(f64::from(p))))
}
