//! The conditions of one route.

use std::borrow::Cow;

use navarch_envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use navarch_envoy::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::PathSegment;
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use navarch_envoy::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, ValueMatcher, list_matcher, value_matcher,
};
use navarch_model::{HttpMatchRequest, MatchOrAny, RouteSemantics, StringMatch};

use super::string_match::{build_string_match, regex};

/// Headers that begin so route by the claims of a JSON web token.
const CLAIM_HEADER: &str = "@request.auth.claims";

/// The matcher of everything: prefix `/`.
pub(super) fn match_everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    }
}

/// The matcher of one set of conditions (istio route.go `TranslateRouteMatch`).
pub(super) fn build_match(condition: &HttpMatchRequest, semantics: RouteSemantics) -> RouteMatch {
    let mut out = match_everything();
    add_headers(&mut out, condition);
    if let Some(path) = condition
        .uri
        .as_ref()
        .and_then(|uri| build_path(uri, semantics))
    {
        out.path_specifier = Some(path);
    }
    out.case_sensitive = Some(!condition.ignore_uri_case);
    for (name, pseudo) in [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ] {
        out.headers
            .extend(pseudo.as_ref().map(|value| build_header(name, value)));
    }
    out.query_parameters = condition
        .query_params
        .iter()
        .map(|(name, value)| build_query_parameter(name, value))
        .collect();
    out
}

/// Whether nothing can come after a route with this matcher.
pub(super) fn is_catch_all(matcher: &RouteMatch) -> bool {
    let is_any_path = match &matcher.path_specifier {
        Some(PathSpecifier::Prefix(path) | PathSpecifier::PathSeparatedPrefix(path)) => path == "/",
        Some(PathSpecifier::SafeRegex(pattern)) => pattern.regex == ".*",
        _ => false,
    };
    is_any_path
        && matcher.headers.is_empty()
        && matcher.query_parameters.is_empty()
        && matcher.dynamic_metadata.is_empty()
}

/// The path as traces show it.
pub(super) fn path_label(matcher: &RouteMatch) -> Cow<'_, str> {
    match &matcher.path_specifier {
        Some(PathSpecifier::Prefix(path)) => [path.as_str(), "*"].concat().into(),
        Some(PathSpecifier::Path(path)) => path.into(),
        Some(PathSpecifier::SafeRegex(pattern)) => pattern.regex.as_str().into(),
        _ => "/*".into(),
    }
}

fn build_path(uri: &MatchOrAny, semantics: RouteSemantics) -> Option<PathSpecifier> {
    Some(match &uri.0 {
        StringMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        StringMatch::Prefix(path) if semantics.has_path_prefixes() && path != "/" => {
            let path = path.strip_suffix('/').unwrap_or(path);
            PathSpecifier::PathSeparatedPrefix(path.to_owned())
        }
        StringMatch::Prefix(path) => PathSpecifier::Prefix(path.clone()),
        StringMatch::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern)),
        StringMatch::Any => return None,
    })
}

/// Headers wanted and unwanted, by name; those that name claims become metadata conditions.
fn add_headers(out: &mut RouteMatch, condition: &HttpMatchRequest) {
    for (name, value) in &condition.headers {
        match claims_of(name) {
            Some(claims) => out.dynamic_metadata.push(build_claim(&claims, value)),
            None => out.headers.push(build_header(name, value)),
        }
    }
    for (name, value) in &condition.without_headers {
        if let Some(claims) = claims_of(name) {
            let mut matcher = build_claim(&claims, value);
            matcher.invert = true;
            out.dynamic_metadata.push(matcher);
            continue;
        }
        let mut matcher = build_header(name, value);
        matcher.invert_match = true;
        // Envoy refuses both together: https://github.com/envoyproxy/envoy/pull/22253
        matcher.treat_missing_header_as_empty = build_string_match(value).is_some();
        out.headers.push(matcher);
    }
    out.headers.sort_by(|a, b| a.name.cmp(&b.name));
}

fn build_header(name: &str, value: &MatchOrAny) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(build_string_match(value).map_or(
            HeaderMatchSpecifier::PresentMatch(true),
            HeaderMatchSpecifier::StringMatch,
        )),
        ..HeaderMatcher::default()
    }
}

fn build_query_parameter(name: &str, value: &MatchOrAny) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(build_string_match(value).map_or(
            QueryParameterMatchSpecifier::PresentMatch(true),
            QueryParameterMatchSpecifier::StringMatch,
        )),
    }
}

/// The claims that a header's name stands for: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`
/// (istio pkg/jwt/routing.go).
fn claims_of(name: &str) -> Option<Vec<&str>> {
    let start = name.get(..CLAIM_HEADER.len())?;
    if !start.eq_ignore_ascii_case(CLAIM_HEADER) {
        return None;
    }
    let rest = &name[CLAIM_HEADER.len()..];
    if let Some(dotted) = rest.strip_prefix('.').filter(|dotted| !dotted.is_empty()) {
        return Some(dotted.split('.').collect());
    }
    let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.is_empty()).then(|| inner.split("][").collect())
}

/// A claim that is the value, or a list with it.
fn build_claim(claims: &[&str], value: &MatchOrAny) -> MetadataMatcher {
    let pattern = build_string_match(value).map_or(
        value_matcher::MatchPattern::PresentMatch(true),
        value_matcher::MatchPattern::StringMatch,
    );
    let one = ValueMatcher {
        match_pattern: Some(pattern),
    };
    let list = ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(
            ListMatcher {
                match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(one.clone()))),
            },
        ))),
    };
    let segment = |key: &str| PathSegment {
        segment: Some(Segment::Key(key.to_owned())),
    };
    MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".to_owned(),
        path: std::iter::once(segment("payload"))
            .chain(claims.iter().map(|claim| segment(claim)))
            .collect(),
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::OrMatch(OrMatcher {
                value_matchers: vec![list, one],
            })),
        }),
        invert: false,
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::route::v3::RouteMatch;
    use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
    use navarch_model::{HttpMatchRequest, MatchOrAny, RouteSemantics, StringMatch};

    use super::{claims_of, is_catch_all, match_everything, path_label};

    fn build_match(condition: &HttpMatchRequest) -> RouteMatch {
        super::build_match(condition, RouteSemantics::Istio)
    }

    fn prefix(path: &str) -> HttpMatchRequest {
        HttpMatchRequest {
            uri: Some(MatchOrAny(StringMatch::Prefix(path.to_owned()))),
            ..HttpMatchRequest::default()
        }
    }

    #[test]
    fn claims_are_named_with_dots_or_brackets() {
        assert_eq!(claims_of("@request.auth.claims.a"), Some(vec!["a"]));
        assert_eq!(
            claims_of("@Request.Auth.Claims[a.b][c]"),
            Some(vec!["a.b", "c"])
        );
        for name in [
            "@request.auth.claims",
            "@request.auth.claims[]",
            "x-user",
            "é",
        ] {
            assert_eq!(claims_of(name), None, "{name}");
        }
    }

    #[test]
    fn only_a_condition_without_limits_catches_all() {
        assert!(is_catch_all(&match_everything()));
        assert!(is_catch_all(&build_match(&prefix("/"))));
        assert!(!is_catch_all(&build_match(&prefix("/a"))));
        let mut method = prefix("/");
        method.method = Some(MatchOrAny(StringMatch::Exact("GET".to_owned())));
        assert!(!is_catch_all(&build_match(&method)));
    }

    #[test]
    fn unwanted_headers_are_inverted_and_absence_counts_as_empty() {
        let mut condition = HttpMatchRequest::default();
        let exact = MatchOrAny(StringMatch::Exact("b".to_owned()));
        condition.without_headers.insert("x-b".to_owned(), exact);
        condition
            .without_headers
            .insert("x-a".to_owned(), MatchOrAny(StringMatch::Any));
        let headers = build_match(&condition).headers;
        let seen: Vec<_> = headers
            .iter()
            .map(|h| {
                (
                    h.name.as_str(),
                    h.invert_match,
                    h.treat_missing_header_as_empty,
                )
            })
            .collect();
        assert_eq!(seen, [("x-a", true, false), ("x-b", true, true)]);
    }

    #[test]
    fn traces_show_the_path_of_the_condition() {
        assert_eq!(path_label(&build_match(&prefix("/a"))), "/a*");
        assert_eq!(path_label(&match_everything()), "/*");
    }

    #[test]
    fn prefixes_of_other_apis_end_at_a_slash() {
        for (path, semantics, want) in [
            (
                "/a",
                RouteSemantics::Istio,
                PathSpecifier::Prefix("/a".into()),
            ),
            (
                "/a/",
                RouteSemantics::Ingress,
                PathSpecifier::PathSeparatedPrefix("/a".into()),
            ),
            (
                "/a",
                RouteSemantics::GatewayApi,
                PathSpecifier::PathSeparatedPrefix("/a".into()),
            ),
            (
                "/",
                RouteSemantics::GatewayApi,
                PathSpecifier::Prefix("/".into()),
            ),
        ] {
            let matcher = super::build_match(&prefix(path), semantics);
            assert_eq!(matcher.path_specifier, Some(want));
        }
    }
}
