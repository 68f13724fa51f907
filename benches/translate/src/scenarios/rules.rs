//! `tls`: strict mutual TLS by one rule for all hosts; `virtualservice`: a VirtualService for each host.

use navarch_model::Kind;
use navarch_snapshot::Batch;
use serde_json::json;

use super::object::{ALL_PORTS, HTTP, object, own_service, random_service};

/// Services of four ports each under one DestinationRule.
pub(super) fn tls(n_services: usize) -> Batch {
    let strict = json!({"mtls": {"mode": "STRICT"}});
    let mutual =
        json!({"host": "*.host.example", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}});
    let shared = [
        own_service(ALL_PORTS, "MESH_EXTERNAL", &json!({})),
        object(Kind::PeerAuthentication, "default", "default", &strict),
        object(Kind::DestinationRule, "default", "use-mtls", &mutual),
    ];
    let services = (0..n_services).map(|i| random_service(i, ALL_PORTS));
    shared.into_iter().chain(services).collect()
}

/// Services of HTTP with two matches and a rewrite each.
pub(super) fn virtual_service(n_services: usize) -> Batch {
    let rule = |i| {
        let host = format!("random-{i}.host.example");
        let spec = json!({
            "hosts": [host],
            "http": [{
                "name": "match-route",
                "match": [{"uri": {"prefix": "/foo"}}, {"uri": {"regex": "/bar"}}],
                "rewrite": {"uri": "/new-url"},
                "route": [{"destination": {"host": host}}],
            }],
        });
        object(Kind::VirtualService, "default", &format!("vs-{i}"), &spec)
    };
    [own_service(HTTP, "MESH_EXTERNAL", &json!({}))]
        .into_iter()
        .chain((0..n_services).flat_map(|i| [rule(i), random_service(i, HTTP)]))
        .collect()
}
