//! RequestAuthentication (security.istio.io), as the Python half validated it, and key sets as they were fetched.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/security/request_authentication/>.

use serde::Deserialize;

use crate::{Metadata, PolicyAttachment, Span};

/// Where an OpenID provider tells of itself, below its issuer.
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// A RequestAuthentication.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct RequestAuthentication {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Whose tokens are verified.
    pub spec: RequestAuthenticationSpec,
}

/// Whose tokens are verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct RequestAuthenticationSpec {
    #[serde(flatten)]
    pub attachment: PolicyAttachment,
    pub jwt_rules: Vec<JwtRule>,
}

/// One issuer, where its tokens are, and what is handed on; `presence` has no effect in Istio 1.32 either.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct JwtRule {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub jwks_uri: String,
    pub jwks: String,
    pub from_headers: Vec<JwtHeader>,
    pub from_params: Vec<String>,
    pub from_cookies: Vec<String>,
    pub output_payload_to_header: String,
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    pub forward_original_token: bool,
    pub timeout: Option<Span>,
    pub space_delimited_claims: Vec<String>,
}

impl JwtRule {
    /// Where the rule's keys are fetched from; `None` where they stand in the rule.
    ///
    /// Without `jwksUri` the issuer is an OpenID provider that tells where its keys are.
    pub fn key_set_address(&self) -> Option<String> {
        if !self.jwks.is_empty() {
            return None;
        }
        if self.jwks_uri.is_empty() {
            return Some(format!("{}{DISCOVERY_PATH}", self.issuer));
        }
        Some(self.jwks_uri.clone())
    }
}

/// A header with a token, after a prefix such as `Bearer `.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct JwtHeader {
    pub name: String,
    pub prefix: String,
}

/// A claim that is copied into a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ClaimToHeader {
    pub header: String,
    pub claim: String,
}

/// A key set as it was fetched last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct JsonWebKeySet {
    /// The set as JSON.
    pub jwks: String,
}

#[cfg(test)]
mod tests {
    use super::JwtRule;

    #[test]
    fn keys_come_from_the_rule_its_address_or_the_issuer() {
        let rule = |jwks: &str, jwks_uri: &str| JwtRule {
            issuer: "https://issuer.example".to_owned(),
            jwks: jwks.to_owned(),
            jwks_uri: jwks_uri.to_owned(),
            ..JwtRule::default()
        };
        assert_eq!(rule("{}", "https://keys.example").key_set_address(), None);
        assert_eq!(
            rule("", "https://keys.example")
                .key_set_address()
                .as_deref(),
            Some("https://keys.example")
        );
        assert_eq!(
            rule("", "").key_set_address().as_deref(),
            Some("https://issuer.example/.well-known/openid-configuration")
        );
    }
}
