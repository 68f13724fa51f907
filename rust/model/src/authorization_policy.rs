//! AuthorizationPolicy (security.istio.io), as the Python half validated it.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/security/authorization-policy/>.

use serde::Deserialize;

use crate::{Metadata, PolicyAttachment};

/// The annotation that makes a policy tell what it would do, and do nothing.
const DRY_RUN: &str = "istio.io/dry-run";

/// An AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct AuthorizationPolicy {
    /// Name, namespace, age, and whether it is a dry run.
    pub metadata: Metadata,
    /// Who may do what.
    pub spec: AuthorizationPolicySpec,
}

impl AuthorizationPolicy {
    /// Whether the policy tells only what it would do.
    pub fn is_dry_run(&self) -> bool {
        // The forms of Go's strconv.ParseBool.
        let value = self.metadata.annotations.get(DRY_RUN).map(String::as_str);
        matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct AuthorizationPolicySpec {
    #[serde(flatten)]
    pub attachment: PolicyAttachment,
    pub rules: Vec<AuthorizationRule>,
    pub action: PolicyAction,
    pub provider: Option<PolicyProvider>,
}

/// What happens to requests that a rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PolicyAction {
    /// They pass; where any policy allows, all others do not.
    #[default]
    Allow,
    /// They are refused.
    Deny,
    /// They are marked.
    Audit,
    /// An extension provider decides.
    Custom,
}

/// The extension provider of a CUSTOM policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct PolicyProvider {
    /// Its name in MeshConfig.
    pub name: String,
}

/// A request that fits one entry of each list; an empty rule fits any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct AuthorizationRule {
    pub from: Vec<RuleFrom>,
    pub to: Vec<RuleTo>,
    pub when: Vec<RuleCondition>,
}

/// One entry of `from`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct RuleFrom {
    /// Who.
    pub source: RequestSource,
}

/// One entry of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct RuleTo {
    /// What.
    pub operation: RequestOperation,
}

/// Who: all fields that are given must hold, one entry of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct RequestSource {
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub request_principals: Vec<String>,
    pub not_request_principals: Vec<String>,
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub ip_blocks: Vec<String>,
    pub not_ip_blocks: Vec<String>,
    pub remote_ip_blocks: Vec<String>,
    pub not_remote_ip_blocks: Vec<String>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub trust_domains: Vec<String>,
    pub not_trust_domains: Vec<String>,
}

/// What: all fields that are given must hold, one entry of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct RequestOperation {
    pub hosts: Vec<String>,
    pub not_hosts: Vec<String>,
    pub ports: Vec<String>,
    pub not_ports: Vec<String>,
    pub methods: Vec<String>,
    pub not_methods: Vec<String>,
    pub paths: Vec<String>,
    pub not_paths: Vec<String>,
}

/// One entry of `when`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct RuleCondition {
    pub key: String,
    pub values: Vec<String>,
    pub not_values: Vec<String>,
}
