//! Kubernetes Gateway API (gateway.networking.k8s.io), as the API server sends its objects.
//!
//! Fields and meanings: <https://gateway-api.sigs.k8s.io/reference/spec/>. Absent fields stay `None` where the
//! default depends on where the field stands. Routes as the mesh itself knows them are those of
//! [`crate::VirtualService`]; the names here are the API's own and live in this module.

mod backend_tls_policy;
mod grpc_route;
mod http_route;
mod listener;

use serde::Deserialize;

use crate::{Labels, Metadata};

pub use backend_tls_policy::*;
pub use grpc_route::*;
pub use http_route::*;
pub use listener::*;

/// The API's group.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// A GatewayClass: who handles the Gateways that name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct GatewayClass {
    /// Name and age.
    pub metadata: Metadata,
    /// The handler.
    pub spec: GatewayClassSpec,
}

/// The handler of a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// Such as `istio.io/gateway-controller`.
    pub controller_name: String,
}

/// A reference to what a route is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, PartialOrd, Ord)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct ParentReference {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub section_name: Option<String>,
    pub port: Option<u32>,
}

/// A reference to an object: a Secret, a ConfigMap, a policy's target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct ObjectReference {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub section_name: Option<String>,
}

/// A destination with its weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct BackendReference {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<u32>,
    pub weight: Option<i32>,
    /// Only header modifiers are taken here; empty for routes of connections.
    pub filters: Vec<RouteFilter>,
}

impl BackendReference {
    /// The weight; 1 where nothing is said.
    pub fn weight(&self) -> i32 {
        self.weight.unwrap_or(1)
    }
}

/// A TCPRoute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct TcpRoute {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Parents and rules.
    pub spec: ConnectionRouteSpec,
}

/// A TLSRoute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct TlsRoute {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Parents and rules.
    pub spec: ConnectionRouteSpec,
}

/// Parents and rules of a TCPRoute or TLSRoute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConnectionRouteSpec {
    /// What it is bound to.
    pub parent_refs: Vec<ParentReference>,
    /// SNI hosts; empty for TCPRoutes.
    pub hostnames: Vec<String>,
    /// Destinations.
    pub rules: Vec<ConnectionRouteRule>,
}

/// Destinations of connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConnectionRouteRule {
    /// By weight.
    pub backend_refs: Vec<BackendReference>,
}

/// A ReferenceGrant: which objects of other namespaces may refer to those of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ReferenceGrant {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Who may refer to what.
    pub spec: ReferenceGrantSpec,
}

/// Who may refer to what: every `from` to every `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ReferenceGrantSpec {
    /// Kinds of objects, by namespace.
    pub from: Vec<GrantFrom>,
    /// Kinds of objects of the grant's namespace, or single ones.
    pub to: Vec<GrantTo>,
}

/// Objects of one kind and namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct GrantFrom {
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

/// Objects of one kind, or the one of that name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct GrantTo {
    pub group: String,
    pub kind: String,
    pub name: Option<String>,
}

/// A selection by labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// All of these pairs.
    pub match_labels: Labels,
    /// And all of these.
    pub match_expressions: Vec<LabelExpression>,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    pub values: Vec<String>,
}

impl LabelSelector {
    /// Whether labels meet every condition; an unknown operator selects nothing.
    pub fn is_selecting(&self, labels: &Labels) -> bool {
        crate::is_selected(&self.match_labels, labels)
            && self.match_expressions.iter().all(|condition| {
                let value = labels.get(&condition.key);
                let is_listed = value.is_some_and(|value| condition.values.contains(value));
                match condition.operator.as_str() {
                    "In" => is_listed,
                    "NotIn" => !is_listed,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{LabelExpression, LabelSelector};
    use crate::Labels;

    #[test]
    fn a_selector_holds_when_every_condition_does() {
        let labels = Labels::from([("team".to_owned(), "a".to_owned())]);
        for (operator, values, want) in [
            ("In", &["a", "b"][..], true),
            ("In", &["b"], false),
            ("NotIn", &["b"], true),
            ("Exists", &[], true),
            ("DoesNotExist", &[], false),
            ("Near", &["a"], false),
        ] {
            let selector = LabelSelector {
                match_labels: labels.clone(),
                match_expressions: vec![LabelExpression {
                    key: "team".to_owned(),
                    operator: operator.to_owned(),
                    values: values.iter().map(|v| (*v).to_owned()).collect(),
                }],
            };
            assert_eq!(selector.is_selecting(&labels), want, "{operator}");
        }
    }
}
