//! Tracing of connection managers: sampling and tags; the tracer itself is the bootstrap's.
//!
//! Source: istio `pilot/pkg/networking/core/tracing.go`.

use std::sync::Arc;

use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use navarch_envoy::envoy::r#type::metadata::v3::metadata_key::{PathSegment, path_segment::Segment};
use navarch_envoy::envoy::r#type::metadata::v3::metadata_kind::{Kind, Request};
use navarch_envoy::envoy::r#type::metadata::v3::{MetadataKey, MetadataKind};
use navarch_envoy::envoy::r#type::tracing::v3::CustomTag;
use navarch_envoy::envoy::r#type::tracing::v3::custom_tag::{
    Environment, Header, Literal, Metadata, Type,
};
use navarch_envoy::envoy::r#type::v3::Percent;
use navarch_model::{CustomTag as TagSettings, ProxyTracing};

use super::facts::HttpFacts;

/// Share of requests that are traced when nobody says otherwise, in percent.
const DEFAULT_SAMPLING: f64 = 1.0;

/// Tags of policies on trial: name of the tag, key of the authorization filter's metadata.
const POLICY_TAGS: &[(&str, &str)] = &[
    (
        "istio.authorization.dry_run.allow_policy.name",
        "istio_dry_run_allow_shadow_effective_policy_id",
    ),
    (
        "istio.authorization.dry_run.allow_policy.result",
        "istio_dry_run_allow_shadow_engine_result",
    ),
    (
        "istio.authorization.dry_run.deny_policy.name",
        "istio_dry_run_deny_shadow_effective_policy_id",
    ),
    (
        "istio.authorization.dry_run.deny_policy.result",
        "istio_dry_run_deny_shadow_engine_result",
    ),
];

/// The tracing block; `None` when the mesh traces nothing.
pub(super) fn build(facts: &HttpFacts) -> Option<Tracing> {
    if !facts.has_tracing {
        return None;
    }
    let unset = ProxyTracing::default();
    let settings = facts.proxy_config.tracing.as_ref().unwrap_or(&unset);
    let percent = |value: f64| Some(Percent { value });
    let mut custom_tags = tags(facts, settings);
    custom_tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    Some(Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(sampling(settings.sampling.0)),
        overall_sampling: percent(100.0),
        max_path_tag_length: Some(settings.max_path_tag_length).filter(|length| *length > 0),
        custom_tags,
        ..Tracing::default()
    })
}

/// The share in percent: 0 is unset, and Istio takes more than all for a mistake.
fn sampling(value: f64) -> f64 {
    if value > 0.0 && value <= 100.0 {
        value
    } else {
        DEFAULT_SAMPLING
    }
}

fn tags(facts: &HttpFacts, settings: &ProxyTracing) -> Vec<CustomTag> {
    let mut tags = Vec::with_capacity(9 + settings.custom_tags.len());
    if settings.enable_istio_tags.unwrap_or(true) {
        for (name, key) in POLICY_TAGS {
            tags.push(tag(name, policy_tag(key)));
        }
        for (name, value, unset) in [
            (
                "istio.canonical_revision",
                &facts.canonical_revision,
                "latest",
            ),
            (
                "istio.canonical_service",
                &facts.canonical_service,
                "unknown",
            ),
            ("istio.cluster_id", &facts.cluster_id, "unknown"),
            ("istio.mesh_id", &facts.mesh_id, "unknown"),
            ("istio.namespace", &facts.namespace, "default"),
        ] {
            tags.push(tag(name, literal(known(value, unset))));
        }
    }
    for (name, settings) in &settings.custom_tags {
        tags.extend(custom(settings).map(|kind| tag(name, kind)));
    }
    tags
}

fn known<'a>(value: &'a Arc<str>, unset: &'a str) -> &'a str {
    if value.is_empty() { unset } else { value }
}

fn tag(name: &str, kind: Type) -> CustomTag {
    CustomTag {
        tag: name.to_owned(),
        r#type: Some(kind),
    }
}

fn literal(value: &str) -> Type {
    Type::Literal(Literal {
        value: value.to_owned(),
    })
}

fn custom(settings: &TagSettings) -> Option<Type> {
    Some(match settings {
        TagSettings::Literal(tag) => literal(&tag.value),
        TagSettings::Environment(tag) => Type::Environment(Environment {
            name: tag.name.clone(),
            default_value: tag.default_value.clone(),
        }),
        TagSettings::Header(tag) => Type::RequestHeader(Header {
            name: tag.name.clone(),
            default_value: tag.default_value.clone(),
        }),
        // Istio reads formatters from Telemetry only.
        TagSettings::Formatter(_) => return None,
    })
}

fn policy_tag(key: &str) -> Type {
    Type::Metadata(Metadata {
        kind: Some(MetadataKind {
            kind: Some(Kind::Request(Request {})),
        }),
        metadata_key: Some(MetadataKey {
            key: "envoy.filters.http.rbac".to_owned(),
            path: vec![PathSegment {
                segment: Some(Segment::Key(key.to_owned())),
            }],
        }),
        ..Metadata::default()
    })
}

#[cfg(test)]
mod tests {
    use super::sampling;

    #[test]
    fn sampling_beyond_all_is_the_default() {
        let of = |value: f64| format!("{}", sampling(value));
        assert_eq!(of(0.0), "1");
        assert_eq!(of(30.0), "30");
        assert_eq!(of(100.5), "1");
    }
}
