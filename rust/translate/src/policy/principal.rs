//! Who does it: conditions on sources as RBAC principals.
//!
//! Source: istio `pilot/pkg/security/authz/model/generator.go`.

use navarch_envoy::envoy::config::rbac::v3::Principal;
use navarch_envoy::envoy::config::rbac::v3::principal::{Authenticated, Identifier, Set};
use navarch_envoy::envoy::r#type::matcher::v3::StringMatcher;

use super::matcher;
use super::rule::{Layer, RuleContext, Unanswerable, each, in_brackets};
use crate::address::cidr_range;
use crate::rds::quote;

const SPIFFE: &str = "spiffe://";

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PrincipalKind {
    Principal,
    RequestPrincipal,
    ServiceAccount,
    TrustDomain,
    Namespace,
    RemoteIp,
    SourceIp,
    Header(String),
    /// A claim that is the value, or a list with it; nested claims one below the other.
    Claim(Vec<String>),
}

impl PrincipalKind {
    /// The kind of a key of `when`.
    pub(super) fn parse(key: &str) -> Option<Self> {
        let claim = |name: &str| Self::Claim(vec![name.to_owned()]);
        Some(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::Namespace,
            "source.principal" => Self::Principal,
            "source.serviceAccount" => Self::ServiceAccount,
            "source.trustDomain" => Self::TrustDomain,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => claim("aud"),
            "request.auth.presenter" => claim("azp"),
            _ => {
                if let Some(name) = key.strip_prefix("request.headers") {
                    return Some(Self::Header(in_brackets(name)?.to_owned()));
                }
                let names = in_brackets(key.strip_prefix("request.auth.claims")?)?;
                Self::Claim(names.split("][").map(str::to_owned).collect())
            }
        })
    }

    fn is_http_only(&self) -> bool {
        matches!(
            self,
            Self::RequestPrincipal | Self::Header(_) | Self::Claim(_)
        )
    }
}

/// Any of the values; `None` where there is none to look at.
pub(super) fn any_of(
    kind: &PrincipalKind,
    values: &[String],
    context: RuleContext<'_>,
) -> Result<Option<Principal>, Unanswerable> {
    let is_hidden = kind.is_http_only() && context.layer == Layer::Tcp;
    if is_hidden && !values.is_empty() && context.is_allow {
        return Err(Unanswerable);
    }
    if is_hidden || values.is_empty() {
        return Ok(None);
    }
    match kind {
        PrincipalKind::RequestPrincipal => Ok(Some(request_principals(values))),
        PrincipalKind::Claim(names) => Ok(claim(names, values)),
        _ => {
            let ids = each(values, context, |value| {
                one(kind, value, context).map(principal).ok_or(Unanswerable)
            })?;
            Ok((!ids.is_empty()).then(|| principal(Identifier::OrIds(Set { ids }))))
        }
    }
}

fn one(kind: &PrincipalKind, value: &str, context: RuleContext<'_>) -> Option<Identifier> {
    Some(match kind {
        PrincipalKind::Principal => authenticated(identity(value)),
        PrincipalKind::Namespace => {
            let namespace = matcher::quote_with_wildcards(value, ".*");
            authenticated(matcher::regex(format!(".*/ns/{namespace}/.*")))
        }
        PrincipalKind::ServiceAccount => authenticated(account(value, context.namespace)),
        PrincipalKind::TrustDomain => authenticated(trust_domain(value)),
        PrincipalKind::RemoteIp => Identifier::RemoteIp(cidr_range(value)?),
        PrincipalKind::SourceIp => Identifier::DirectRemoteIp(cidr_range(value)?),
        PrincipalKind::Header(name) => Identifier::Header(matcher::header(name, value, false)),
        PrincipalKind::RequestPrincipal | PrincipalKind::Claim(_) => return None,
    })
}

fn authenticated(name: StringMatcher) -> Identifier {
    Identifier::Authenticated(Authenticated {
        principal_name: Some(name),
    })
}

/// An identity without its scheme, in any form of a value.
fn identity(value: &str) -> StringMatcher {
    if value == "*" {
        return matcher::any();
    }
    if let Some(suffix) = value.strip_prefix('*') {
        return matcher::regex(format!("{SPIFFE}.*{}", quote(suffix)));
    }
    match value.strip_suffix('*') {
        Some(prefix) => matcher::prefix(&format!("{SPIFFE}{prefix}")),
        None => matcher::exact(&format!("{SPIFFE}{value}")),
    }
}

/// `account` of the policy's namespace, or `namespace/account`.
fn account(value: &str, namespace: &str) -> StringMatcher {
    let (namespace, account) = value.split_once('/').unwrap_or((namespace, value));
    let (namespace, account) = (quote(namespace), quote(account));
    matcher::regex(format!(
        "spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
    ))
}

fn trust_domain(value: &str) -> StringMatcher {
    if !value.contains('*') {
        return matcher::prefix(&format!("{SPIFFE}{value}/"));
    }
    let domain = matcher::quote_with_wildcards(value, "[^/]*");
    matcher::regex(format!("{SPIFFE}{domain}/.*"))
}

/// Issuer and subject of a verified token; the last `/` parts them, since an issuer may be a URL.
fn request_principals(values: &[String]) -> Principal {
    let both = |value: &String| {
        let (issuer, subject) = issuer_and_subject(value);
        let claim = |name, value| {
            let matcher = matcher::claim(&[name], matcher::text(value));
            principal(Identifier::Metadata(matcher))
        };
        let ids = vec![claim("iss", issuer), claim("sub", subject)];
        principal(Identifier::AndIds(Set { ids }))
    };
    let mut ids: Vec<Principal> = values.iter().map(both).collect();
    match ids.pop() {
        Some(only) if ids.is_empty() => only,
        last => {
            ids.extend(last);
            principal(Identifier::OrIds(Set { ids }))
        }
    }
}

fn issuer_and_subject(value: &str) -> (StringMatcher, StringMatcher) {
    let parts = value.rsplit_once('/');
    if value == "*" {
        return (matcher::any(), matcher::any());
    }
    if let Some(rest) = value.strip_prefix('*') {
        return match parts {
            Some(("*", subject)) => (matcher::any(), matcher::exact(subject)),
            Some((issuer, subject)) => (matcher::suffix(&issuer[1..]), matcher::exact(subject)),
            None => (matcher::any(), matcher::suffix(rest)),
        };
    }
    if let Some(rest) = value.strip_suffix('*') {
        return match parts {
            Some((issuer, "*")) => (matcher::exact(issuer), matcher::any()),
            Some((issuer, subject)) => (
                matcher::exact(issuer),
                matcher::prefix(&subject[..subject.len() - 1]),
            ),
            None => (matcher::prefix(rest), matcher::any()),
        };
    }
    let (issuer, subject) = parts.unwrap_or((value, ""));
    (matcher::exact(issuer), matcher::exact(subject))
}

/// A claim that is one of the values, or a list with one of them.
fn claim(names: &[String], values: &[String]) -> Option<Principal> {
    let texts = || {
        values
            .iter()
            .map(|value| matcher::text(matcher::string(value)))
    };
    let one = matcher::any_of(texts().collect())?;
    let either = matcher::any_of(vec![matcher::list_with(one.clone()), one])?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Some(principal(Identifier::Metadata(matcher::claim(
        &names, either,
    ))))
}

fn principal(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

/// Whoever it is.
pub(super) fn any() -> Principal {
    principal(Identifier::Any(true))
}

/// All of them; any where there is none.
pub(super) fn all_of(mut ids: Vec<Principal>) -> Principal {
    if ids.is_empty() {
        ids.push(any());
    }
    principal(Identifier::AndIds(Set { ids }))
}

/// The opposite.
pub(super) fn none_of(one: Principal) -> Principal {
    principal(Identifier::NotId(Box::new(one)))
}
