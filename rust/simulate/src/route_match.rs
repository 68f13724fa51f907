//! The first route of a virtual host that matches.
//!
//! Source: Envoy `source/common/router/config_impl.cc` `RouteEntryImplBase::matchRoute`; paths are compared
//! without their query.

use navarch_envoy::any;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::config::route::v3::{Route, RouteMatch, VirtualHost};
use navarch_envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use serde_json::{Map, Value};

use crate::chance;
use crate::header_match::{self, Headers};
use crate::metadata_match;
use crate::outcome::{End, Other, Stage, Step, failed};
use crate::path::split_query;
use crate::string_match;

/// What routes are matched against.
pub(crate) struct Candidate<'a> {
    pub(crate) path: &'a str,
    pub(crate) headers: &'a Headers,
    pub(crate) metadata: &'a Map<String, Value>,
    pub(crate) percent: Option<f64>,
    /// Whether the client presented a certificate within TLS.
    pub(crate) has_certificate: bool,
    pub(crate) is_grpc: bool,
}

/// The route, and the step that tells of it.
pub(crate) fn choose<'a>(
    vhost: &'a VirtualHost,
    candidate: &Candidate<'_>,
) -> Result<(&'a Route, Step), End> {
    let mut others = Vec::new();
    for (at, route) in vhost.routes.iter().enumerate() {
        let name = route_name(route, at);
        if let Some(why) = refusal(route, candidate) {
            others.push(Other::new(name, why));
            continue;
        }
        let why = format!("the first that matches: {}", written(route));
        let n_after = vhost.routes.len() - at - 1;
        let notes = (n_after > 0).then(|| format!("{n_after} after it are not looked at"));
        let step = Step::new(Stage::Route, name, why).with_others(others);
        return Ok((route, step.with_notes(notes.into_iter().collect())));
    }
    let tried: Vec<String> = others
        .iter()
        .map(|o| format!("{} ({})", o.name, o.why))
        .collect();
    let tried = if tried.is_empty() {
        "it has none".to_owned()
    } else {
        tried.join("; ")
    };
    Err(failed(
        404,
        format!("no route of virtual host {} matches: {tried}", vhost.name),
    ))
}

/// A route's name and place; names need not be unique.
fn route_name(route: &Route, at: usize) -> String {
    if route.name.is_empty() {
        format!("route {at}")
    } else {
        format!("route {at} ({})", route.name)
    }
}

fn written(route: &Route) -> String {
    let Some(wanted) = &route.r#match else {
        return "everything".to_owned();
    };
    let mut parts = vec![written_path(wanted)];
    parts.extend(wanted.headers.iter().map(|h| format!("header {}", h.name)));
    parts.extend(
        wanted
            .query_parameters
            .iter()
            .map(|q| format!("query parameter {}", q.name)),
    );
    parts.extend(
        wanted
            .dynamic_metadata
            .iter()
            .map(|m| format!("metadata {}", m.filter)),
    );
    parts.join(", ")
}

fn written_path(wanted: &RouteMatch) -> String {
    match &wanted.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => format!("path prefix {prefix}"),
        Some(PathSpecifier::Path(path)) => format!("path {path}"),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => format!("path {prefix} and below"),
        Some(PathSpecifier::SafeRegex(regex)) => {
            format!("path that {}", string_match::written_regex(&regex.regex))
        }
        Some(PathSpecifier::ConnectMatcher(_)) => "method CONNECT".to_owned(),
        Some(PathSpecifier::PathMatchPolicy(policy)) => {
            let template = policy
                .typed_config
                .as_ref()
                .and_then(any::unpack::<UriTemplateMatchConfig>);
            template.map_or_else(
                || format!("path by {}, which is not simulated", policy.name),
                |template| format!("path template {}", template.path_template),
            )
        }
        None => "no path".to_owned(),
    }
}

/// Why a route refuses; `None` if it matches.
fn refusal(route: &Route, candidate: &Candidate<'_>) -> Option<String> {
    let wanted = route.r#match.as_ref()?;
    let (path, query) = split_query(candidate.path);
    if !is_path_match(wanted, path, candidate.headers) {
        return Some(format!("path {path} is not {}", written_path(wanted)));
    }
    if wanted.grpc.is_some() && !candidate.is_grpc {
        return Some("it is for gRPC".to_owned());
    }
    let by_header = wanted
        .headers
        .iter()
        .find_map(|m| header_match::refusal(m, candidate.headers));
    let by_query = || {
        wanted
            .query_parameters
            .iter()
            .find_map(|m| header_match::query_refusal(m, query))
    };
    let by_metadata = || {
        wanted
            .dynamic_metadata
            .iter()
            .find_map(|m| metadata_match::refusal(m, candidate.metadata))
    };
    let by_tls = || {
        let wanted = wanted.tls_context.as_ref()?;
        let presented = wanted
            .presented
            .filter(|wanted| *wanted != candidate.has_certificate);
        presented.map(|wanted| format!("wants a client certificate presented: {wanted}"))
    };
    by_header
        .or_else(by_query)
        .or_else(by_metadata)
        .or_else(by_tls)
        .or_else(|| by_chance(wanted, candidate))
}

fn by_chance(wanted: &RouteMatch, candidate: &Candidate<'_>) -> Option<String> {
    let fraction = wanted.runtime_fraction.as_ref()?.default_value.as_ref()?;
    let percentage = chance::percentage(*fraction);
    (!chance::is_hit(percentage, candidate.percent)).then(|| {
        format!(
            "it takes {} % of requests, and not this one",
            chance::round(percentage)
        )
    })
}

pub(crate) fn is_path_match(wanted: &RouteMatch, path: &str, headers: &Headers) -> bool {
    let is_case_sensitive = wanted.case_sensitive != Some(false);
    let fold = |text: &str| {
        if is_case_sensitive {
            text.to_owned()
        } else {
            text.to_ascii_lowercase()
        }
    };
    let folded = fold(path);
    match &wanted.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => folded.starts_with(&fold(prefix)),
        Some(PathSpecifier::Path(whole)) => folded == fold(whole),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => folded
            .strip_prefix(&fold(prefix))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        Some(PathSpecifier::SafeRegex(regex)) => string_match::is_full_match(&regex.regex, path),
        Some(PathSpecifier::ConnectMatcher(_)) => {
            headers.get(":method").is_some_and(|m| m == "CONNECT")
        }
        Some(PathSpecifier::PathMatchPolicy(policy)) => policy
            .typed_config
            .as_ref()
            .and_then(any::unpack::<UriTemplateMatchConfig>)
            .is_some_and(|template| is_template_match(&template.path_template, path)),
        None => true,
    }
}

/// `*` is one segment, `**` any number, `{name}` one, `{name=pattern}` what its pattern is.
pub(crate) fn is_template_match(template: &str, path: &str) -> bool {
    let mut pattern = String::new();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            pattern.push_str(".*");
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*') {
            pattern.push_str("[^/]+");
            rest = after;
        } else if let Some((inner, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}'))
        {
            let inner = inner.split_once('=').map_or("*", |(_, inner)| inner);
            let inner = inner
                .replace("**", "\u{0}")
                .replace('*', "[^/]+")
                .replace('\u{0}', ".*");
            pattern.push_str(&inner);
            rest = after;
        } else {
            pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            rest = &rest[c.len_utf8()..];
        }
    }
    string_match::is_full_match(&pattern, path)
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::route::v3::RouteMatch;
    use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;

    use super::{is_path_match, is_template_match};
    use crate::header_match::Headers;

    fn is_match(specifier: PathSpecifier, is_case_sensitive: bool, path: &str) -> bool {
        let wanted = RouteMatch {
            case_sensitive: Some(is_case_sensitive),
            path_specifier: Some(specifier),
            ..RouteMatch::default()
        };
        is_path_match(&wanted, path, &Headers::new())
    }

    #[test]
    fn paths_match_by_kind() {
        let below = || PathSpecifier::PathSeparatedPrefix("/a".to_owned());
        assert!(is_match(below(), true, "/a") && is_match(below(), true, "/a/b"));
        assert!(!is_match(below(), true, "/ab"));
        assert!(is_match(
            PathSpecifier::Prefix("/a".to_owned()),
            true,
            "/ab"
        ));
        assert!(!is_match(PathSpecifier::Path("/A".to_owned()), true, "/a"));
        assert!(is_match(PathSpecifier::Path("/A".to_owned()), false, "/a"));
    }

    #[test]
    fn templates_match_segments() {
        for (template, path, is_match) in [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/**", "/a/b/b", true),
            ("/a/{x}/c", "/a/1/c", true),
            ("/a/{x=b/*}", "/a/b/c", true),
            ("/a.b", "/axb", false),
        ] {
            assert_eq!(
                is_template_match(template, path),
                is_match,
                "{template} {path}"
            );
        }
    }
}
