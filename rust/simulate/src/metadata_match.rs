//! Matchers of dynamic metadata, which filters such as JWT authentication set.

use navarch_envoy::envoy::r#type::matcher::v3::double_matcher::MatchPattern as DoublePattern;
use navarch_envoy::envoy::r#type::matcher::v3::list_matcher::MatchPattern as ListPattern;
use navarch_envoy::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use navarch_envoy::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use navarch_envoy::envoy::r#type::matcher::v3::{MetadataMatcher, ValueMatcher};
use serde_json::{Map, Value};

use crate::string_match;

/// Where the claims of tokens are.
const TOKENS: &str = "envoy.filters.http.jwt_authn";
const PAYLOAD: &str = "payload";

/// Why a matcher refuses; `None` if it matches.
pub(crate) fn refusal(matcher: &MetadataMatcher, metadata: &Map<String, Value>) -> Option<String> {
    let (_, found) = find(matcher, metadata);
    let wanted = matcher.value.as_ref();
    let is_match = wanted.is_some_and(|wanted| is_match(wanted, found.unwrap_or(&Value::Null)));
    (is_match == matcher.invert).then(|| {
        let (found, wanted) = told(matcher, metadata);
        format!("{found}, wanted: {wanted}")
    })
}

/// What a matcher finds, and what it wants, in words.
pub(crate) fn told(matcher: &MetadataMatcher, metadata: &Map<String, Value>) -> (String, String) {
    let (keys, found) = find(matcher, metadata);
    let found = found.map_or_else(|| "absent".to_owned(), ToString::to_string);
    let what = match keys.split_first() {
        Some((&PAYLOAD, claim)) if matcher.filter == TOKENS => format!("claim {}", claim.join(".")),
        _ => format!("metadata {}.{}", matcher.filter, keys.join(".")),
    };
    let not = if matcher.invert { "not: " } else { "" };
    let wanted = matcher.value.as_ref().map_or_else(String::new, written);
    (format!("{what} is {found}"), format!("{not}{wanted}"))
}

/// The keys that a matcher goes down by, and what is there.
fn find<'a>(
    matcher: &'a MetadataMatcher,
    metadata: &'a Map<String, Value>,
) -> (Vec<&'a str>, Option<&'a Value>) {
    let segments = matcher.path.iter();
    let keys =
        segments.filter_map(|each| each.segment.as_ref().map(|Segment::Key(key)| key.as_str()));
    let keys: Vec<&str> = keys.collect();
    let root = metadata.get(&matcher.filter);
    let found = root.and_then(|root| keys.iter().try_fold(root, |value, key| value.get(key)));
    (keys, found)
}

/// A matcher in words.
fn written(matcher: &ValueMatcher) -> String {
    match &matcher.match_pattern {
        Some(MatchPattern::NullMatch(_)) => "it is null".to_owned(),
        Some(MatchPattern::PresentMatch(true)) => "it is present".to_owned(),
        Some(MatchPattern::PresentMatch(false)) => "it is absent".to_owned(),
        Some(MatchPattern::BoolMatch(wanted)) => format!("it is {wanted}"),
        Some(MatchPattern::StringMatch(matcher)) => {
            format!("it {}", string_match::written(matcher))
        }
        Some(MatchPattern::DoubleMatch(_)) => "it is another number".to_owned(),
        Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
            Some(ListPattern::OneOf(each)) => format!("it has one of which: {}", written(each)),
            None => "it is a list".to_owned(),
        },
        Some(MatchPattern::OrMatch(or)) => {
            let each: Vec<String> = or.value_matchers.iter().map(written).collect();
            each.join(" or ")
        }
        None => "it is anything".to_owned(),
    }
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
