//! `knative-gateway`: what Knative makes of its services, two VirtualServices each on two Gateways.

use navarch_model::Kind;
use navarch_snapshot::{Batch, Change};
use serde_json::{Value, json};

use super::object::object;

const INGRESS: &str = "knative-serving/knative-ingress-gateway";
const LOCAL: &str = "knative-serving/knative-local-gateway";
const PUBLIC_HASH: &str = "0647dfaebda7111f09cd1ee30dfb4cbdf540bcd47575c5f948106757b7110384";
const PRIVATE_HASH: &str = "1235d057c5abf876f0b1fa3cb9e5d04730d98fb236badc4705aecc1159309b2b";

/// The objects.
pub(super) fn batch(n_services: usize) -> Batch {
    let shared = [
        entry("external", "istio-ingressgateway", 8080),
        entry("internal", "knative-local-gateway", 8081),
        gateway("knative-ingress-gateway", 80),
        gateway("knative-local-gateway", 8081),
    ];
    shared
        .into_iter()
        .chain((0..n_services).flat_map(|i| [public(i), private(i)]))
        .collect()
}

fn entry(name: &str, host: &str, target_port: u16) -> Change {
    let spec = json!({
        "hosts": [format!("{host}.istio-system.svc.cluster.local")],
        "ports": [{"number": 80, "targetPort": target_port, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "1.1.1.1", "labels": {"istio.io/benchmark": "true"}}],
    });
    object(Kind::ServiceEntry, "istio-system", name, &spec)
}

fn gateway(name: &str, port: u16) -> Change {
    let spec = json!({
        "selector": {"istio.io/benchmark": "true"},
        "servers": [{"hosts": ["*"], "port": {"name": "http", "number": port, "protocol": "HTTP"}}],
    });
    object(Kind::Gateway, "knative-serving", name, &spec)
}

/// The pair of routes of one way in: with the tag header overridden, and without.
fn routes(service: &str, authority: &str, gateway: &str, hash: &str) -> [Value; 2] {
    let route = json!([{
        "destination": {"host": format!("{service}.default.svc.cluster.local"), "port": {"number": 80}},
        "headers": {"request": {"set": {
            "Knative-Serving-Namespace": "default", "Knative-Serving-Revision": service,
        }}},
        "weight": 100,
    }]);
    let authority = json!({"prefix": authority});
    [
        json!({
            "headers": {"request": {"set": {"K-Network-Hash": hash}}},
            "match": [{
                "authority": authority, "gateways": [gateway],
                "headers": {"K-Network-Hash": {"exact": "override"}},
            }],
            "route": route,
        }),
        json!({"match": [{"authority": authority, "gateways": [gateway]}], "route": route}),
    ]
}

fn public(i: usize) -> Change {
    let service = format!("hello-{i}");
    let local = routes(&service, "hello.default", LOCAL, PUBLIC_HASH);
    let external = routes(
        &service,
        "hello.default.external.domain",
        INGRESS,
        PUBLIC_HASH,
    );
    let http: Vec<Value> = local.into_iter().chain(external).collect();
    let spec = json!({
        "gateways": [INGRESS, LOCAL],
        "hosts": [
            "hello.default", "hello.default.external.domain", "hello.default.svc",
            "hello.default.svc.cluster.local",
        ],
        "http": http,
    });
    object(
        Kind::VirtualService,
        "default",
        &format!("hello-ingress-{i}"),
        &spec,
    )
}

fn private(i: usize) -> Change {
    let service = format!("hello-private-{i}");
    let spec = json!({
        "gateways": [LOCAL],
        "hosts": [
            "hello-private.default", "hello-private.default.svc",
            "hello-private.default.svc.cluster.local",
        ],
        "http": routes(&service, "hello-private.default", LOCAL, PRIVATE_HASH),
    });
    let name = format!("hello-private-ingress-{i}");
    object(Kind::VirtualService, "default", &name, &spec)
}
