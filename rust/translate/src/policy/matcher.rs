//! Values of policies as Envoy's matchers: exact, `prefix*`, `*suffix`, and `*` for any that is not empty.
//!
//! Sources: istio `pilot/pkg/security/authz/matcher`.

use navarch_envoy::envoy::config::route::v3::HeaderMatcher;
use navarch_envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::PathSegment;
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use navarch_envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use navarch_envoy::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher,
    list_matcher, value_matcher,
};

/// The filter that verifies tokens, by which its metadata is found.
pub(super) const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
/// The key of a token's payload in that metadata.
pub(super) const PAYLOAD: &str = "payload";

/// How a value is written.
enum Form<'a> {
    Any,
    Suffix(&'a str),
    Prefix(&'a str),
    Exact(&'a str),
}

fn form(value: &str) -> Form<'_> {
    if value == "*" {
        Form::Any
    } else if let Some(suffix) = value.strip_prefix('*') {
        Form::Suffix(suffix)
    } else if let Some(prefix) = value.strip_suffix('*') {
        Form::Prefix(prefix)
    } else {
        Form::Exact(value)
    }
}

fn matcher(pattern: MatchPattern, ignore_case: bool) -> StringMatcher {
    StringMatcher {
        ignore_case,
        match_pattern: Some(pattern),
    }
}

/// A regular expression (RE2) of the whole text.
pub(super) fn regex(pattern: String) -> StringMatcher {
    let engine_type = None;
    let regex = RegexMatcher {
        regex: pattern,
        engine_type,
    };
    matcher(MatchPattern::SafeRegex(regex), false)
}

/// Any text but none.
pub(super) fn any() -> StringMatcher {
    regex(".+".to_owned())
}

/// Exactly the text.
pub(super) fn exact(text: &str) -> StringMatcher {
    matcher(MatchPattern::Exact(text.to_owned()), false)
}

/// What begins so.
pub(super) fn prefix(text: &str) -> StringMatcher {
    matcher(MatchPattern::Prefix(text.to_owned()), false)
}

/// What ends so.
pub(super) fn suffix(text: &str) -> StringMatcher {
    matcher(MatchPattern::Suffix(text.to_owned()), false)
}

/// A value in any of its forms.
pub(super) fn string(value: &str) -> StringMatcher {
    match form(value) {
        Form::Any => any(),
        Form::Suffix(text) => suffix(text),
        Form::Prefix(text) => prefix(text),
        Form::Exact(text) => exact(text),
    }
}

/// A header's value; `*` asks only that there is one.
pub(super) fn header(name: &str, value: &str, ignore_case: bool) -> HeaderMatcher {
    let pattern = match form(value) {
        Form::Any => None,
        Form::Suffix(text) => Some(MatchPattern::Suffix(text.to_owned())),
        Form::Prefix(text) => Some(MatchPattern::Prefix(text.to_owned())),
        Form::Exact(text) => Some(MatchPattern::Exact(text.to_owned())),
    };
    let specifier = pattern.map_or(HeaderMatchSpecifier::PresentMatch(true), |pattern| {
        HeaderMatchSpecifier::StringMatch(matcher(pattern, ignore_case))
    });
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

/// The name of a header to send on, in any case; `*` at either end.
pub(super) fn header_name(name: &str) -> StringMatcher {
    let pattern = if let Some(text) = name.strip_prefix('*') {
        MatchPattern::Suffix(text.to_owned())
    } else if let Some(text) = name.strip_suffix('*') {
        MatchPattern::Prefix(text.to_owned())
    } else {
        MatchPattern::Exact(name.to_owned())
    };
    matcher(pattern, true)
}

/// A text in dynamic metadata.
pub(super) fn text(matcher: StringMatcher) -> ValueMatcher {
    value(value_matcher::MatchPattern::StringMatch(matcher))
}

/// A list in dynamic metadata with such an entry.
pub(super) fn list_with(entry: ValueMatcher) -> ValueMatcher {
    let one = list_matcher::MatchPattern::OneOf(Box::new(entry));
    value(value_matcher::MatchPattern::ListMatch(Box::new(
        ListMatcher {
            match_pattern: Some(one),
        },
    )))
}

/// Any of the matchers; one stands for itself.
pub(super) fn any_of(mut matchers: Vec<ValueMatcher>) -> Option<ValueMatcher> {
    if matchers.len() > 1 {
        let any = OrMatcher {
            value_matchers: matchers,
        };
        return Some(value(value_matcher::MatchPattern::OrMatch(any)));
    }
    matchers.pop()
}

fn value(pattern: value_matcher::MatchPattern) -> ValueMatcher {
    ValueMatcher {
        match_pattern: Some(pattern),
    }
}

/// A place in the dynamic metadata of a filter.
pub(super) fn metadata<'a>(
    filter: &str,
    path: impl IntoIterator<Item = &'a str>,
    value: ValueMatcher,
) -> MetadataMatcher {
    let segments = path.into_iter().map(|key| PathSegment {
        segment: Some(Segment::Key(key.to_owned())),
    });
    MetadataMatcher {
        filter: filter.to_owned(),
        path: segments.collect(),
        value: Some(value),
        invert: false,
    }
}

/// A claim of a verified token.
pub(super) fn claim(names: &[&str], value: ValueMatcher) -> MetadataMatcher {
    let path = std::iter::once(PAYLOAD).chain(names.iter().copied());
    metadata(JWT_FILTER, path, value)
}

/// The text as an expression of itself, each `*` as `wildcard`.
pub(super) fn quote_with_wildcards(text: &str, wildcard: &str) -> String {
    let parts: Vec<String> = text.split('*').map(crate::rds::quote).collect();
    parts.join(wildcard)
}
