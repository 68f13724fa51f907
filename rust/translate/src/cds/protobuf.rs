//! Small conversions between the mesh's scalars and protobuf's well-known types.

use std::collections::BTreeMap;

use navarch_envoy::any;
use navarch_envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use navarch_model::Span;
use prost::{Message, Name};
use prost_types::{Any, Duration, Struct, Value, value::Kind};

/// A span as protobuf's Duration.
pub(crate) fn duration(span: Span) -> Duration {
    Duration {
        seconds: span.seconds,
        nanos: span.nanos,
    }
}

/// A text value.
pub(crate) fn text(value: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    }
}

/// A truth value.
pub(crate) fn boolean(value: bool) -> Value {
    Value {
        kind: Some(Kind::BoolValue(value)),
    }
}

/// A message of fields.
pub(crate) fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    let fields = fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Struct {
        fields: fields.collect::<BTreeMap<_, _>>(),
    }
}

/// A transport socket with its settings.
pub(crate) fn transport_socket<M: Message + Name>(name: &str, settings: &M) -> TransportSocket {
    packed_socket(name, any::pack(settings))
}

/// A transport socket with settings that are packed already.
pub(crate) fn packed_socket(name: &str, settings: Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(settings)),
    }
}
