//! Requests to a gateway.

use navarch_simulate::{Outcome, Protocol, Request, simulate};
use navarch_testkit::objects::{endpoint_slice, networking, pod, service};
use navarch_testkit::{TestMesh, TestProxy};
use serde_json::{Value, json};

use crate::cases::{closed, response, reviews, shop_with, to};

fn gateway(servers: &Value) -> Value {
    networking(
        "Gateway",
        "gw",
        &json!({"selector": {"app": "gw"}, "servers": servers}),
    )
}

fn bound(hosts: &Value, rest: &Value) -> Value {
    let mut spec = json!({"hosts": hosts, "gateways": ["gw"]});
    for (key, value) in rest.as_object().unwrap() {
        spec[key] = value.clone();
    }
    networking("VirtualService", "bound", &spec)
}

fn mesh(servers: &Value, rule: Value) -> TestMesh {
    shop_with([
        service(
            "gw",
            "10.96.0.9",
            &[("http", 80, 8080), ("https", 443, 8443)],
        ),
        endpoint_slice("gw", &[("http", 8080), ("https", 8443)], &["10.1.0.9"]),
        pod("gw-1", "10.1.0.9", "gw", "v1"),
        gateway(servers),
        rule,
    ])
}

fn ask(mesh: &TestMesh, protocol: Protocol, host: &str, port: u32) -> Outcome {
    let request = Request {
        protocol,
        host: host.to_owned(),
        port,
        path: "/x".to_owned(),
        is_captured: false,
        ..Request::default()
    };
    simulate(
        &mesh.resources(&TestProxy::gateway("gw", "10.1.0.9")),
        "shop",
        &request,
    )
}

#[test]
fn hosts_of_a_gateway_are_let_in_and_others_are_not() {
    let servers = json!([{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*.example.com"]}]);
    let mesh = mesh(
        &servers,
        bound(
            &json!(["shop.example.com"]),
            &json!({"http": [{"route": to("")}]}),
        ),
    );
    let known = ask(&mesh, Protocol::Http, "shop.example.com", 8080);
    assert_eq!(known.cluster(), Some(&*reviews("")), "{known}");
    assert_eq!(
        response(&ask(&mesh, Protocol::Http, "other.example.com", 8080)).0,
        404
    );
    let unbound = ask(&mesh, Protocol::Http, "shop.example.com", 81);
    assert!(
        closed(&unbound).contains("it listens on 0.0.0.0:8080"),
        "{unbound}"
    );
}

#[test]
fn plaintext_is_redirected_and_tls_ends_at_the_gateway() {
    let servers = json!([
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["shop.example.com"],
         "tls": {"httpsRedirect": true}},
        {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["shop.example.com"],
         "tls": {"mode": "SIMPLE", "credentialName": "cert"}},
    ]);
    let mesh = mesh(
        &servers,
        bound(
            &json!(["shop.example.com"]),
            &json!({"http": [{"route": to("")}]}),
        ),
    );
    let plain = ask(&mesh, Protocol::Http, "shop.example.com", 8080);
    assert_eq!(response(&plain), (301, "https://shop.example.com/x"));
    let tls = ask(&mesh, Protocol::Https, "shop.example.com", 8443);
    assert_eq!(tls.cluster(), Some(&*reviews("")), "{tls}");
    let foreign = ask(&mesh, Protocol::Https, "other.example.com", 8443);
    assert!(
        closed(&foreign).contains("server name is not shop.example.com"),
        "{foreign}"
    );
}

#[test]
fn passthrough_goes_by_server_name() {
    let servers = json!([{"port": {"number": 443, "name": "tls", "protocol": "TLS"},
        "hosts": ["db.example.com"], "tls": {"mode": "PASSTHROUGH"}}]);
    let rule = bound(
        &json!(["db.example.com"]),
        &json!({"tls": [{"match": [{"sniHosts": ["db.example.com"]}],
            "route": [{"destination": {"host": "db", "port": {"number": 5432}}}]}]}),
    );
    let mesh = mesh(&servers, rule);
    let outcome = ask(&mesh, Protocol::Tls, "db.example.com", 8443);
    assert_eq!(
        outcome.cluster(),
        Some("outbound|5432||db.shop.svc.cluster.local"),
        "{outcome}"
    );
}
