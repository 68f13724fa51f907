//! Tokens (JWTs) of a request: where they are, what they claim, and what a verified one leaves behind.
//!
//! Source: Envoy `source/extensions/filters/http/jwt_authn/extractor.cc`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::JwtProvider;
use serde_json::{Map, Value};

use crate::header_match::Headers;
use crate::http::Stream;
use crate::path::{split_query, with_query};

/// Where tokens are looked for by providers that name no place.
const DEFAULT_HEADER: (&str, &str) = ("authorization", "Bearer ");
const DEFAULT_PARAM: &str = "access_token";

/// A token that was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// `None` where it can't be read.
    pub(crate) claims: Option<Map<String, Value>>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Header(String),
    Param(String),
    Cookie,
    /// Of a request that is described by its claims.
    Described,
}

/// The tokens in the places of a provider; a described one is in all of them.
pub(crate) fn find(
    provider: &JwtProvider,
    stream: &Stream,
    described: &Map<String, Value>,
) -> Vec<Token> {
    let mut found = Vec::new();
    if !described.is_empty() {
        found.push(Token {
            claims: Some(described.clone()),
            place: Place::Described,
        });
    }
    let own = provider.from_headers.iter();
    let mut headers: Vec<(&str, &str)> = own
        .map(|header| (header.name.as_str(), header.value_prefix.as_str()))
        .collect();
    let mut params: Vec<&str> = provider.from_params.iter().map(String::as_str).collect();
    if headers.is_empty() && params.is_empty() && provider.from_cookies.is_empty() {
        headers.push(DEFAULT_HEADER);
        params.push(DEFAULT_PARAM);
    }
    for (name, prefix) in headers {
        let name = name.to_ascii_lowercase();
        let value = stream.headers.get(&name);
        if let Some(text) = value.and_then(|value| value.split_once(prefix)) {
            found.push(read(text.1, Place::Header(name)));
        }
    }
    let (_, query) = split_query(&stream.path);
    for name in params {
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = values
            .filter(|(key, _)| *key == name)
            .map(|(_, v)| v)
            .next();
        found.extend(value.map(|text| read(text, Place::Param(name.to_owned()))));
    }
    for name in &provider.from_cookies {
        let value = find_cookie(&stream.headers, name);
        found.extend(value.map(|text| read(text, Place::Cookie)));
    }
    found
}

fn find_cookie<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let pairs = headers.get("cookie")?.split(';');
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The claims of what is written as `header.claims.signature`.
fn read(text: &str, place: Place) -> Token {
    let is_own = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = text.find(|c: char| !is_own(c)).unwrap_or(text.len());
    let parts: Vec<&str> = text[..end].split('.').collect();
    let json = |part: &str| -> Option<Map<String, Value>> {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let claims = match parts[..] {
        [header, claims, _] => json(header).and_then(|_| json(claims)),
        _ => None,
    };
    Token { claims, place }
}

/// Take away what only a verified token may set.
pub(crate) fn sanitize(provider: &JwtProvider, headers: &mut Headers) {
    let names = provider
        .claim_to_headers
        .iter()
        .map(|each| &each.header_name);
    for name in names.chain(std::iter::once(&provider.forward_payload_header)) {
        headers.remove(&name.to_ascii_lowercase());
    }
}

/// What a verified token does to the request; its claims as other filters and routes see them.
pub(crate) fn leave(
    provider: &JwtProvider,
    token: &Token,
    stream: &mut Stream,
) -> Map<String, Value> {
    let mut claims = token.claims.clone().unwrap_or_default();
    if !provider.forward {
        remove(&token.place, stream);
    }
    if !provider.forward_payload_header.is_empty() {
        let payload = URL_SAFE_NO_PAD.encode(Value::Object(claims.clone()).to_string());
        let name = provider.forward_payload_header.to_ascii_lowercase();
        stream.headers.insert(name, payload);
    }
    for each in &provider.claim_to_headers {
        if let Some(value) = find_claim(&claims, &each.claim_name) {
            let name = each.header_name.to_ascii_lowercase();
            stream.headers.insert(name, header_value(value));
        }
    }
    let spaced = provider.normalize_payload_in_metadata.iter();
    for name in spaced.flat_map(|each| &each.space_delimited_claims) {
        if let Some(value) = claims.get_mut(name)
            && let Some(text) = value.as_str()
        {
            *value = text.split(' ').collect();
        }
    }
    claims
}

fn remove(place: &Place, stream: &mut Stream) {
    match place {
        Place::Header(name) => {
            stream.headers.remove(name);
        }
        Place::Param(name) => {
            let (path, query) = split_query(&stream.path);
            let is_other = |pair: &&str| pair.split('=').next() != Some(name);
            let kept: Vec<&str> = query.split('&').filter(is_other).collect();
            stream.path = with_query(path, &kept.join("&"));
            let path = stream.path.clone();
            stream.headers.insert(":path".to_owned(), path);
        }
        Place::Cookie | Place::Described => {}
    }
}

/// A claim by its name, or by names with dots between from the outside in.
fn find_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (outer, inner) = name.split_once('.')?;
    find_claim(claims.get(outer)?.as_object()?, inner)
}

fn header_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        other => URL_SAFE_NO_PAD.encode(other.to_string()),
    }
}
