//! HTTP filters that only Istio's Envoy build has.

use std::collections::BTreeMap;

use navarch_envoy::any::pack;
use navarch_envoy::istio::envoy::config::filter::http::alpn::v2alpha1::FilterConfig;
use navarch_envoy::istio::envoy::config::filter::http::alpn::v2alpha1::filter_config::{
    AlpnOverride, Protocol,
};
use navarch_envoy::udpa::r#type::v1::TypedStruct;
use prost::Message;
use prost_types::{Any, ListValue, Struct, Value, value::Kind};

use super::{Constant, FilterContext, ListenerClass, filter};

/// Where a client's filter looks for the peer, and where it tells of itself.
const UPSTREAM_SIDE: [&str; 2] = ["upstream_discovery", "upstream_propagation"];

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
pub(super) fn metadata_exchange(context: FilterContext) -> Option<&'static Constant> {
    static DOWNSTREAM: Constant = Constant::new(|| {
        build_metadata_exchange(["downstream_discovery", "downstream_propagation"], false)
    });
    static UPSTREAM: Constant = Constant::new(|| build_metadata_exchange(UPSTREAM_SIDE, false));
    static UPSTREAM_IN_MESH: Constant =
        Constant::new(|| build_metadata_exchange(UPSTREAM_SIDE, true));
    let filter = match context.class {
        ListenerClass::SidecarInbound => &DOWNSTREAM,
        _ if context.has_peer_headers_in_mesh_only => &UPSTREAM_IN_MESH,
        _ => &UPSTREAM,
    };
    context.is_istio.then_some(filter)
}

fn build_metadata_exchange(side: [&str; 2], is_limited: bool) -> Vec<u8> {
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
    filter("istio.metadata_exchange", typed_struct(url, value)).encode_to_vec()
}

/// Puts the protocol that the inspector told into the upstream's ALPN, so that the server's side needs no inspector.
pub(super) fn alpn(context: FilterContext) -> Option<&'static Constant> {
    static FILTER: Constant = Constant::new(build_alpn);
    let is_wanted = context.is_istio && context.class != ListenerClass::SidecarInbound;
    is_wanted.then_some(&FILTER)
}

fn build_alpn() -> Vec<u8> {
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
    filter("istio.alpn", pack(&config)).encode_to_vec()
}
