//! Service-account tokens, verified by the platform and remembered for a short while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tonic::Status;

use super::reviews::{Answer, Question, ReviewDesk, TokenFacts};
use crate::registry::lock;

/// The largest token that is looked at; one of Kubernetes has 1 to 2 kB.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How long an answer is taken again: a service account that is deleted is refused after this.
const MAX_REMEMBERED_SECONDS: i64 = 10;
const MAX_REMEMBERED: usize = 20_000;

/// The parts of a token's claims that say what to do with it; nothing is proved by them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UnverifiedClaims {
    pub(super) iss: String,
    pub(super) exp: Option<i64>,
}

/// Read the claims of a JWT without verifying it.
pub(super) fn peek(token: &str) -> Option<UnverifiedClaims> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// A token's digest: the token itself is kept nowhere.
type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

fn fingerprint(token: &str) -> Fingerprint {
    let mut made = Fingerprint::default();
    made.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    made
}

#[derive(Debug)]
struct Remembered {
    facts: TokenFacts,
    expires_at: i64,
    until: i64,
}

/// Asks the platform whose a token is.
#[derive(Debug)]
pub(super) struct TokenReviews {
    desk: Arc<ReviewDesk>,
    audiences: Vec<String>,
    remembered: Mutex<HashMap<Fingerprint, Remembered>>,
}

impl TokenReviews {
    pub(super) fn new(desk: Arc<ReviewDesk>, audiences: Vec<String>) -> Self {
        Self {
            desk,
            audiences,
            remembered: Mutex::default(),
        }
    }

    /// Whose it is, and the second of its end, if the platform has said so a short while ago.
    pub(super) fn find_remembered(&self, token: &str, now: i64) -> Option<(TokenFacts, i64)> {
        let remembered = lock(&self.remembered);
        let known = remembered.get(&fingerprint(token))?;
        (now < known.until).then(|| (known.facts.clone(), known.expires_at))
    }

    /// Whose it is by the platform's word, and the second of its end.
    pub(super) async fn review(&self, token: &str, now: i64) -> Result<(TokenFacts, i64), Status> {
        let Some(expires_at) = peek(token).and_then(|claims| claims.exp) else {
            return Err(Status::unauthenticated(
                "the token is no service-account token: it has no expiry",
            ));
        };
        if expires_at <= now {
            return Err(Status::unauthenticated("the token has expired"));
        }
        let question = Question::Token {
            token: token.to_owned(),
            audiences: self.audiences.clone(),
        };
        match self.desk.ask(question).await? {
            Answer::Token(facts) => {
                self.remember(fingerprint(token), &facts, now, expires_at);
                Ok((facts, expires_at))
            }
            Answer::Denied(why) => Err(Status::unauthenticated(format!(
                "the token is refused: {why}"
            ))),
            Answer::Allowed | Answer::Failed(_) => {
                Err(Status::internal("a token's review has another answer"))
            }
        }
    }

    fn remember(&self, fingerprint: Fingerprint, facts: &TokenFacts, now: i64, expires_at: i64) {
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, each| now < each.until);
        }
        if remembered.len() < MAX_REMEMBERED {
            let until = expires_at.min(now + MAX_REMEMBERED_SECONDS);
            let known = Remembered {
                facts: facts.clone(),
                expires_at,
                until,
            };
            remembered.insert(fingerprint, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::super::credential_name::CredentialName;
    use super::super::oidc::{Issuer, Issuers};
    use super::peek;

    const ISSUER: &str = "https://issuer.example";

    fn issuers() -> Issuers {
        // The key of RFC 7517, A.1.
        let jwks = r#"{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
        Issuers::new(&[Issuer {
            issuer: ISSUER.into(),
            audiences: vec!["mesh".into()],
            jwks_json: jwks.into(),
        }])
        .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// No token without the issuer's signature is taken, whatever its parts are.
        #[test]
        fn no_invented_token_is_taken(
            header in prop_oneof![
                Just(r#"{"alg":"none"}"#.to_owned()),
                Just(r#"{"alg":"HS256"}"#.to_owned()),
                Just(r#"{"alg":"ES256","jwk":{}}"#.to_owned()),
                ".{0,60}",
            ],
            claims in prop_oneof![
                Just(format!(r#"{{"iss":"{ISSUER}","aud":"mesh","exp":99999999999,
                    "sub":"system:serviceaccount:a:b"}}"#)),
                ".{0,120}",
            ],
            signature: Vec<u8>,
        ) {
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let token = [part(header.as_bytes()), part(claims.as_bytes()), part(&signature)].join(".");
            let _ = peek(&token);
            prop_assert!(issuers().verify(ISSUER, &token).is_err());
        }

        /// Any text is a token of nobody, and the name of a Secret of one namespace or of none.
        #[test]
        fn no_text_breaks_a_reader(text in "(kubernetes://|kubernetes-gateway://|configmap://)?.{0,60}") {
            let _ = peek(&text);
            prop_assert!(issuers().verify(ISSUER, &text).is_err());
            if let Some(name) = CredentialName::read(&text, "own") {
                prop_assert!(!name.namespace.contains('/') && !name.name.contains('/'));
                prop_assert!(!name.namespace.is_empty() && !name.name.is_empty());
            }
        }
    }
}
