//! GRPCRoute.

use serde::Deserialize;

use super::{BackendReference, ParentReference, RouteFilter, ValueMatch};
use crate::Metadata;

/// A GRPCRoute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct GrpcRoute {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Parents, hosts, rules.
    pub spec: GrpcRouteSpec,
}

/// Parents, hosts, rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct GrpcRouteSpec {
    pub parent_refs: Vec<ParentReference>,
    pub hostnames: Vec<String>,
    pub rules: Vec<GrpcRouteRule>,
}

/// What happens to calls that any match takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct GrpcRouteRule {
    pub name: Option<String>,
    pub matches: Vec<GrpcRouteMatch>,
    pub filters: Vec<RouteFilter>,
    pub backend_refs: Vec<BackendReference>,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct GrpcRouteMatch {
    pub method: Option<GrpcMethodMatch>,
    pub headers: Vec<ValueMatch>,
}

/// A condition on service and method; at least one of them is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct GrpcMethodMatch {
    /// `Exact` (also when absent) or `RegularExpression`.
    #[serde(rename = "type")]
    pub match_type: Option<String>,
    /// With its package.
    pub service: Option<String>,
    /// Without its service.
    pub method: Option<String>,
}
