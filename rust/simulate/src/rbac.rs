//! Rules about who may do what, as Envoy's RBAC engine judges by them.
//!
//! Sources: Envoy `source/extensions/filters/common/rbac/matchers.cc`, `engine_impl.cc`.

use std::net::IpAddr;

use navarch_envoy::any;
use navarch_envoy::envoy::config::core::v3::CidrRange;
use navarch_envoy::envoy::config::rbac::v3::permission::Rule;
use navarch_envoy::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use navarch_envoy::envoy::config::rbac::v3::rbac::Action;
use navarch_envoy::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac};
use navarch_envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use navarch_envoy::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use serde_json::{Map, Value};

use crate::check::Check;
use crate::filter_chain::is_in;
use crate::header_match::{self, Headers};
use crate::metadata_match;
use crate::outcome::Other;
use crate::path::split_query;
use crate::peer::Peer;
use crate::route_match::is_template_match;
use crate::string_match;

/// What rules may ask of a request, or of a connection.
pub(crate) struct Facts<'a> {
    pub(crate) peer: &'a Peer,
    /// The client's own address, past the proxies that are trusted.
    pub(crate) remote: Option<IpAddr>,
    /// `None` for connections.
    pub(crate) headers: Option<&'a Headers>,
    pub(crate) metadata: &'a Map<String, Value>,
}

/// What a set of rules says.
pub(crate) struct Ruling {
    pub(crate) is_allowed: bool,
    /// The first rule that fits, by name, and what makes it fit.
    pub(crate) fitting: Option<(String, String)>,
    /// The rules before it, or all, with why they do not fit.
    pub(crate) others: Vec<Other>,
}

/// Judge by a set of rules; they are looked at by name, and the first that fits is told.
pub(crate) fn judge(rules: &Rbac, facts: &Facts<'_>) -> Ruling {
    let mut others = Vec::new();
    let mut fitting = None;
    for (name, policy) in &rules.policies {
        let check = policy_check(policy, facts);
        let Some(why) = check.refusal() else {
            let grounds = check.grounds().join("; ");
            fitting = Some((name.clone(), grounds));
            break;
        };
        others.push(Other::new(told_name(name), why));
    }
    let is_allowed = match rules.action() {
        Action::Allow => fitting.is_some(),
        Action::Deny => fitting.is_none(),
        Action::Log => true,
    };
    Ruling {
        is_allowed,
        fitting,
        others,
    }
}

/// `…ns[a]-policy[b]-rule[0]…` in words; other names as they are.
pub(crate) fn told_name(name: &str) -> String {
    let between = |from: &str, to: &str| {
        let (_, rest) = name.split_once(from)?;
        rest.split_once(to).map(|(inner, _)| inner)
    };
    let parts = between("ns[", "]-policy[")
        .zip(between("]-policy[", "]-rule["))
        .zip(between("]-rule[", "]"));
    match parts {
        Some(((namespace, policy), rule)) => {
            format!("AuthorizationPolicy {namespace}/{policy} rule {rule}")
        }
        None => name.to_owned(),
    }
}

fn policy_check(policy: &Policy, facts: &Facts<'_>) -> Check {
    let permissions = policy.permissions.iter();
    let principals = policy.principals.iter();
    Check::All(vec![
        any_of(principals.map(|one| principal(one, facts))),
        any_of(permissions.map(|one| permission(one, facts))),
    ])
}

fn any_of(checks: impl Iterator<Item = Check>) -> Check {
    let mut checks: Vec<Check> = checks.collect();
    match checks.pop() {
        Some(only) if checks.is_empty() => only,
        last => {
            checks.extend(last);
            Check::Any(checks)
        }
    }
}

fn permission(one: &Permission, facts: &Facts<'_>) -> Check {
    let all = |rules: &[Permission]| rules.iter().map(|rule| permission(rule, facts)).collect();
    match &one.rule {
        Some(Rule::AndRules(set)) => Check::All(all(&set.rules)),
        Some(Rule::OrRules(set)) => Check::Any(all(&set.rules)),
        Some(Rule::NotRule(rule)) => Check::Not(Box::new(permission(rule, facts))),
        Some(Rule::Any(true)) => Check::Always,
        Some(Rule::Header(matcher)) => header(matcher, facts),
        Some(Rule::UrlPath(matcher)) => path(matcher, facts),
        Some(Rule::DestinationIp(range)) => {
            address("destination", facts.peer.destination_ip, range)
        }
        Some(Rule::DestinationPort(port)) => {
            let own = facts.peer.destination_port;
            Check::leaf(own == *port, format!("port is {own}"), port.to_string())
        }
        Some(Rule::DestinationPortRange(range)) => {
            let own = facts.peer.destination_port;
            let holds = i32::try_from(own).is_ok_and(|own| (range.start..range.end).contains(&own));
            let wanted = format!("from {} to below {}", range.start, range.end);
            Check::leaf(holds, format!("port is {own}"), wanted)
        }
        Some(Rule::Metadata(matcher)) => metadata(matcher, facts),
        Some(Rule::RequestedServerName(matcher)) => {
            named("server name", &facts.peer.server_name, matcher)
        }
        Some(Rule::UriTemplate(extension)) => {
            let config = extension.typed_config.as_ref();
            let template = config.and_then(any::unpack::<UriTemplateMatchConfig>);
            template.map_or_else(unknown, |template| {
                let path = path_of(facts);
                let holds = is_template_match(&template.path_template, path);
                let wanted = format!("is as `{}`", template.path_template);
                Check::leaf(holds, format!("path is `{path}`"), wanted)
            })
        }
        Some(Rule::Any(false)) => Check::Any(Vec::new()),
        Some(Rule::Matcher(_) | Rule::SourcedMetadata(_)) | None => unknown(),
    }
}

fn principal(one: &Principal, facts: &Facts<'_>) -> Check {
    let all = |ids: &[Principal]| ids.iter().map(|id| principal(id, facts)).collect();
    match &one.identifier {
        Some(Identifier::AndIds(set)) => Check::All(all(&set.ids)),
        Some(Identifier::OrIds(set)) => Check::Any(all(&set.ids)),
        Some(Identifier::NotId(id)) => Check::Not(Box::new(principal(id, facts))),
        Some(Identifier::Any(true)) => Check::Always,
        Some(Identifier::Authenticated(wanted)) => authenticated(wanted, facts.peer),
        Some(Identifier::DirectRemoteIp(range) | Identifier::SourceIp(range)) => {
            address("source", facts.peer.source, range)
        }
        Some(Identifier::RemoteIp(range)) => address("client", facts.remote, range),
        Some(Identifier::Header(matcher)) => header(matcher, facts),
        Some(Identifier::UrlPath(matcher)) => path(matcher, facts),
        Some(Identifier::Metadata(matcher)) => metadata(matcher, facts),
        Some(Identifier::Any(false)) => Check::Any(Vec::new()),
        Some(
            Identifier::FilterState(_) | Identifier::SourcedMetadata(_) | Identifier::Custom(_),
        )
        | None => unknown(),
    }
}

/// Rules of others than navarch may ask for more than is answered here.
fn unknown() -> Check {
    Check::leaf(false, "a condition that is not simulated", "anything")
}

fn authenticated(wanted: &Authenticated, peer: &Peer) -> Check {
    let Some(matcher) = &wanted.principal_name else {
        let holds = peer.principal.is_some();
        return Check::leaf(holds, told_principal(peer), "any principal");
    };
    let name = peer.principal.as_deref();
    let holds = name.is_some_and(|name| string_match::is_match(matcher, name));
    Check::leaf(holds, told_principal(peer), string_match::written(matcher))
}

fn told_principal(peer: &Peer) -> String {
    match &peer.principal {
        Some(name) => format!("principal is `{name}`"),
        None if peer.is_tls => "the client has no principal that is known".to_owned(),
        None => "the client has no principal: it speaks plaintext".to_owned(),
    }
}

fn address(whose: &str, ip: Option<IpAddr>, range: &CidrRange) -> Check {
    let length = range.prefix_len.unwrap_or(0);
    let wanted = format!("{}/{length}", range.address_prefix);
    let Some(ip) = ip else {
        return Check::leaf(false, format!("the {whose} address is not told"), wanted);
    };
    Check::leaf(is_in(range, ip), format!("{whose} address is {ip}"), wanted)
}

fn header(
    matcher: &navarch_envoy::envoy::config::route::v3::HeaderMatcher,
    facts: &Facts<'_>,
) -> Check {
    let none = Headers::new();
    let headers = facts.headers.unwrap_or(&none);
    let name = matcher.name.trim_start_matches(':');
    let found = header_match::found(matcher, headers);
    let found = if matcher.name.starts_with(':') {
        format!("{name} {found}")
    } else {
        format!("header {name} {found}")
    };
    let holds = header_match::refusal(matcher, headers).is_none();
    Check::leaf(holds, found, header_match::written(matcher))
}

fn path_of<'a>(facts: &Facts<'a>) -> &'a str {
    let path = facts.headers.and_then(|headers| headers.get(":path"));
    split_query(path.map_or("", String::as_str)).0
}

fn path(matcher: &PathMatcher, facts: &Facts<'_>) -> Check {
    let Some(path_matcher::Rule::Path(matcher)) = &matcher.rule else {
        return unknown();
    };
    named("path", path_of(facts), matcher)
}

fn named(what: &str, value: &str, matcher: &StringMatcher) -> Check {
    let found = match value {
        "" => format!("{what} is absent"),
        value => format!("{what} is `{value}`"),
    };
    let holds = string_match::is_match(matcher, value);
    Check::leaf(holds, found, string_match::written(matcher))
}

fn metadata(
    matcher: &navarch_envoy::envoy::r#type::matcher::v3::MetadataMatcher,
    facts: &Facts<'_>,
) -> Check {
    let holds = metadata_match::refusal(matcher, facts.metadata).is_none();
    let (found, wanted) = metadata_match::told(matcher, facts.metadata);
    Check::leaf(holds, found, wanted)
}
