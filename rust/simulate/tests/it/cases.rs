//! The mesh that the tests share, and how they ask.

use navarch_simulate::{Landing, Outcome, Protocol, Request, simulate};
use navarch_testkit::objects::{endpoint_slice, networking, pod, service};
use navarch_testkit::{TestMesh, TestProxy};
use serde_json::{Value, json};

/// The client's sidecar.
pub(crate) fn client() -> TestProxy {
    TestProxy::sidecar("web", "10.1.0.1")
}

/// `reviews` in two versions, `web`, a database by TCP, and a headless service.
pub(crate) fn shop() -> Vec<Value> {
    vec![
        service("web", "10.96.0.1", &[("http", 80, 8080)]),
        endpoint_slice("web", &[("http", 8080)], &["10.1.0.1"]),
        pod("web-1", "10.1.0.1", "web", "v1"),
        service("reviews", "10.96.0.2", &[("http", 9080, 9080)]),
        endpoint_slice("reviews", &[("http", 9080)], &["10.1.0.2", "10.1.0.3"]),
        pod("reviews-1", "10.1.0.2", "reviews", "v1"),
        pod("reviews-2", "10.1.0.3", "reviews", "v2"),
        service("db", "10.96.0.3", &[("tcp", 5432, 5432)]),
        endpoint_slice("db", &[("tcp", 5432)], &["10.1.0.4"]),
        pod("db-1", "10.1.0.4", "db", "v1"),
        service("cache", "None", &[("tcp-redis", 6379, 6379)]),
        endpoint_slice("cache", &[("tcp-redis", 6379)], &["10.1.0.5", "10.1.0.6"]),
    ]
}

/// The shop with more objects.
pub(crate) fn shop_with(more: impl IntoIterator<Item = Value>) -> TestMesh {
    TestMesh::new(shop().into_iter().chain(more))
}

/// A DestinationRule with the subsets v1 and v2 of `reviews`.
pub(crate) fn subsets() -> Value {
    networking(
        "DestinationRule",
        "reviews",
        &json!({
            "host": "reviews",
            "subsets": [
                {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}},
            ],
        }),
    )
}

/// A VirtualService of `reviews` with HTTP routes.
pub(crate) fn routes(http: &Value) -> Value {
    networking(
        "VirtualService",
        "reviews",
        &json!({"hosts": ["reviews"], "http": http}),
    )
}

/// A route to `reviews` or a subset of it.
pub(crate) fn to(subset: &str) -> Value {
    match subset {
        "" => json!([{"destination": {"host": "reviews"}}]),
        subset => json!([{"destination": {"host": "reviews", "subset": subset}}]),
    }
}

/// `GET http://reviews:9080<path>`.
pub(crate) fn get(path: &str) -> Request {
    Request {
        host: "reviews:9080".to_owned(),
        path: path.to_owned(),
        ..Request::default()
    }
}

/// A connection that is not HTTP.
pub(crate) fn connect(host: &str, port: u32, protocol: Protocol) -> Request {
    Request {
        protocol,
        host: host.to_owned(),
        port,
        ..Request::default()
    }
}

/// Ask from the client's sidecar.
pub(crate) fn ask(mesh: &TestMesh, request: &Request) -> Outcome {
    simulate(&mesh.resources(&client()), "shop", request)
}

/// The status of an answer of the proxy itself, and its location.
pub(crate) fn response(outcome: &Outcome) -> (u32, &str) {
    match &outcome.landing {
        Landing::Response {
            status, location, ..
        } => (*status, location.as_deref().unwrap_or_default()),
        other => panic!("no response: {other:?}"),
    }
}

/// Why the connection is closed.
pub(crate) fn closed(outcome: &Outcome) -> &str {
    match &outcome.landing {
        Landing::Closed { why } => why,
        other => panic!("not closed: {other:?}"),
    }
}

/// The cluster of `reviews` or a subset of it.
pub(crate) fn reviews(subset: &str) -> String {
    format!("outbound|9080|{subset}|reviews.shop.svc.cluster.local")
}
