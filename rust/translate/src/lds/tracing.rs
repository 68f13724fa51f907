//! Tracing of connection managers: sampling and tags; the tracer itself is the bootstrap's.
//!
//! Source: istio `pilot/pkg/networking/core/tracing.go`.

use std::sync::{Arc, LazyLock};

use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use navarch_envoy::envoy::r#type::metadata::v3::metadata_key::{PathSegment, path_segment::Segment};
use navarch_envoy::envoy::r#type::metadata::v3::metadata_kind::{Kind, Request};
use navarch_envoy::envoy::r#type::metadata::v3::{MetadataKey, MetadataKind};
use navarch_envoy::envoy::r#type::tracing::v3::CustomTag;
use navarch_envoy::envoy::r#type::tracing::v3::custom_tag::{
    Environment, Header, Literal, Metadata, Type,
};
use navarch_envoy::envoy::r#type::v3::Percent;
use navarch_envoy::field::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{self as manager, tracing};
use navarch_envoy::field::envoy::r#type::tracing::v3::custom_tag;
use navarch_envoy::wire::Writer;
use navarch_model::{CustomTag as TagSettings, ProxyTracing};
use prost::Message;

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

/// A tag's value.
enum TagValue<'a> {
    /// Of a policy on trial: the whole tag, encoded.
    Policy(&'static [u8]),
    Literal(&'a str),
    Custom(&'a TagSettings),
}

/// Write the tracing block of a connection manager; there is none when the mesh traces nothing.
pub(super) fn write(facts: &HttpFacts, out: &mut Writer) {
    if !facts.has_tracing {
        return;
    }
    let unset = ProxyTracing::default();
    let settings = facts.proxy_config.tracing.as_ref().unwrap_or(&unset);
    let percent = |value: f64| Some(Percent { value });
    let rest = Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(sampling(settings.sampling.0)),
        overall_sampling: percent(100.0),
        max_path_tag_length: Some(settings.max_path_tag_length).filter(|length| *length > 0),
        ..Tracing::default()
    };
    let mut tags = tags(facts, settings);
    tags.sort_by_key(|(name, _)| *name);
    out.long_message(manager::TRACING, |out| {
        out.append_message(&rest);
        for (name, value) in &tags {
            value.write(name, out);
        }
    });
}

/// The share in percent: 0 is unset, and Istio takes more than all for a mistake.
fn sampling(value: f64) -> f64 {
    if value > 0.0 && value <= 100.0 {
        value
    } else {
        DEFAULT_SAMPLING
    }
}

fn tags<'a>(facts: &'a HttpFacts, settings: &'a ProxyTracing) -> Vec<(&'a str, TagValue<'a>)> {
    static POLICY: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let tags = POLICY_TAGS.iter();
        tags.map(|(name, key)| tag(name, policy_tag(key)).encode_to_vec())
            .collect()
    });
    let mut tags = Vec::with_capacity(9 + settings.custom_tags.len());
    if settings.enable_istio_tags.unwrap_or(true) {
        let policy = POLICY_TAGS.iter().zip(POLICY.iter());
        tags.extend(policy.map(|((name, _), tag)| (*name, TagValue::Policy(tag))));
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
            tags.push((name, TagValue::Literal(known(value, unset))));
        }
    }
    let custom = settings.custom_tags.iter();
    tags.extend(custom.map(|(name, settings)| (name.as_str(), TagValue::Custom(settings))));
    tags
}

impl TagValue<'_> {
    fn write(&self, name: &str, out: &mut Writer) {
        match self {
            Self::Policy(tag) => out.encoded(tracing::CUSTOM_TAGS, tag),
            Self::Literal(value) => out.message(tracing::CUSTOM_TAGS, |out| {
                out.text(custom_tag::TAG, &[name]);
                out.message(custom_tag::LITERAL, |out| {
                    out.text(custom_tag::literal::VALUE, &[value]);
                });
            }),
            Self::Custom(settings) => {
                if let Some(kind) = custom(settings) {
                    let tag = tag(name, kind);
                    out.message(tracing::CUSTOM_TAGS, |out| out.append_message(&tag));
                }
            }
        }
    }
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
