//! Cross-origin rules per route.

use navarch_envoy::envoy::extensions::filters::http::cors::v3::CorsPolicy;

use super::scalar::{runtime, whole_percent};
use super::string_match::{build_string_match, exact};

/// The settings of `envoy.filters.http.cors` for one route (istio route.go `TranslateCORSPolicy`).
pub(super) fn build_cors(policy: &navarch_model::CorsPolicy) -> CorsPolicy {
    let origins = if policy.allow_origins.is_empty() {
        policy.allow_origin.iter().map(|text| exact(text)).collect()
    } else {
        policy
            .allow_origins
            .iter()
            .filter_map(build_string_match)
            .collect()
    };
    CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy
            .max_age
            .map_or_else(String::new, |age| age.seconds.to_string()),
        allow_credentials: policy.allow_credentials,
        filter_enabled: Some(runtime(whole_percent(100))),
        // Envoy before 1.30 always forwarded them, and so does Istio unless told otherwise.
        forward_not_matching_preflights: Some(policy.unmatched_preflights != "IGNORE"),
        ..CorsPolicy::default()
    }
}
