//! HTTP filters that only Istio's Envoy build has.

use std::collections::BTreeMap;

use navarch_envoy::any::pack;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use navarch_envoy::istio::envoy::config::filter::http::alpn::v2alpha1::FilterConfig;
use navarch_envoy::istio::envoy::config::filter::http::alpn::v2alpha1::filter_config::{
    AlpnOverride, Protocol,
};
use navarch_envoy::udpa::r#type::v1::TypedStruct;
use prost_types::{Any, ListValue, Struct, Value, value::Kind};

use super::{FilterContext, ListenerClass, filter};

/// A configuration whose type is not compiled in, in the form that Envoy converts by its type URL.
pub(crate) fn typed_struct(type_url: &str, value: Struct) -> Any {
    pack(&TypedStruct {
        type_url: type_url.to_owned(),
        value: Some(value),
    })
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields: BTreeMap<_, _> = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Value {
        kind: Some(Kind::StructValue(Struct { fields })),
    }
}

fn list(values: Vec<Value>) -> Value {
    Value {
        kind: Some(Kind::ListValue(ListValue { values })),
    }
}

/// Tells both peers of each other by headers (istio `pilot/pkg/xds/filters/filters.go` `SidecarInboundMetadataFilter` and kin).
pub(super) fn metadata_exchange(context: FilterContext) -> Option<HttpFilter> {
    if !context.is_istio {
        return None;
    }
    let side = match context.class {
        ListenerClass::SidecarInbound => ["downstream_discovery", "downstream_propagation"],
        _ => ["upstream_discovery", "upstream_propagation"],
    };
    let is_limited =
        context.has_peer_headers_in_mesh_only && context.class != ListenerClass::SidecarInbound;
    let limit = is_limited.then(|| {
        let yes = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        ("skip_external_clusters", yes)
    });
    let discovery = list(vec![
        object([("istio_headers", object([]))]),
        object([("workload_discovery", object([]))]),
    ]);
    let propagation = list(vec![object([("istio_headers", object(limit))])]);
    let [discovery_key, propagation_key] = side.map(str::to_owned);
    let value = Struct {
        fields: [(discovery_key, discovery), (propagation_key, propagation)].into(),
    };
    let url = "type.googleapis.com/io.istio.http.peer_metadata.Config";
    Some(filter("istio.metadata_exchange", typed_struct(url, value)))
}

/// Puts the protocol that the inspector told into the upstream's ALPN, so that the server's side needs no inspector.
pub(super) fn alpn(context: FilterContext) -> Option<HttpFilter> {
    if !context.is_istio || context.class == ListenerClass::SidecarInbound {
        return None;
    }
    let offer = |protocol: Protocol, names: [&str; 3]| AlpnOverride {
        upstream_protocol: protocol as i32,
        alpn_override: names.map(str::to_owned).to_vec(),
    };
    let config = FilterConfig {
        alpn_override: vec![
            offer(Protocol::Http10, ["istio-http/1.0", "istio", "http/1.0"]),
            offer(Protocol::Http11, ["istio-http/1.1", "istio", "http/1.1"]),
            offer(Protocol::Http2, ["istio-h2", "istio", "h2"]),
        ],
    };
    Some(filter("istio.alpn", pack(&config)))
}
