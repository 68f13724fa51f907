//! The filter that verifies tokens.
//!
//! Source: istio `pilot/pkg/security/authn/policy_applier.go` `convertToEnvoyJwtConfig`.

use std::collections::{BTreeMap, BTreeSet};

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::core::v3::DataSource;
use navarch_envoy::envoy::config::core::v3::data_source::Specifier;
use navarch_envoy::envoy::config::route::v3::RouteMatch;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement,
    JwtRequirementAndList, JwtRequirementOrList, RequirementRule,
};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use navarch_snapshot::TokenIssuer;

use super::matcher::{JWT_FILTER, PAYLOAD};
use crate::http_filter::filter;

/// Claims that hold several values with spaces between them.
const SPACE_DELIMITED: [&str; 2] = ["permission", "scope"];

/// Keys in place of those that could not be fetched yet: a set is needed, and this one lets no token pass.
///
/// Nobody can sign with it: `x` is the first SHA-256 of `navarch: no key signs this <n>`, n = 0, 1, …, that is the
/// coordinate of a point of P-256, so that nobody knows the point's logarithm.
pub(super) const NO_KEYS: &str = concat!(
    r#"{"keys":[{"crv":"P-256","kid":"navarch-not-fetched","kty":"EC","#,
    r#""x":"g6vioi_v7ZDNqqKTloAWrjPA62I64wPGMcni7pthoyI","#,
    r#""y":"CNcqrUgaF8xOCDCwsCmFVRRcSSOgNGfmHAmGEt7Q_08"}]}"#
);

/// The filter; `None` where nobody's tokens are verified.
///
/// A token that is there must be valid, and none need be there: an AuthorizationPolicy asks for that.
pub(super) fn build(issuers: &[TokenIssuer], clear_route_cache: bool) -> Option<HttpFilter> {
    if issuers.is_empty() {
        return None;
    }
    let mut providers = BTreeMap::new();
    let mut names = Vec::with_capacity(issuers.len());
    for (index, issuer) in issuers.iter().enumerate() {
        let name = format!("origins-{index}");
        providers.insert(name.clone(), provider(issuer, clear_route_cache));
        names.push(name);
    }
    let rule = RequirementRule {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        requirement_type: Some(RequirementType::Requires(requirement_of(&names))),
    };
    let config = JwtAuthentication {
        providers,
        rules: vec![rule],
        bypass_cors_preflight: true,
        ..JwtAuthentication::default()
    };
    Some(filter(JWT_FILTER, pack(&config)))
}

fn provider(issuer: &TokenIssuer, clear_route_cache: bool) -> JwtProvider {
    let rule = &issuer.rule;
    let own = rule.space_delimited_claims.iter().map(String::as_str);
    let claims: BTreeSet<&str> = own.chain(SPACE_DELIMITED).collect();
    let headers = rule.from_headers.iter();
    let outputs = rule.output_claim_to_headers.iter();
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        from_headers: headers
            .map(|header| JwtHeader {
                name: header.name.clone(),
                value_prefix: header.prefix.clone(),
            })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.output_payload_to_header.clone(),
        claim_to_headers: outputs
            .map(|output| JwtClaimToHeader {
                header_name: output.header.clone(),
                claim_name: output.claim.clone(),
            })
            .collect(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: claims.into_iter().map(str::to_owned).collect(),
        }),
        clear_route_cache,
        jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(Specifier::InlineString(keys_of(issuer).to_owned())),
            ..DataSource::default()
        })),
        ..JwtProvider::default()
    }
}

fn keys_of(issuer: &TokenIssuer) -> &str {
    if !issuer.rule.jwks.is_empty() {
        return &issuer.rule.jwks;
    }
    let fetched = issuer.fetched.as_ref();
    fetched.map_or(NO_KEYS, |keys| &keys.jwks)
}

fn requirement(kind: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(kind),
    }
}

/// One issuer: its token or none. Several: a token of any of them, or each one's token or none.
///
/// The first part is for issuers whose tokens come in the same place, where the others' verdict is always no.
fn requirement_of(names: &[String]) -> JwtRequirement {
    let by = |name: &String| requirement(RequiresType::ProviderName(name.clone()));
    let any = |requirements| {
        requirement(RequiresType::RequiresAny(JwtRequirementOrList {
            requirements,
        }))
    };
    let mut each: Vec<JwtRequirement> = names
        .iter()
        .map(|name| any(vec![by(name), requirement(RequiresType::AllowMissing(()))]))
        .collect();
    if each.len() == 1 {
        return each.remove(0);
    }
    let mut one: Vec<JwtRequirement> = names.iter().map(by).collect();
    let all = JwtRequirementAndList { requirements: each };
    one.push(requirement(RequiresType::RequiresAll(all)));
    any(one)
}
