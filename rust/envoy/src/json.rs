//! Protobuf JSON of encoded messages, by reflection over the embedded descriptors.
//!
//! The form: proto field names, `Any` expanded with `@type`, fields without a value left out, enums by
//! name, 64-bit integers as strings, bytes as base64.
//! <https://protobuf.dev/programming-guides/json/>

use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage, SerializeOptions, Value as Field,
};
use prost_types::{Struct, value};
use serde_json::{Map, Value, json};

static DESCRIPTORS: &[u8] = include_bytes!("../descriptors/envoy.binpb");

/// The descriptors of all generated types.
#[expect(
    clippy::expect_used,
    reason = "the bytes are part of the build, which read them already"
)]
pub fn descriptor_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).expect("embedded descriptors decode"))
}

/// JSON of the encoded message `value` of the type `type_url`, without an `@type` of its own.
///
/// Unknown types and broken bytes give `{"@type", "value": base64}`, never an error: the caller shows
/// what is there.
pub fn to_json(type_url: &str, value: &[u8]) -> Value {
    find_message(type_url, value).map_or_else(|| opaque(type_url, value), |m| message_json(&m))
}

/// JSON of a message whose type is known at compile time.
pub fn message_to_json<M: Message + Name>(message: &M) -> Value {
    to_json(&M::type_url(), &message.encode_to_vec())
}

/// JSON of free JSON, as [`to_json`] gives it, without descriptors.
pub fn struct_to_json(fields: &Struct) -> Value {
    let fields = fields.fields.iter();
    Value::Object(fields.map(|(k, v)| (k.clone(), value_to_json(v))).collect())
}

fn value_to_json(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(value::Kind::NullValue(_)) => Value::Null,
        Some(value::Kind::BoolValue(v)) => (*v).into(),
        Some(value::Kind::NumberValue(v)) => float_json(*v),
        Some(value::Kind::StringValue(v)) => v.as_str().into(),
        Some(value::Kind::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
        Some(value::Kind::StructValue(fields)) => struct_to_json(fields),
    }
}

/// The message that protobuf JSON describes; unknown fields are errors.
pub fn message_from_json<M: Message + Name + Default>(value: &Value) -> Result<M, String> {
    let descriptor = descriptor_pool()
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| format!("no descriptor of {}", M::full_name()))?;
    let dynamic = DynamicMessage::deserialize(descriptor, value).map_err(|e| e.to_string())?;
    dynamic.transcode_to().map_err(|e| e.to_string())
}

fn find_message(type_url: &str, value: &[u8]) -> Option<DynamicMessage> {
    let name = type_url.rsplit_once('/').map_or(type_url, |(_, name)| name);
    let descriptor = descriptor_pool().get_message_by_name(name)?;
    DynamicMessage::decode(descriptor, value).ok()
}

fn opaque(type_url: &str, value: &[u8]) -> Value {
    json!({"@type": type_url, "value": BASE64_STANDARD.encode(value)})
}

fn message_json(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Any" => any_json(message),
        name if has_own_form(name) => own_form(message),
        _ => {
            let fields = message.fields();
            Value::Object(
                fields
                    .map(|(f, v)| (f.name().to_owned(), field_json(v, &f.kind())))
                    .collect(),
            )
        }
    }
}

fn any_json(message: &DynamicMessage) -> Value {
    let type_url = message.get_field_by_name("type_url");
    let type_url = type_url
        .as_deref()
        .and_then(Field::as_str)
        .unwrap_or_default();
    let bytes = message.get_field_by_name("value");
    let bytes = bytes
        .as_deref()
        .and_then(Field::as_bytes)
        .map(AsRef::as_ref)
        .unwrap_or_default();
    if type_url.is_empty() && <[u8]>::is_empty(bytes) {
        return Value::Object(Map::new());
    }
    let Some(inner) = find_message(type_url, bytes) else {
        return opaque(type_url, bytes);
    };
    let special = has_own_form(inner.descriptor().full_name());
    match message_json(&inner) {
        Value::Object(mut fields) if !special => {
            fields.insert("@type".to_owned(), type_url.into());
            Value::Object(fields)
        }
        value => json!({"@type": type_url, "value": value}),
    }
}

/// Whether the protobuf JSON mapping gives a message its own form (a string, a number, free JSON).
fn has_own_form(full_name: &str) -> bool {
    full_name
        .strip_prefix("google.protobuf.")
        .is_some_and(|name| {
            matches!(
                name,
                "Duration" | "Timestamp" | "Struct" | "Value" | "ListValue" | "FieldMask"
            ) || name.ends_with("Value")
        })
}

/// The own form of a well-known type; a value outside its range is shown as its error.
fn own_form(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    if !matches!(descriptor.name(), "Value" | "ListValue")
        && descriptor.name().ends_with("Value")
        && let Some(field) = descriptor.get_field(1)
    {
        return field_json(&message.get_field(&field), &field.kind());
    }
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut value = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap_or_else(|e| json!({"error": e.to_string()}));
    trim_numbers(&mut value);
    value
}

/// All numbers of free JSON are floats in protobuf.
fn trim_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64() {
                *value = float_json(float);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(trim_numbers),
        Value::Object(fields) => fields.values_mut().for_each(trim_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn field_json(value: &Field, kind: &Kind) -> Value {
    match value {
        Field::List(items) => items.iter().map(|item| field_json(item, kind)).collect(),
        Field::Map(entries) => {
            let value_kind = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let mut fields: Vec<_> = entries
                .iter()
                .map(|(k, v)| (map_key(k), field_json(v, &value_kind)))
                .collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Field::Message(message) => message_json(message),
        Field::Bool(v) => (*v).into(),
        Field::I32(v) => (*v).into(),
        Field::U32(v) => (*v).into(),
        Field::I64(v) => v.to_string().into(),
        Field::U64(v) => v.to_string().into(),
        // The shortest decimal that is this f32, not the f64 next to it.
        Field::F32(v) => float_json(v.to_string().parse().unwrap_or_else(|_| f64::from(*v))),
        Field::F64(v) => float_json(*v),
        Field::String(v) => v.as_str().into(),
        Field::Bytes(v) => BASE64_STANDARD.encode(v).into(),
        Field::EnumNumber(number) => enum_json(*number, kind),
    }
}

fn enum_json(number: i32, kind: &Kind) -> Value {
    let value = kind.as_enum().and_then(|e| e.get_value(number));
    value.map_or_else(|| number.into(), |v| v.name().into())
}

/// Whole numbers have no point, as in every other writer of protobuf JSON: readers take them for integers.
fn float_json(value: f64) -> Value {
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and within what both represent"
        )]
        return (value as i64).into();
    }
    serde_json::Number::from_f64(value).map_or_else(
        || match value {
            v if v.is_nan() => "NaN".into(),
            v if v > 0.0 => "Infinity".into(),
            _ => "-Infinity".into(),
        },
        Value::Number,
    )
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{Any, Duration};
    use serde_json::json;

    use super::{message_from_json, message_to_json, struct_to_json, to_json};
    use crate::any::pack;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
    use crate::envoy::config::core::v3::{Metadata, Node, TypedExtensionConfig};
    use crate::envoy::extensions::filters::http::router::v3::Router;

    #[test]
    fn fields_are_named_as_in_proto_and_defaults_left_out() {
        let cluster = Cluster {
            name: "c".into(),
            connect_timeout: Some(Duration {
                seconds: 10,
                nanos: 0,
            }),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            ..Cluster::default()
        };
        let expected = json!({"name": "c", "connect_timeout": "10s", "type": "EDS"});
        assert_eq!(message_to_json(&cluster), expected);
        assert_eq!(message_from_json::<Cluster>(&expected), Ok(cluster));
    }

    #[test]
    fn free_json_is_the_same_with_and_without_descriptors() {
        let told = json!({
            "text": "a", "whole": 15021, "part": 0.5, "large": 1e300, "yes": true, "nothing": null,
            "list": [1, "b", {"in": [false]}], "object": {"c": {}},
        });
        let node: Node = message_from_json(&json!({"metadata": told})).unwrap();
        assert_eq!(struct_to_json(node.metadata.as_ref().unwrap()), told);
        assert_eq!(message_to_json(&node)["metadata"], told);
    }

    #[test]
    fn any_is_expanded_in_any() {
        let router = Router {
            suppress_envoy_headers: true,
            ..Router::default()
        };
        let config = TypedExtensionConfig {
            name: "x".into(),
            typed_config: Some(pack(&router)),
        };
        assert_eq!(
            message_to_json(&config),
            json!({"name": "x", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": true}})
        );
    }

    #[test]
    fn unknown_types_and_broken_bytes_stay_opaque() {
        let unknown = Any {
            type_url: "t/nobody.Knows".into(),
            value: vec![1, 2],
        };
        let config = TypedExtensionConfig {
            name: "x".into(),
            typed_config: Some(unknown),
        };
        assert_eq!(
            message_to_json(&config),
            json!({"name": "x", "typed_config": {"@type": "t/nobody.Knows", "value": "AQI="}})
        );
        let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        assert_eq!(
            to_json(url, &[0xff]),
            json!({"@type": url, "value": "/w=="})
        );
    }

    #[test]
    fn whole_numbers_have_no_point() {
        let url = "type.googleapis.com/google.protobuf.DoubleValue";
        let two = [0x09, 0, 0, 0, 0, 0, 0, 0, 0x40];
        assert_eq!(to_json(url, &two).to_string(), "2");
        let free =
            json!({"filter_metadata": {"a": {"n": 2, "share": 0.5, "ports": [80, {"b": -1}]}}});
        let made = message_from_json::<Metadata>(&free).map(|m| message_to_json(&m).to_string());
        assert_eq!(made, Ok(free.to_string()));
    }

    #[test]
    fn floats_are_the_shortest_that_mean_the_same() {
        let url = "type.googleapis.com/google.protobuf.FloatValue";
        assert_eq!(
            to_json(url, &[0x0d, 0xcd, 0xcc, 0xcc, 0x3d]).to_string(),
            "0.1"
        );
    }
}
