//! What a sidecar lets in, in the three modes of mutual TLS.

use navarch_simulate::{
    Direction, Landing, Outcome, Protocol, Request, Sender, Stage, simulate, simulate_received,
};
use navarch_testkit::objects::object;
use navarch_testkit::{TestMesh, TestProxy};
use serde_json::{Value, json};

use crate::cases::{ask, closed, get, shop_with};

fn mode(mode: &str) -> Value {
    object(
        "security.istio.io/v1",
        "PeerAuthentication",
        "default",
        &json!({"mtls": {"mode": mode}}),
    )
}

fn reviews_sidecar() -> TestProxy {
    TestProxy::sidecar("reviews", "10.1.0.2")
}

fn receive(mesh: &TestMesh, request: Request) -> Outcome {
    let request = Request {
        direction: Direction::Inbound,
        host: "reviews:9080".to_owned(),
        address: "10.1.0.2".to_owned(),
        port: 9080,
        ..request
    };
    simulate(&mesh.resources(&reviews_sidecar()), "shop", &request)
}

fn plain() -> Request {
    Request::default()
}

fn mutual() -> Request {
    Request {
        protocol: Protocol::Https,
        alpn: vec!["istio-http/1.1".to_owned(), "istio".to_owned()],
        has_certificate: true,
        ..Request::default()
    }
}

#[test]
fn permissive_takes_both() {
    let mesh = shop_with([mode("PERMISSIVE")]);
    for request in [plain(), mutual()] {
        let outcome = receive(&mesh, request);
        assert_eq!(outcome.cluster(), Some("inbound|9080||"), "{outcome}");
        assert_eq!(outcome.addresses(), ["10.1.0.2:9080"]);
    }
}

#[test]
fn strict_takes_mutual_tls_only() {
    let mesh = shop_with([mode("STRICT")]);
    assert!(receive(&mesh, mutual()).is_delivered());
    let refused = receive(&mesh, plain());
    assert!(
        closed(&refused).contains("transport protocol is not tls"),
        "{refused}"
    );
    let without = receive(
        &mesh,
        Request {
            has_certificate: false,
            ..mutual()
        },
    );
    assert!(closed(&without).contains("client certificate"), "{without}");
}

#[test]
fn disabled_takes_plaintext_and_does_not_look_into_tls() {
    let mesh = shop_with([mode("DISABLE")]);
    assert!(receive(&mesh, plain()).is_delivered());
    let tls = receive(&mesh, mutual());
    let chain = tls.step(Stage::FilterChain);
    assert!(
        !tls.is_delivered() || chain.is_some_and(|c| !c.why.contains("istio")),
        "{tls}"
    );
}

#[test]
fn undeclared_ports_pass_to_the_workload() {
    let mesh = shop_with([]);
    let request = Request {
        protocol: Protocol::Tcp,
        ..Request::default()
    };
    let request = Request {
        direction: Direction::Inbound,
        address: "10.1.0.2".to_owned(),
        port: 1234,
        ..request
    };
    let outcome = simulate(&mesh.resources(&reviews_sidecar()), "shop", &request);
    assert_eq!(
        outcome.cluster(),
        Some("InboundPassthroughCluster"),
        "{outcome}"
    );
    assert_eq!(outcome.addresses(), ["10.1.0.2:1234"]);
}

#[test]
fn a_request_goes_on_through_the_receiving_sidecar() {
    let mesh = shop_with([mode("STRICT")]);
    let request = get("/");
    let sent = ask(&mesh, &request);
    let whole = simulate_received(
        sent,
        (&request, &Sender::default()),
        &mesh.resources(&reviews_sidecar()),
    );
    assert!(whole.is_delivered(), "{whole}");
    let received = whole.received.unwrap();
    let Landing::Endpoints {
        request: Some(forwarded),
        ..
    } = &received.landing
    else {
        panic!("{received}");
    };
    assert_eq!(forwarded.authority, "reviews:9080");
    assert_eq!(received.cluster(), Some("inbound|9080||"));
}

#[test]
fn a_client_that_disables_tls_is_refused_by_a_strict_receiver() {
    let rule = navarch_testkit::objects::networking(
        "DestinationRule",
        "reviews",
        &json!({"host": "reviews", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
    );
    let mesh = shop_with([mode("STRICT"), rule]);
    let request = get("/");
    let whole = simulate_received(
        ask(&mesh, &request),
        (&request, &Sender::default()),
        &mesh.resources(&reviews_sidecar()),
    );
    assert!(!whole.is_delivered(), "{whole}");
}
