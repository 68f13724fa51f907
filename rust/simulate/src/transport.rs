//! Transport sockets: how a connection to an endpoint, or from a client, is wrapped.

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::core::v3::{Metadata, TransportSocket, transport_socket};
use navarch_envoy::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use prost::{Message, Name};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::outcome::Transport;

/// Where endpoints say which socket they want.
const MATCH_METADATA: &str = "envoy.transport_socket_match";

/// The TLS context of a socket; `None` if it is none of that type.
pub(crate) fn unpack_tls<M: Message + Name + Default>(socket: &TransportSocket) -> Option<M> {
    let Some(transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type else {
        return None;
    };
    if let Some(wrapped) = any::unpack::<ProxyProtocolUpstreamTransport>(config) {
        return unpack_tls(wrapped.transport_socket.as_ref()?);
    }
    any::unpack(config)
}

/// The socket for an endpoint: the first match that its metadata has, else the cluster's.
pub(crate) fn of_endpoint(cluster: &Cluster, metadata: Option<&Metadata>) -> Transport {
    let empty = Struct::default();
    let own = metadata
        .and_then(|m| m.filter_metadata.get(MATCH_METADATA))
        .unwrap_or(&empty);
    let matched = cluster.transport_socket_matches.iter().find(|each| {
        each.r#match
            .as_ref()
            .is_none_or(|wanted| is_within(wanted, own))
    });
    let (name, socket) = match matched {
        Some(matched) => (matched.name.clone(), matched.transport_socket.as_ref()),
        None => (String::new(), cluster.transport_socket.as_ref()),
    };
    let Some(socket) = socket else {
        return Transport {
            name: "plaintext".to_owned(),
            ..Transport::default()
        };
    };
    let name = if name.is_empty() {
        socket.name.clone()
    } else {
        name
    };
    let Some(context) = unpack_tls::<UpstreamTlsContext>(socket) else {
        return Transport {
            name,
            ..Transport::default()
        };
    };
    let common = context.common_tls_context.unwrap_or_default();
    Transport {
        name,
        is_tls: true,
        sni: context.sni,
        has_certificate: !common.tls_certificates.is_empty()
            || !common.tls_certificate_sds_secret_configs.is_empty(),
        alpn: common.alpn_protocols,
    }
}

fn is_within(wanted: &Struct, own: &Struct) -> bool {
    wanted
        .fields
        .iter()
        .all(|(key, value)| own.fields.get(key) == Some(value))
}

/// Offer what Istio's ALPN filter does for HTTP over its mutual TLS (istio `pilot/pkg/xds/filters`).
pub(crate) fn offer_http(transport: &mut Transport, cluster: &Cluster, is_http2: bool) {
    let is_mutual = transport.alpn.iter().any(|protocol| protocol == "istio");
    if !is_mutual || !is_alpn_overridden(cluster) {
        return;
    }
    let offered: &[&str] = if is_http2 {
        &["istio-h2", "istio", "h2"]
    } else {
        &["istio-http/1.1", "istio", "http/1.1"]
    };
    transport.alpn = offered.iter().map(ToString::to_string).collect();
}

/// Whether the filter may act: a cluster's metadata can forbid it.
fn is_alpn_overridden(cluster: &Cluster) -> bool {
    let istio = cluster
        .metadata
        .as_ref()
        .and_then(|m| m.filter_metadata.get("istio"));
    let told = istio.and_then(|istio| istio.fields.get("alpn_override"));
    !matches!(told, Some(Value { kind: Some(Kind::StringValue(text)) }) if text == "false")
}
