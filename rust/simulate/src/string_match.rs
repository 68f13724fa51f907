//! String matchers.
//!
//! Envoy's regexes are RE2's. The crate `regex` has the same semantics (leftmost-first, linear time) and nearly
//! the same syntax; what it can't read (`\C`, `\Q…\E`) matches nothing here and is told so.

use navarch_envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use navarch_envoy::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, StringMatcher};
use regex::Regex;

/// Whether a value matches, and the matcher in words.
pub(crate) fn is_match(matcher: &StringMatcher, value: &str) -> bool {
    let fold = |text: &str| {
        if matcher.ignore_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    let value_folded = fold(value);
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => value_folded == fold(text),
        Some(MatchPattern::Prefix(text)) => value_folded.starts_with(&fold(text)),
        Some(MatchPattern::Suffix(text)) => value_folded.ends_with(&fold(text)),
        Some(MatchPattern::Contains(text)) => value_folded.contains(&fold(text)),
        Some(MatchPattern::SafeRegex(regex)) => is_full_match(&regex.regex, value),
        Some(MatchPattern::Custom(_)) | None => false,
    }
}

/// A matcher in words.
pub(crate) fn written(matcher: &StringMatcher) -> String {
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => format!("is `{text}`"),
        Some(MatchPattern::Prefix(text)) => format!("begins with `{text}`"),
        Some(MatchPattern::Suffix(text)) => format!("ends with `{text}`"),
        Some(MatchPattern::Contains(text)) => format!("contains `{text}`"),
        Some(MatchPattern::SafeRegex(regex)) => written_regex(&regex.regex),
        Some(MatchPattern::Custom(_)) => "passes an extension that is not simulated".to_owned(),
        None => "is anything".to_owned(),
    }
}

/// A regex in words.
pub(crate) fn written_regex(pattern: &str) -> String {
    if compile(pattern).is_none() {
        return format!("matches /{pattern}/, which can't be read here");
    }
    format!("matches /{pattern}/")
}

/// Whether the whole text matches.
pub(crate) fn is_full_match(pattern: &str, text: &str) -> bool {
    compile(pattern).is_some_and(|regex| regex.is_match(text))
}

fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(&format!(r"\A(?:{pattern})\z")).ok()
}

/// All matches replaced; RE2 writes groups as `\1`. `None` if the pattern can't be read.
pub(crate) fn substitute(rule: &RegexMatchAndSubstitute, text: &str) -> Option<String> {
    let regex = Regex::new(&rule.pattern.as_ref()?.regex).ok()?;
    let replacement = groups(&rule.substitution);
    Some(regex.replace_all(text, replacement.as_str()).into_owned())
}

fn groups(substitution: &str) -> String {
    let mut out = String::with_capacity(substitution.len());
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use navarch_envoy::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};

    use super::{is_full_match, substitute};

    #[test]
    fn regexes_match_the_whole() {
        assert!(is_full_match("a|ab", "ab"));
        assert!(!is_full_match("a", "ab"));
        assert!(!is_full_match(r"\C", "a"));
    }

    #[test]
    fn groups_are_re2s() {
        let rule = RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher {
                regex: "^/(.*)/x$".to_owned(),
                ..RegexMatcher::default()
            }),
            substitution: r"/\1/$1".to_owned(),
        };
        assert_eq!(substitute(&rule, "/a/x").as_deref(), Some("/a/$1"));
    }
}
