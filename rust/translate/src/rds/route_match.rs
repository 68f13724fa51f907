//! The conditions of one route.

use navarch_envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use navarch_envoy::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use navarch_envoy::envoy::config::route::v3::route_match::PathSpecifier;
use navarch_envoy::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::PathSegment;
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use navarch_envoy::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, ValueMatcher, list_matcher, value_matcher,
};
use navarch_envoy::field::envoy::config::route::v3::route_match;
use navarch_envoy::wire::Writer;
use navarch_model::{HttpMatchRequest, MatchOrAny, RouteSemantics, StringMatch};

use super::string_match::{build_string_match, regex};

/// Headers that begin so route by the claims of a JSON web token.
const CLAIM_HEADER: &str = "@request.auth.claims";

/// The matcher of everything as a message: prefix `/`.
pub(super) fn match_everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    }
}

/// The conditions of one route, to be written as a `RouteMatch`.
#[derive(Debug)]
pub(super) struct Matcher<'a> {
    pub(super) path: PathMatch<'a>,
    is_case_sensitive: Option<bool>,
    headers: Vec<HeaderMatcher>,
    query_parameters: Vec<QueryParameterMatcher>,
    claims: Vec<MetadataMatcher>,
}

/// Which paths are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathMatch<'a> {
    Prefix(&'a str),
    Exact(&'a str),
    Regex(&'a str),
    /// A prefix that ends where a part of the path does.
    SeparatedPrefix(&'a str),
}

impl<'a> Matcher<'a> {
    /// Of everything.
    pub(super) const fn everything() -> Self {
        Self {
            path: PathMatch::Prefix("/"),
            is_case_sensitive: None,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// Of one set of conditions (istio route.go `TranslateRouteMatch`).
    pub(super) fn new(condition: &'a HttpMatchRequest, semantics: RouteSemantics) -> Self {
        let uri = condition.uri.as_ref();
        let path = uri.and_then(|uri| path_match(uri, semantics));
        let mut matcher = Self {
            path: path.unwrap_or(PathMatch::Prefix("/")),
            is_case_sensitive: Some(!condition.ignore_uri_case),
            ..Self::everything()
        };
        matcher.add_headers(condition);
        for (name, pseudo) in [
            (":method", &condition.method),
            (":authority", &condition.authority),
            (":scheme", &condition.scheme),
        ] {
            let header = pseudo.as_ref().map(|value| build_header(name, value));
            matcher.headers.extend(header);
        }
        let parameters = condition.query_params.iter();
        let parameters = parameters.map(|(name, value)| build_query_parameter(name, value));
        matcher.query_parameters = parameters.collect();
        matcher
    }

    /// Whether nothing can come after a route with this matcher.
    pub(super) fn is_catch_all(&self) -> bool {
        matches!(
            self.path,
            PathMatch::Prefix("/") | PathMatch::SeparatedPrefix("/") | PathMatch::Regex(".*")
        ) && self.headers.is_empty()
            && self.query_parameters.is_empty()
            && self.claims.is_empty()
    }

    /// The path as traces show it, in two parts.
    pub(super) const fn path_label(&self) -> [&'a str; 2] {
        match self.path {
            PathMatch::Prefix(path) => [path, "*"],
            PathMatch::Exact(path) => [path, ""],
            PathMatch::Regex(pattern) => [pattern, ""],
            PathMatch::SeparatedPrefix(_) => ["/*", ""],
        }
    }

    /// Write the fields of the message, in the order of their numbers.
    pub(super) fn write(&self, out: &mut Writer) {
        match self.path {
            PathMatch::Prefix(path) => out.text(route_match::PREFIX, &[path]),
            PathMatch::Exact(path) => out.text(route_match::PATH, &[path]),
            PathMatch::Regex(pattern) => out.tree(route_match::SAFE_REGEX, &regex(pattern)),
            PathMatch::SeparatedPrefix(path) => {
                out.text(route_match::PATH_SEPARATED_PREFIX, &[path]);
            }
        }
        if let Some(is_case_sensitive) = self.is_case_sensitive {
            out.tree(route_match::CASE_SENSITIVE, &is_case_sensitive);
        }
        out.trees(route_match::HEADERS, &self.headers);
        out.trees(route_match::QUERY_PARAMETERS, &self.query_parameters);
        out.trees(route_match::DYNAMIC_METADATA, &self.claims);
    }

    /// Add headers wanted and unwanted, by name; those that name claims become metadata conditions.
    fn add_headers(&mut self, condition: &HttpMatchRequest) {
        for (name, value) in &condition.headers {
            match claims_of(name) {
                Some(claims) => self.claims.push(build_claim(&claims, value)),
                None => self.headers.push(build_header(name, value)),
            }
        }
        for (name, value) in &condition.without_headers {
            if let Some(claims) = claims_of(name) {
                let mut matcher = build_claim(&claims, value);
                matcher.invert = true;
                self.claims.push(matcher);
                continue;
            }
            let mut matcher = build_header(name, value);
            matcher.invert_match = true;
            // Envoy refuses both together: https://github.com/envoyproxy/envoy/pull/22253
            matcher.treat_missing_header_as_empty = build_string_match(value).is_some();
            self.headers.push(matcher);
        }
        self.headers.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// `None` for any path.
fn path_match(uri: &MatchOrAny, semantics: RouteSemantics) -> Option<PathMatch<'_>> {
    Some(match &uri.0 {
        StringMatch::Exact(path) => PathMatch::Exact(path),
        StringMatch::Prefix(path) if semantics.has_path_prefixes() && path != "/" => {
            PathMatch::SeparatedPrefix(path.strip_suffix('/').unwrap_or(path))
        }
        StringMatch::Prefix(path) => PathMatch::Prefix(path),
        StringMatch::Regex(pattern) => PathMatch::Regex(pattern),
        StringMatch::Any => return None,
    })
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
    use navarch_envoy::wire::Writer;
    use navarch_model::{HttpMatchRequest, MatchOrAny, RouteSemantics, StringMatch};

    use prost::Message;

    use super::{Matcher, PathMatch, claims_of, match_everything};

    fn matcher(condition: &HttpMatchRequest) -> Matcher<'_> {
        Matcher::new(condition, RouteSemantics::Istio)
    }

    fn message(matcher: &Matcher<'_>) -> RouteMatch {
        let mut out = Writer::default();
        matcher.write(&mut out);
        RouteMatch::decode(out.as_slice()).unwrap()
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
        assert!(Matcher::everything().is_catch_all());
        assert_eq!(message(&Matcher::everything()), match_everything());
        assert!(matcher(&prefix("/")).is_catch_all());
        assert!(!matcher(&prefix("/a")).is_catch_all());
        let mut method = prefix("/");
        method.method = Some(MatchOrAny(StringMatch::Exact("GET".to_owned())));
        assert!(!matcher(&method).is_catch_all());
    }

    #[test]
    fn unwanted_headers_are_inverted_and_absence_counts_as_empty() {
        let mut condition = HttpMatchRequest::default();
        let exact = MatchOrAny(StringMatch::Exact("b".to_owned()));
        condition.without_headers.insert("x-b".to_owned(), exact);
        condition
            .without_headers
            .insert("x-a".to_owned(), MatchOrAny(StringMatch::Any));
        let headers = message(&matcher(&condition)).headers;
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
        assert_eq!(matcher(&prefix("/a")).path_label().concat(), "/a*");
        assert_eq!(Matcher::everything().path_label().concat(), "/*");
    }

    #[test]
    fn prefixes_of_other_apis_end_at_a_slash() {
        for (path, semantics, want) in [
            ("/a", RouteSemantics::Istio, PathMatch::Prefix("/a")),
            (
                "/a/",
                RouteSemantics::Ingress,
                PathMatch::SeparatedPrefix("/a"),
            ),
            (
                "/a",
                RouteSemantics::GatewayApi,
                PathMatch::SeparatedPrefix("/a"),
            ),
            ("/", RouteSemantics::GatewayApi, PathMatch::Prefix("/")),
        ] {
            assert_eq!(Matcher::new(&prefix(path), semantics).path, want);
        }
    }
}
