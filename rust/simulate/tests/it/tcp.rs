//! Connections that are not HTTP.

use navarch_simulate::Protocol;
use navarch_testkit::objects::networking;
use serde_json::json;

use crate::cases::{ask, closed, connect, shop_with};

#[test]
fn tcp_goes_by_the_services_address() {
    let outcome = ask(&shop_with([]), &connect("db", 5432, Protocol::Tcp));
    assert_eq!(
        outcome.cluster(),
        Some("outbound|5432||db.shop.svc.cluster.local")
    );
    assert_eq!(outcome.addresses(), ["10.1.0.4:5432"]);
}

#[test]
fn another_port_of_the_address_passes_through() {
    let outcome = ask(&shop_with([]), &connect("db", 5433, Protocol::Tcp));
    assert_eq!(outcome.cluster(), Some("PassthroughCluster"));
    assert_eq!(outcome.addresses(), ["10.96.0.3:5433"]);
}

#[test]
fn registry_only_ends_unknown_connections() {
    let strict = json!({"kind": "MeshConfig", "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
    let outcome = ask(
        &shop_with([strict]),
        &connect("203.0.113.5", 25, Protocol::Tcp),
    );
    assert!(closed(&outcome).contains("BlackHoleCluster"), "{outcome}");
}

#[test]
fn headless_endpoints_are_reached_each_by_its_own_address() {
    let mesh = shop_with([]);
    let by_name = ask(&mesh, &connect("cache", 6379, Protocol::Tcp));
    assert_eq!(
        by_name.cluster(),
        Some("outbound|6379||cache.shop.svc.cluster.local")
    );
    let by_address = ask(&mesh, &connect("10.1.0.6", 6379, Protocol::Tcp));
    assert_eq!(by_address.addresses(), ["10.1.0.6:6379"], "{by_address}");
}

#[test]
fn server_names_pick_the_route() {
    let entry = networking(
        "ServiceEntry",
        "external",
        &json!({
            "hosts": ["a.example.com", "b.example.com", "*.wild.com"],
            "location": "MESH_EXTERNAL", "resolution": "NONE",
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
        }),
    );
    let rule = networking(
        "VirtualService",
        "b",
        &json!({
            "hosts": ["b.example.com"],
            "tls": [{"match": [{"port": 443, "sniHosts": ["b.example.com"]}],
                     "route": [{"destination": {"host": "db", "port": {"number": 5432}}}]}],
        }),
    );
    let mesh = shop_with([entry, rule]);
    for (host, cluster) in [
        ("a.example.com", "outbound|443||a.example.com"),
        ("b.example.com", "outbound|5432||db.shop.svc.cluster.local"),
        ("x.wild.com", "outbound|443||*.wild.com"),
        ("c.example.com", "PassthroughCluster"),
    ] {
        let outcome = ask(&mesh, &connect(host, 443, Protocol::Tls));
        assert_eq!(outcome.cluster(), Some(cluster), "{host}\n{outcome}");
    }
}

#[test]
fn weights_split_connections() {
    let rule = networking(
        "VirtualService",
        "db",
        &json!({"hosts": ["db"], "tcp": [{"route": [
            {"destination": {"host": "db"}, "weight": 25},
            {"destination": {"host": "cache", "port": {"number": 6379}}, "weight": 75},
        ]}]}),
    );
    let mesh = shop_with([rule]);
    let request = connect("db", 5432, Protocol::Tcp);
    assert_eq!(
        ask(&mesh, &request).cluster(),
        Some("outbound|6379||cache.shop.svc.cluster.local")
    );
    let low = navarch_simulate::Request {
        percent: Some(24.0),
        ..request
    };
    assert_eq!(
        ask(&mesh, &low).cluster(),
        Some("outbound|5432||db.shop.svc.cluster.local")
    );
}
