//! Tokens of configured issuers (`OpenID` Connect), verified by the issuer's keys.
//!
//! As Istio's (security/pkg/server/ca/authenticate/oidc.go) they name a service account in `sub`:
//! `system:serviceaccount:<namespace>:<name>`.

use std::collections::BTreeMap;
use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::reviews::TokenFacts;

/// Clocks may differ by this much.
const LEEWAY_SECONDS: u64 = 30;

/// An issuer as it is configured.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// At least one of these must be in `aud`.
    pub audiences: Vec<String>,
    /// Its keys, a JSON Web Key Set.
    pub jwks_json: String,
}

/// Why an issuer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The keys can't be read.
    #[error("the keys of issuer `{issuer}` are no JSON Web Key Set")]
    Keys {
        /// Whose.
        issuer: String,
        /// What the parser found.
        #[source]
        source: serde_json::Error,
    },
    /// There is no key that verifies signatures.
    #[error("issuer `{0}` has no RSA or elliptic-curve key")]
    NoKey(String),
    /// Nothing says whom its tokens must be for.
    #[error("issuer `{0}` has no audience: its tokens for anybody else would be taken")]
    NoAudience(String),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
}

struct Key {
    id: Option<String>,
    /// What this key may be used with: never what the token asks for (no HMAC by a public key, no `none`).
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

struct Known {
    audiences: Vec<String>,
    keys: Vec<Key>,
}

/// The issuers whose tokens are taken.
#[derive(Default)]
pub struct Issuers {
    by_name: BTreeMap<String, Known>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Issuers {
    /// Read their keys.
    pub fn new(issuers: &[Issuer]) -> Result<Self, IssuerError> {
        let mut by_name = BTreeMap::new();
        for each in issuers {
            if each.audiences.is_empty() {
                return Err(IssuerError::NoAudience(each.issuer.clone()));
            }
            let set: JwkSet =
                serde_json::from_str(&each.jwks_json).map_err(|source| IssuerError::Keys {
                    issuer: each.issuer.clone(),
                    source,
                })?;
            let keys: Vec<Key> = set.keys.iter().filter_map(read_key).collect();
            if keys.is_empty() {
                return Err(IssuerError::NoKey(each.issuer.clone()));
            }
            let audiences = each.audiences.clone();
            by_name.insert(each.issuer.clone(), Known { audiences, keys });
        }
        Ok(Self { by_name })
    }

    /// Whether tokens that name this issuer are verified here.
    pub(super) fn has(&self, issuer: &str) -> bool {
        self.by_name.contains_key(issuer)
    }

    /// Verify a token: whose it is, and the second of its end.
    ///
    /// # Errors
    /// Why it is refused, fit for the caller's eyes.
    pub fn verify(&self, issuer: &str, token: &str) -> Result<(TokenFacts, i64), String> {
        let known = self.by_name.get(issuer).ok_or("its issuer is unknown")?;
        let header = decode_header(token).map_err(|e| e.to_string())?;
        let mut refusal = "its issuer has no key for it".to_owned();
        for key in &known.keys {
            let is_other_key = header.kid.is_some() && key.id.is_some() && header.kid != key.id;
            if is_other_key || !key.algorithms.contains(&header.alg) {
                continue;
            }
            let mut validation = Validation::new(header.alg);
            validation.leeway = LEEWAY_SECONDS;
            validation.validate_nbf = true;
            validation.set_issuer(&[issuer]);
            validation.set_audience(&known.audiences);
            validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(verified) => return read_subject(&verified.claims),
                Err(error) => refusal = error.to_string(),
            }
        }
        Err(refusal)
    }
}

fn read_key(jwk: &Jwk) -> Option<Key> {
    let algorithms: &'static [Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(_) => &[Algorithm::ES256, Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        AlgorithmParameters::OctetKey(_) => return None,
    };
    Some(Key {
        id: jwk.common.key_id.clone(),
        algorithms,
        key: DecodingKey::from_jwk(jwk).ok()?,
    })
}

fn read_subject(claims: &Claims) -> Result<(TokenFacts, i64), String> {
    let shape = "its subject is not system:serviceaccount:<namespace>:<name>";
    let rest = claims
        .sub
        .strip_prefix("system:serviceaccount:")
        .ok_or(shape)?;
    let (namespace, service_account) = rest.split_once(':').ok_or(shape)?;
    let facts = TokenFacts {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
    };
    Ok((facts, claims.exp))
}
