//! String conditions of the mesh API as Envoy's matchers.

use navarch_envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use navarch_envoy::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use navarch_model::{MatchOrAny, StringMatch};

/// A matcher, or `None` where mere presence is asked for: `{}`, and the regex `*`, which is no RE2 but
/// means "any" in Istio (istio/istio#20629).
pub(super) fn build_string_match(condition: &MatchOrAny) -> Option<StringMatcher> {
    let pattern = match &condition.0 {
        StringMatch::Any => return None,
        StringMatch::Regex(pattern) if pattern == "*" => return None,
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
    };
    Some(matcher(pattern))
}

/// A matcher of the whole string.
pub(super) fn exact(text: &str) -> StringMatcher {
    matcher(MatchPattern::Exact(text.to_owned()))
}

/// A regular expression (RE2), for Envoy's default engine.
pub(super) fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        engine_type: None,
    }
}

fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        ignore_case: false,
        match_pattern: Some(pattern),
    }
}

/// The text as an expression of itself (Go's `regexp.QuoteMeta`).
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
