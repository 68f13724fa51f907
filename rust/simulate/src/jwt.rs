//! The filter that verifies tokens.
//!
//! Signatures are not verified: a token is taken to be signed by its issuer.
//! Sources: Envoy `source/extensions/filters/http/jwt_authn/verifier.cc`, `authenticator.cc`.

use navarch_envoy::envoy::config::core::v3::data_source::Specifier;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtProvider, JwtRequirement,
};
use serde_json::{Map, Value, json};

use crate::http::Stream;
use crate::outcome::{End, Stage, Step, refused};
use crate::path::split_query;
use crate::request::Request;
use crate::route_match::is_path_match;
use crate::token::{self, Token};

/// Where the filter leaves what a token claims.
const METADATA: &str = "envoy.filters.http.jwt_authn";
/// The key's name in a set that navarch gives while it has not fetched the issuer's own.
const NOT_FETCHED: &str = "navarch-not-fetched";
/// What clocks may differ by where a provider says nothing.
const DEFAULT_SKEW_SECONDS: u32 = 60;

/// Why a request is refused.
#[derive(Clone, Debug)]
struct Refusal {
    status: u32,
    why: String,
    /// Others' refusals are told before that there is no token of a kind.
    is_weak: bool,
}

/// One request before the filter.
struct Trial<'a> {
    config: &'a JwtAuthentication,
    request: &'a Request,
    stream: &'a mut Stream,
    /// Issuer and subject of the tokens that were verified.
    verified: Vec<String>,
    notes: Vec<String>,
}

/// Verify the request's tokens, and leave what they claim in the stream.
pub(crate) fn verify(
    config: &JwtAuthentication,
    request: &Request,
    stream: &mut Stream,
) -> Result<Step, End> {
    for provider in config.providers.values() {
        token::sanitize(provider, &mut stream.headers);
    }
    if config.bypass_cors_preflight && is_preflight(stream) {
        return Ok(step("no token", "a CORS preflight needs none"));
    }
    let path = split_query(&stream.path).0;
    let rule = config.rules.iter().find(|rule| {
        let wanted = rule.r#match.as_ref();
        wanted.is_none_or(|wanted| is_path_match(wanted, path, &stream.headers))
    });
    let requirement = match rule.and_then(|rule| rule.requirement_type.as_ref()) {
        Some(RequirementType::Requires(requirement)) => Some(requirement),
        Some(RequirementType::RequirementName(name)) => config.requirement_map.get(name),
        None => None,
    };
    let mut trial = Trial {
        config,
        request,
        stream,
        verified: Vec::new(),
        notes: Vec::new(),
    };
    let verdict = requirement.map_or(Ok(()), |requirement| trial.judge(requirement, &[]));
    if let Err(refusal) = verdict {
        return Err(refused(refusal.status, refusal.why));
    }
    trial.verified.dedup();
    let made = if trial.verified.is_empty() {
        step(
            "no token",
            "none need be there; one that is there must be valid",
        )
    } else {
        let why = "its signature is taken to be its issuer's";
        step(&trial.verified.join(", "), why)
    };
    trial.notes.sort();
    trial.notes.dedup();
    Ok(made.with_notes(trial.notes))
}

fn step(chosen: &str, why: &str) -> Step {
    Step::new(Stage::Token, chosen, why)
}

fn is_preflight(stream: &Stream) -> bool {
    let has = |name: &str| stream.headers.get(name).is_some_and(|v| !v.is_empty());
    stream.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

impl Trial<'_> {
    /// `used` are the providers that a requirement stands beside, if any; their tokens alone may be missing.
    fn judge(&mut self, requirement: &JwtRequirement, used: &[&str]) -> Result<(), Refusal> {
        match &requirement.requires_type {
            Some(RequiresType::ProviderName(name)) => self.by_provider(name, None),
            Some(RequiresType::ProviderAndAudiences(both)) => {
                self.by_provider(&both.provider_name, Some(&both.audiences))
            }
            Some(RequiresType::RequiresAll(all)) => all
                .requirements
                .iter()
                .try_for_each(|one| self.judge(one, &[])),
            Some(RequiresType::RequiresAny(any)) => self.any(&any.requirements),
            Some(RequiresType::AllowMissing(())) => self.missing(used),
            Some(RequiresType::AllowMissingOrFailed(())) | None => Ok(()),
        }
    }

    /// The first that is met; what lets a request without a token pass comes last.
    fn any(&mut self, requirements: &[JwtRequirement]) -> Result<(), Refusal> {
        let is_bypass = |one: &&JwtRequirement| {
            matches!(
                one.requires_type,
                Some(RequiresType::AllowMissing(()) | RequiresType::AllowMissingOrFailed(()))
            )
        };
        let used: Vec<&str> = requirements.iter().filter_map(provider_name).collect();
        let (bypasses, regular): (Vec<_>, Vec<_>) = requirements.iter().partition(is_bypass);
        let mut refusal: Option<Refusal> = None;
        for one in regular.into_iter().chain(bypasses) {
            let Err(next) = self.judge(one, &used) else {
                return Ok(());
            };
            refusal = match refusal {
                Some(former) if next.is_weak => Some(former),
                _ => Some(next),
            };
        }
        refusal.map_or(Ok(()), Err)
    }

    fn by_provider(&mut self, name: &str, audiences: Option<&[String]>) -> Result<(), Refusal> {
        let Some(provider) = self.config.providers.get(name) else {
            return Err(weak(format!("there is no provider {name}")));
        };
        let tokens = token::find(provider, self.stream, &self.request.claims);
        if tokens.is_empty() {
            return Err(weak(format!("there is no token of {}", provider.issuer)));
        }
        let audiences = audiences.unwrap_or(&provider.audiences);
        tokens
            .iter()
            .try_for_each(|token| self.take(provider, token, audiences))
    }

    /// No token, or one of a provider that is known by its issuer.
    fn missing(&mut self, used: &[&str]) -> Result<(), Refusal> {
        let config = self.config;
        let providers: Vec<&JwtProvider> = config
            .providers
            .iter()
            .filter(|(name, _)| used.is_empty() || used.contains(&name.as_str()))
            .map(|(_, provider)| provider)
            .collect();
        let mut tokens: Vec<Token> = Vec::new();
        for provider in &providers {
            let found = token::find(provider, self.stream, &self.request.claims);
            let new = found.into_iter().filter(|token| !tokens.contains(token));
            let new: Vec<Token> = new.collect();
            tokens.extend(new);
        }
        tokens.iter().try_for_each(|token| {
            let claims = token.claims.as_ref().ok_or_else(unreadable)?;
            let issuer = text(claims, "iss");
            let known = providers.iter().find(|p| p.issuer == issuer);
            let known = known.or_else(|| providers.iter().find(|p| p.issuer.is_empty()));
            let provider = known.ok_or_else(|| unknown_issuer(issuer))?;
            self.take(provider, token, &provider.audiences)
        })
    }

    fn take(
        &mut self,
        provider: &JwtProvider,
        token: &Token,
        audiences: &[String],
    ) -> Result<(), Refusal> {
        let claims = token.claims.as_ref().ok_or_else(unreadable)?;
        let issuer = text(claims, "iss");
        if !provider.issuer.is_empty() && provider.issuer != issuer {
            return Err(unknown_issuer(issuer));
        }
        self.check_times(provider, claims)?;
        if !audiences.is_empty() && !has_audience(claims, audiences) {
            let own = claims
                .get("aud")
                .map_or_else(|| "none".to_owned(), Value::to_string);
            let why = format!(
                "the token's audience is {own}, wanted: {}",
                audiences.join(" or ")
            );
            return Err(Refusal {
                status: 403,
                ..strong(why)
            });
        }
        if is_unfetched(provider) {
            let note =
                format!("the keys of {issuer} are fetched by a server; they are taken to be there");
            self.notes.push(note);
        }
        let whose = format!("{issuer}/{}", text(claims, "sub"));
        let claims = token::leave(provider, token, self.stream);
        if !provider.payload_in_metadata.is_empty() {
            let of_filter = self
                .stream
                .metadata
                .entry(METADATA)
                .or_insert_with(|| json!({}));
            of_filter[&provider.payload_in_metadata] = Value::Object(claims);
        }
        self.verified.push(whose);
        Ok(())
    }

    fn check_times(
        &mut self,
        provider: &JwtProvider,
        claims: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let skew = match provider.clock_skew_seconds {
            0 => DEFAULT_SKEW_SECONDS,
            seconds => seconds,
        };
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        let (not_before, expiry) = (time("nbf"), time("exp"));
        let Some(now) = self.request.now_seconds else {
            if not_before.or(expiry).is_some() {
                let note = "the time is not told: the token is taken to be valid now";
                self.notes.push(note.to_owned());
            }
            return Ok(());
        };
        if not_before.is_some_and(|time| now + f64::from(skew) < time) {
            return Err(strong("the token is not valid yet"));
        }
        if expiry.is_some_and(|time| now > time + f64::from(skew)) {
            return Err(strong("the token has expired"));
        }
        Ok(())
    }
}

fn provider_name(requirement: &JwtRequirement) -> Option<&str> {
    match requirement.requires_type.as_ref()? {
        RequiresType::ProviderName(name) => Some(name),
        RequiresType::ProviderAndAudiences(both) => Some(&both.provider_name),
        _ => None,
    }
}

fn is_unfetched(provider: &JwtProvider) -> bool {
    match &provider.jwks_source_specifier {
        Some(JwksSourceSpecifier::LocalJwks(source)) => matches!(
            &source.specifier,
            Some(Specifier::InlineString(keys)) if keys.contains(NOT_FETCHED)
        ),
        _ => true,
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> &'a str {
    claims.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Audiences are compared without a scheme and a trailing slash (Envoy `jwt_verify_lib`'s `CheckAudience`).
fn has_audience(claims: &Map<String, Value>, wanted: &[String]) -> bool {
    let bare = |text: &str| {
        let text = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        text.map(|text| text.trim_end_matches('/').to_owned())
    };
    let bare = |text: &str| bare(text).unwrap_or_else(|| text.trim_end_matches('/').to_owned());
    let wanted: Vec<String> = wanted.iter().map(|text| bare(text)).collect();
    let is_wanted = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| wanted.contains(&bare(text)))
    };
    match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_wanted),
        Some(one) => is_wanted(one),
        None => false,
    }
}

fn strong(why: impl Into<String>) -> Refusal {
    Refusal {
        status: 401,
        why: why.into(),
        is_weak: false,
    }
}

fn weak(why: impl Into<String>) -> Refusal {
    Refusal {
        is_weak: true,
        ..strong(why)
    }
}

fn unreadable() -> Refusal {
    strong("the token can't be read: it is not `header.claims.signature` in base64url")
}

fn unknown_issuer(issuer: &str) -> Refusal {
    weak(format!("tokens of `{issuer}` are not taken"))
}
