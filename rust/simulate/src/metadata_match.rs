//! Matchers of dynamic metadata, which filters such as JWT authentication set.

use navarch_envoy::envoy::r#type::matcher::v3::double_matcher::MatchPattern as DoublePattern;
use navarch_envoy::envoy::r#type::matcher::v3::list_matcher::MatchPattern as ListPattern;
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use navarch_envoy::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use navarch_envoy::envoy::r#type::matcher::v3::{MetadataMatcher, ValueMatcher};
use serde_json::{Map, Value};

use crate::string_match;

/// Why a matcher refuses; `None` if it matches.
pub(crate) fn refusal(matcher: &MetadataMatcher, metadata: &Map<String, Value>) -> Option<String> {
    let mut found = metadata.get(&matcher.filter);
    let mut written = matcher.filter.clone();
    for segment in &matcher.path {
        let Some(Segment::Key(key)) = &segment.segment else {
            continue;
        };
        found = found.and_then(|value| value.get(key));
        written = format!("{written}.{key}");
    }
    let wanted = matcher.value.as_ref();
    let is_match = wanted.is_some_and(|wanted| is_match(wanted, found.unwrap_or(&Value::Null)));
    let not = if matcher.invert { "not " } else { "" };
    (is_match == matcher.invert).then(|| {
        let found = found.map_or_else(|| "absent".to_owned(), ToString::to_string);
        format!("metadata {written} is {found}, wanted {not}another")
    })
}

fn is_match(matcher: &ValueMatcher, value: &Value) -> bool {
    match &matcher.match_pattern {
        Some(MatchPattern::NullMatch(_)) => value.is_null(),
        Some(MatchPattern::PresentMatch(wanted)) => value.is_null() != *wanted,
        Some(MatchPattern::BoolMatch(wanted)) => value.as_bool() == Some(*wanted),
        Some(MatchPattern::StringMatch(matcher)) => value
            .as_str()
            .is_some_and(|text| string_match::is_match(matcher, text)),
        Some(MatchPattern::DoubleMatch(matcher)) => {
            match (&matcher.match_pattern, value.as_f64()) {
                (Some(DoublePattern::Exact(wanted)), Some(number)) => {
                    number.total_cmp(wanted).is_eq()
                }
                (Some(DoublePattern::Range(range)), Some(number)) => {
                    (range.start..range.end).contains(&number)
                }
                _ => false,
            }
        }
        Some(MatchPattern::ListMatch(list)) => match (&list.match_pattern, value.as_array()) {
            (Some(ListPattern::OneOf(each)), Some(values)) => {
                values.iter().any(|v| is_match(each, v))
            }
            _ => false,
        },
        Some(MatchPattern::OrMatch(or)) => {
            or.value_matchers.iter().any(|each| is_match(each, value))
        }
        None => false,
    }
}
