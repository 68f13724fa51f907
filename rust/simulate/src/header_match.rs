//! Header and query matchers of routes.
//!
//! Source: Envoy `source/common/http/header_utility.cc`; a missing header matches nothing but `present_match`,
//! inverted or not, unless it is to be treated as empty.

use std::collections::BTreeMap;

use navarch_envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use navarch_envoy::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use navarch_envoy::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher};

use crate::string_match;

/// Headers by lower-case name, the pseudo headers among them.
pub(crate) type Headers = BTreeMap<String, String>;

/// Why a matcher refuses; `None` if it matches.
pub(crate) fn refusal(matcher: &HeaderMatcher, headers: &Headers) -> Option<String> {
    if is_match(matcher, headers) {
        return None;
    }
    let not = if matcher.invert_match { "not: " } else { "" };
    Some(format!(
        "header {} {}, wanted {not}{}",
        matcher.name,
        found(matcher, headers),
        written(matcher)
    ))
}

/// What a matcher looks at, in words.
pub(crate) fn found(matcher: &HeaderMatcher, headers: &Headers) -> String {
    let found = headers.get(&matcher.name.to_ascii_lowercase());
    found.map_or_else(|| "is absent".to_owned(), |value| format!("is `{value}`"))
}

fn is_match(matcher: &HeaderMatcher, headers: &Headers) -> bool {
    let value = headers
        .get(&matcher.name.to_ascii_lowercase())
        .map(String::as_str);
    let value = match value {
        None if matcher.treat_missing_header_as_empty => Some(""),
        value => value,
    };
    let found = match (&matcher.header_match_specifier, value) {
        (Some(HeaderMatchSpecifier::PresentMatch(wanted)), value) => value.is_some() == *wanted,
        (None, value) => value.is_some(),
        (Some(_), None) => return false,
        (Some(specifier), Some(value)) => is_value_match(specifier, value),
    };
    found != matcher.invert_match
}

fn is_value_match(specifier: &HeaderMatchSpecifier, value: &str) -> bool {
    match specifier {
        HeaderMatchSpecifier::ExactMatch(text) => text.is_empty() || value == text,
        HeaderMatchSpecifier::SafeRegexMatch(regex) => {
            string_match::is_full_match(&regex.regex, value)
        }
        HeaderMatchSpecifier::RangeMatch(range) => value
            .parse()
            .is_ok_and(|number: i64| (range.start..range.end).contains(&number)),
        HeaderMatchSpecifier::PrefixMatch(text) => value.starts_with(text.as_str()),
        HeaderMatchSpecifier::SuffixMatch(text) => value.ends_with(text.as_str()),
        HeaderMatchSpecifier::ContainsMatch(text) => value.contains(text.as_str()),
        HeaderMatchSpecifier::StringMatch(matcher) => string_match::is_match(matcher, value),
        HeaderMatchSpecifier::PresentMatch(wanted) => *wanted,
    }
}

/// A matcher in words.
pub(crate) fn written(matcher: &HeaderMatcher) -> String {
    match &matcher.header_match_specifier {
        None | Some(HeaderMatchSpecifier::PresentMatch(true)) => "it is present".to_owned(),
        Some(HeaderMatchSpecifier::PresentMatch(false)) => "it is absent".to_owned(),
        Some(HeaderMatchSpecifier::ExactMatch(text)) => format!("it is `{text}`"),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            format!("it {}", string_match::written_regex(&regex.regex))
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            format!("it is from {} to below {}", range.start, range.end)
        }
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => format!("it begins with `{text}`"),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => format!("it ends with `{text}`"),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => format!("it contains `{text}`"),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            format!("it {}", string_match::written(matcher))
        }
    }
}

/// Why a matcher refuses the query; `None` if it matches.
pub(crate) fn query_refusal(matcher: &QueryParameterMatcher, query: &str) -> Option<String> {
    let name = &matcher.name;
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value = pairs
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value)
        .next();
    let (is_match, wanted) = match &matcher.query_parameter_match_specifier {
        None => (value.is_some(), "it is present".to_owned()),
        Some(QueryParameterMatchSpecifier::PresentMatch(wanted)) => (
            value.is_some() == *wanted,
            format!("it is {}", if *wanted { "present" } else { "absent" }),
        ),
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => (
            value.is_some_and(|value| string_match::is_match(matcher, value)),
            format!("it {}", string_match::written(matcher)),
        ),
    };
    let found = value.map_or_else(|| "is absent".to_owned(), |value| format!("is `{value}`"));
    (!is_match).then(|| format!("query parameter {name} {found}, wanted {wanted}"))
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::config::route::v3::HeaderMatcher;
    use navarch_envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
    use navarch_envoy::envoy::r#type::v3::Int64Range;

    use super::{Headers, is_match};

    fn matcher(
        specifier: HeaderMatchSpecifier,
        is_inverted: bool,
        is_empty: bool,
    ) -> HeaderMatcher {
        HeaderMatcher {
            name: "X".to_owned(),
            invert_match: is_inverted,
            treat_missing_header_as_empty: is_empty,
            header_match_specifier: Some(specifier),
        }
    }

    #[test]
    fn a_missing_header_matches_only_when_treated_as_empty() {
        let exact = HeaderMatchSpecifier::ExactMatch("a".to_owned());
        let none = Headers::new();
        assert!(!is_match(&matcher(exact.clone(), false, false), &none));
        assert!(!is_match(&matcher(exact.clone(), true, false), &none));
        assert!(is_match(&matcher(exact, true, true), &none));
        assert!(is_match(
            &matcher(HeaderMatchSpecifier::PresentMatch(true), true, false),
            &none
        ));
    }

    #[test]
    fn ranges_are_half_open() {
        let range = HeaderMatchSpecifier::RangeMatch(Int64Range { start: 1, end: 3 });
        for (value, is_in) in [("1", true), ("3", false), ("x", false)] {
            let headers = Headers::from([("x".to_owned(), value.to_owned())]);
            assert_eq!(
                is_match(&matcher(range.clone(), false, false), &headers),
                is_in
            );
        }
    }
}
