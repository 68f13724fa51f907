//! Retry policies.

use std::borrow::Cow;
use std::sync::LazyLock;

use navarch_envoy::any::{pack, pack_default};
use navarch_envoy::envoy::config::route::v3::RetryPolicy;
use navarch_envoy::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};
use navarch_envoy::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use navarch_envoy::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use navarch_model::HttpRetry;
use prost::Message;

use super::scalar::duration;

const DEFAULT_RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The retry policy of a route (istio route/retry/retry.go `ConvertPolicy`).
///
/// `None` as policy means Istio's default; zero attempts mean none. With consistent hashing a retry
/// stays with its host unless the policy says otherwise.
pub(super) fn build_retry_policy(
    policy: Option<&HttpRetry>,
    is_consistent_hash: bool,
) -> Option<RetryPolicy> {
    let mut out = RetryPolicy {
        num_retries: Some(2),
        retry_on: DEFAULT_RETRY_ON.to_owned(),
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::default()
    };
    if !is_consistent_hash {
        out.retry_host_predicate = vec![avoid_previous_hosts()];
    }
    match policy {
        Some(policy) => customize(out, policy),
        None => Some(out),
    }
}

/// [`build_retry_policy`], encoded; Istio's default is once for all.
pub(super) fn encode_retry_policy(
    policy: Option<&HttpRetry>,
    is_consistent_hash: bool,
) -> Option<Cow<'static, [u8]>> {
    static DEFAULTS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
        [false, true].map(|is_consistent_hash| {
            let policy = build_retry_policy(None, is_consistent_hash);
            policy.unwrap_or_default().encode_to_vec()
        })
    });
    if policy.is_none() {
        return Some(Cow::Borrowed(&DEFAULTS[usize::from(is_consistent_hash)]));
    }
    let policy = build_retry_policy(policy, is_consistent_hash)?;
    Some(Cow::Owned(policy.encode_to_vec()))
}

/// The retry policy of requests to the workload itself: those that it did not begin to read are sent again.
pub(super) fn build_inbound_retry_policy(policy: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let out = RetryPolicy {
        num_retries: Some(2),
        retry_on: "reset-before-request".to_owned(),
        ..RetryPolicy::default()
    };
    match policy {
        Some(policy) => customize(out, policy),
        None => Some(out),
    }
}

/// A default with what the operator wants otherwise.
fn customize(mut out: RetryPolicy, policy: &HttpRetry) -> Option<RetryPolicy> {
    let attempts = u32::try_from(policy.attempts).ok().filter(|n| *n > 0)?;
    out.num_retries = Some(attempts);
    if !policy.retry_on.is_empty() {
        (out.retry_on, out.retriable_status_codes) = split_conditions(&policy.retry_on);
    }
    out.per_try_timeout = policy.per_try_timeout.map(duration);
    if let Some(is_ignoring) = policy.retry_ignore_previous_hosts {
        out.retry_host_predicate = is_ignoring.then(avoid_previous_hosts).into_iter().collect();
    }
    if policy.retry_remote_localities == Some(true) {
        out.retry_priority = Some(avoid_previous_priorities());
    }
    out.retry_back_off = policy.backoff.map(|interval| RetryBackOff {
        base_interval: Some(duration(interval)),
        max_interval: None,
    });
    Some(out)
}

/// Conditions and status codes of a `retryOn`; codes ask for the condition that lets them count.
fn split_conditions(retry_on: &str) -> (String, Vec<u32>) {
    let mut names = Vec::new();
    let mut codes = Vec::new();
    for part in retry_on.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.parse::<u32>() {
            Ok(code) if is_status_code(code) => codes.push(code),
            _ => names.push(part),
        }
    }
    let mut retry_on = names.join(",");
    if !codes.is_empty() && !retry_on.contains("retriable-status-codes") {
        retry_on.push_str(",retriable-status-codes");
    }
    (retry_on, codes)
}

/// Whether Go's net/http has a text for the code; others are taken for conditions.
const fn is_status_code(code: u32) -> bool {
    matches!(
        code,
        100..=103
            | 200..=208
            | 226
            | 300..=305
            | 307
            | 308
            | 400..=418
            | 421..=426
            | 428
            | 429
            | 431
            | 451
            | 500..=508
            | 510
            | 511
    )
}

fn avoid_previous_hosts() -> RetryHostPredicate {
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(
            pack_default::<PreviousHostsPredicate>(),
        )),
    }
}

fn avoid_previous_priorities() -> RetryPriority {
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(pack(
            &PreviousPrioritiesConfig {
                update_frequency: 2,
            },
        ))),
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::HttpRetry;

    use super::{DEFAULT_RETRY_ON, build_retry_policy, split_conditions};

    #[test]
    fn codes_among_the_conditions_ask_for_their_condition() {
        for (retry_on, conditions, codes) in [
            ("503,reset", "reset,retriable-status-codes", vec![503]),
            (
                "retriable-status-codes, 429",
                "retriable-status-codes",
                vec![429],
            ),
            ("5xx", "5xx", vec![]),
            ("999,5xx", "999,5xx", vec![]),
            ("503", ",retriable-status-codes", vec![503]),
        ] {
            assert_eq!(
                split_conditions(retry_on),
                (conditions.to_owned(), codes),
                "{retry_on}"
            );
        }
    }

    #[test]
    fn no_attempts_means_no_policy_and_no_policy_the_default() {
        assert_eq!(build_retry_policy(Some(&HttpRetry::default()), false), None);
        let default = build_retry_policy(None, false).unwrap();
        assert_eq!(default.retry_on, DEFAULT_RETRY_ON);
        assert_eq!(default.retry_host_predicate.len(), 1);
        let hashed = build_retry_policy(None, true).unwrap();
        assert!(hashed.retry_host_predicate.is_empty());
    }
}
