//! Ejection of endpoints that fail.
//!
//! Source: istio `pilot/pkg/networking/core/cluster_traffic_policy.go` `applyOutlierDetection`.

use navarch_envoy::envoy::config::cluster::v3::OutlierDetection;
use navarch_envoy::envoy::config::common::matcher::v3::{
    HttpHeadersMatch, MatchPredicate,
    match_predicate::{MatchSet, Rule},
};
use navarch_envoy::envoy::config::route::v3::{
    HeaderMatcher, header_matcher::HeaderMatchSpecifier,
};
use navarch_envoy::envoy::extensions::upstreams::http::v3::http_protocol_options;
use navarch_envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use navarch_model as model;

use super::protobuf::duration;

/// 100 where a limit is set, 0 where it is set to zero: zero switches the detection off.
const fn enforcing(limit: u32) -> u32 {
    if limit > 0 { 100 } else { 0 }
}

/// Envoy's outlier detection of a policy; by success rate it never ejects.
pub(super) fn build_outlier_detection(settings: &model::OutlierDetection) -> OutlierDetection {
    let mut out = OutlierDetection {
        enforcing_success_rate: Some(0),
        interval: settings.interval.map(duration),
        base_ejection_time: settings.base_ejection_time.map(duration),
        max_ejection_percent: u32::try_from(settings.max_ejection_percent)
            .ok()
            .filter(|p| *p > 0),
        ..OutlierDetection::default()
    };
    if let Some(model::Wrapped(limit)) = settings.consecutive_5xx_errors {
        out.consecutive_5xx = Some(limit);
        out.enforcing_consecutive_5xx = Some(enforcing(limit));
    }
    if let Some(model::Wrapped(limit)) = settings.consecutive_gateway_errors {
        out.consecutive_gateway_failure = Some(limit);
        out.enforcing_consecutive_gateway_failure = Some(enforcing(limit));
    }
    if settings.split_external_local_origin_errors {
        out.split_external_local_origin_errors = true;
        let limit = settings
            .consecutive_local_origin_failures
            .map(|limit| limit.0);
        if let Some(limit) = limit.filter(|limit| *limit > 0) {
            out.consecutive_local_origin_failure = Some(limit);
            out.enforcing_consecutive_local_origin_failure = Some(100);
        }
        out.enforcing_local_origin_success_rate = Some(0);
    }
    out
}

/// Which responses count as errors, where a policy names their status codes.
pub(super) fn build_error_matcher(
    settings: &model::OutlierDetection,
) -> Option<http_protocol_options::OutlierDetection> {
    let mut rules: Vec<MatchPredicate> = settings
        .outlier_detection_http_error_codes
        .iter()
        .map(|code| status_is(code.0))
        .collect();
    let matcher = match rules.len() {
        0 => return None,
        // Envoy wants two rules at least in a set.
        1 => rules.pop()?,
        _ => MatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet { rules })),
        },
    };
    Some(http_protocol_options::OutlierDetection {
        error_matcher: Some(matcher),
    })
}

fn status_is(code: u32) -> MatchPredicate {
    let header = HeaderMatcher {
        name: ":status".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(code.to_string())),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    };
    MatchPredicate {
        rule: Some(Rule::HttpResponseHeadersMatch(HttpHeadersMatch {
            headers: vec![header],
        })),
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{OutlierDetection, Wrapped};

    use super::{build_error_matcher, build_outlier_detection};

    #[test]
    fn zero_switches_a_detection_off() {
        let out = build_outlier_detection(&OutlierDetection {
            consecutive_5xx_errors: Some(Wrapped(0)),
            consecutive_gateway_errors: Some(Wrapped(3)),
            ..OutlierDetection::default()
        });
        assert_eq!(out.enforcing_consecutive_5xx, Some(0));
        assert_eq!(out.enforcing_consecutive_gateway_failure, Some(100));
        assert_eq!(out.enforcing_success_rate, Some(0));
    }

    #[test]
    fn no_codes_no_matcher() {
        assert!(build_error_matcher(&OutlierDetection::default()).is_none());
    }
}
