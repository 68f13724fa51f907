//! What is done: conditions on operations as RBAC permissions.
//!
//! Source: istio `pilot/pkg/security/authz/model/generator.go`.

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::core::v3::TypedExtensionConfig;
use navarch_envoy::envoy::config::rbac::v3::Permission;
use navarch_envoy::envoy::config::rbac::v3::permission::{Rule, Set};
use navarch_envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use navarch_envoy::envoy::r#type::matcher::v3::PathMatcher;
use navarch_envoy::envoy::r#type::matcher::v3::path_matcher;

use super::matcher;
use super::rule::{Layer, RuleContext, Unanswerable, each};
use crate::address::cidr_range;

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PermissionKind {
    Host,
    Method,
    Path,
    DestinationPort,
    DestinationIp,
    Sni,
    /// Dynamic metadata of a filter: its name and the key.
    FilterMetadata(String, String),
}

impl PermissionKind {
    /// The kind of a key of `when`.
    pub(super) fn parse(key: &str) -> Option<Self> {
        Some(match key {
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            _ => {
                let place = key.strip_prefix("experimental.")?;
                if !place.starts_with("envoy.filters.") {
                    return None;
                }
                let (filter, name) = place.strip_suffix(']').unwrap_or(place).split_once('[')?;
                Self::FilterMetadata(filter.to_owned(), name.to_owned())
            }
        })
    }

    fn is_http_only(&self) -> bool {
        matches!(self, Self::Host | Self::Method | Self::Path)
    }
}

/// Any of the values; `None` where there is none to look at.
pub(super) fn any_of(
    kind: &PermissionKind,
    values: &[String],
    context: RuleContext<'_>,
) -> Result<Option<Permission>, Unanswerable> {
    if let PermissionKind::FilterMetadata(filter, key) = kind {
        let matchers = values.iter().map(|value| filter_value(value)).collect();
        let any = matcher::any_of(matchers);
        return Ok(any.map(|any| {
            permission(Rule::Metadata(matcher::metadata(
                filter,
                [key.as_str()],
                any,
            )))
        }));
    }
    let rules = each(values, context, |value| {
        if kind.is_http_only() && context.layer == Layer::Tcp {
            return Err(Unanswerable);
        }
        one(kind, value).map(permission).ok_or(Unanswerable)
    })?;
    Ok((!rules.is_empty()).then(|| permission(Rule::OrRules(Set { rules }))))
}

/// `[v]` is a list with `v` in it.
fn filter_value(value: &str) -> navarch_envoy::envoy::r#type::matcher::v3::ValueMatcher {
    let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    match inner {
        Some(entry) => matcher::list_with(matcher::text(matcher::string(entry))),
        None => matcher::text(matcher::string(value)),
    }
}

fn one(kind: &PermissionKind, value: &str) -> Option<Rule> {
    Some(match kind {
        PermissionKind::Host => Rule::Header(matcher::header(":authority", value, true)),
        PermissionKind::Method => Rule::Header(matcher::header(":method", value, false)),
        PermissionKind::Path => path(value),
        PermissionKind::DestinationPort => Rule::DestinationPort(value.parse().ok()?),
        PermissionKind::DestinationIp => Rule::DestinationIp(cidr_range(value)?),
        PermissionKind::Sni => Rule::RequestedServerName(matcher::string(value)),
        PermissionKind::FilterMetadata(..) => return None,
    })
}

/// A path, or a template with `{*}` for one segment and `{**}` for any number.
fn path(value: &str) -> Rule {
    if !value.contains("{*}") && !value.contains("{**}") {
        return Rule::UrlPath(PathMatcher {
            rule: Some(path_matcher::Rule::Path(matcher::string(value))),
        });
    }
    let config = UriTemplateMatchConfig {
        path_template: value.replace("{**}", "**").replace("{*}", "*"),
    };
    Rule::UriTemplate(TypedExtensionConfig {
        name: "uri-template".to_owned(),
        typed_config: Some(pack(&config)),
    })
}

fn permission(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// Whatever is done.
pub(super) fn any() -> Permission {
    permission(Rule::Any(true))
}

/// All of them; any where there is none.
pub(super) fn all_of(mut rules: Vec<Permission>) -> Permission {
    if rules.is_empty() {
        rules.push(any());
    }
    permission(Rule::AndRules(Set { rules }))
}

/// The opposite.
pub(super) fn none_of(one: Permission) -> Permission {
    permission(Rule::NotRule(Box::new(one)))
}
