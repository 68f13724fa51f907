//! HTTP from a sidecar's workload.

use navarch_simulate::{Landing, Outcome, Request, Stage, simulate};
use navarch_testkit::TestMesh;
use navarch_testkit::objects::{endpoint_slice, networking, pod, service};
use serde_json::{Value, json};

use crate::cases::{ask, client, get, response, reviews, routes, shop_with, subsets, to};

fn forwarded(outcome: &Outcome) -> &navarch_simulate::Forwarded {
    match &outcome.landing {
        Landing::Endpoints {
            request: Some(request),
            ..
        } => request,
        other => panic!("nothing is forwarded: {other:?}"),
    }
}

fn with_header(request: Request, name: &str, value: &str) -> Request {
    let headers = [(name.to_owned(), value.to_owned())].into();
    Request { headers, ..request }
}

#[test]
fn a_plain_request_spreads_over_the_service() {
    let mesh = shop_with([]);
    for host in [
        "reviews",
        "reviews.shop",
        "reviews.shop.svc.cluster.local",
        "10.96.0.2",
    ] {
        let outcome = ask(
            &mesh,
            &Request {
                host: format!("{host}:9080"),
                ..get("/")
            },
        );
        assert_eq!(outcome.cluster(), Some(&*reviews("")), "{host}: {outcome}");
        assert_eq!(outcome.addresses(), ["10.1.0.2:9080", "10.1.0.3:9080"]);
    }
}

#[test]
fn a_canary_splits_by_weight() {
    let mesh = shop_with([
        subsets(),
        routes(&json!([{"route": [
            {"destination": {"host": "reviews", "subset": "v1"}, "weight": 90},
            {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10},
        ]}])),
    ]);
    for (percent, subset, address) in [
        (None, "v1", "10.1.0.2:9080"),
        (Some(89.0), "v1", "10.1.0.2:9080"),
        (Some(90.0), "v2", "10.1.0.3:9080"),
    ] {
        let outcome = ask(
            &mesh,
            &Request {
                percent,
                ..get("/")
            },
        );
        assert_eq!(outcome.cluster(), Some(&*reviews(subset)));
        assert_eq!(outcome.addresses(), [address]);
    }
    let outcome = ask(&mesh, &get("/"));
    let step = outcome.step(Stage::Cluster).unwrap();
    assert_eq!(step.others[0].name, reviews("v2"));
    assert_eq!(step.others[0].why, "10 % of requests");
}

#[test]
fn a_header_match_goes_before_what_follows() {
    let mesh = shop_with([
        subsets(),
        routes(&json!([
            {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": to("v2")},
            {"route": to("v1")},
        ])),
    ]);
    let jason = ask(&mesh, &with_header(get("/"), "End-User", "jason"));
    assert_eq!(jason.cluster(), Some(&*reviews("v2")));
    let other = ask(&mesh, &with_header(get("/"), "end-user", "anna"));
    assert_eq!(other.cluster(), Some(&*reviews("v1")));
    let refused = &other.step(Stage::Route).unwrap().others[0];
    assert_eq!(
        refused.why,
        "header end-user is `anna`, wanted it is `jason`"
    );
}

#[test]
fn paths_methods_and_queries_are_matched() {
    let mesh = shop_with([
        subsets(),
        routes(&json!([
            {"match": [{"uri": {"regex": "/v[0-9]+/.*"}, "method": {"exact": "PUT"}}], "route": to("v2")},
            {"match": [{"queryParams": {"debug": {"exact": "1"}}}], "route": to("v2")},
            {"match": [{"uri": {"exact": "/Exact"}, "ignoreUriCase": true}], "route": to("v2")},
            {"route": to("v1")},
        ])),
    ]);
    for (method, path, subset) in [
        ("PUT", "/v2/x", "v2"),
        ("GET", "/v2/x", "v1"),
        ("PUT", "/vx/x", "v1"),
        ("GET", "/?a=b&debug=1", "v2"),
        ("GET", "/?debug=11", "v1"),
        ("GET", "/eXACT?x", "v2"),
    ] {
        let request = Request {
            method: method.to_owned(),
            ..get(path)
        };
        assert_eq!(
            ask(&mesh, &request).cluster(),
            Some(&*reviews(subset)),
            "{method} {path}"
        );
    }
}

#[test]
fn a_redirect_tells_its_location() {
    let mesh = shop_with([routes(&json!([
        {"match": [{"uri": {"prefix": "/old"}}],
         "redirect": {"uri": "/new", "authority": "shop.example.com", "scheme": "https", "redirectCode": 302}},
        {"route": to("")},
    ]))]);
    let outcome = ask(&mesh, &get("/old/x?a=1"));
    assert_eq!(
        response(&outcome),
        (302, "https://shop.example.com/new?a=1")
    );
    assert!(!outcome.is_delivered());
}

#[test]
fn rewrites_timeouts_and_retries_are_told() {
    let mesh = shop_with([routes(&json!([{
        "match": [{"uri": {"prefix": "/api/"}}],
        "rewrite": {"uri": "/", "authority": "r.example.com"},
        "timeout": "2s", "retries": {"attempts": 3, "perTryTimeout": "0.5s", "retryOn": "5xx"},
        "headers": {"request": {"set": {"x-a": "1"}, "remove": ["x-b"]}},
        "mirror": {"host": "web", "port": {"number": 80}},
        "route": to(""),
    }]))]);
    let outcome = ask(&mesh, &get("/api/x?q=1"));
    let request = forwarded(&outcome);
    assert_eq!(
        (request.authority.as_str(), request.path.as_str()),
        ("r.example.com", "/x?q=1")
    );
    assert_eq!(request.timeout_seconds, Some(2.0));
    assert_eq!(request.retries.as_deref(), Some("3 on 5xx, 0.5 s each"));
    assert_eq!(
        request.mirrors,
        ["outbound|80||web.shop.svc.cluster.local (100 %)"]
    );
    assert_eq!(request.header_changes, ["+x-a: 1", "-x-b"]);
}

#[test]
fn faults_abort_and_delay() {
    let fault = |fault: Value| shop_with([routes(&json!([{"fault": fault, "route": to("")}]))]);
    let abort = fault(json!({"abort": {"httpStatus": 418, "percentage": {"value": 30}}}));
    let hit = ask(
        &abort,
        &Request {
            percent: Some(29.0),
            ..get("/")
        },
    );
    assert_eq!(response(&hit).0, 418);
    assert!(
        ask(
            &abort,
            &Request {
                percent: Some(30.0),
                ..get("/")
            }
        )
        .is_delivered()
    );
    assert!(ask(&abort, &get("/")).is_delivered());
    let delay = fault(json!({"delay": {"fixedDelay": "5s", "percentage": {"value": 100}}}));
    assert_eq!(forwarded(&ask(&delay, &get("/"))).delay_seconds, Some(5.0));
}

#[test]
fn a_direct_response_needs_no_endpoint() {
    let mesh = shop_with([routes(
        &json!([{"directResponse": {"status": 503, "body": {"string": "later"}}}]),
    )]);
    let outcome = ask(&mesh, &get("/"));
    assert!(
        matches!(&outcome.landing, Landing::Response { status: 503, body: Some(body), .. } if body == "later")
    );
}

#[test]
fn a_subset_that_no_rule_has_is_an_answer_of_the_proxy() {
    let mesh = shop_with([subsets(), routes(&json!([{"route": to("v3")}]))]);
    let outcome = ask(&mesh, &get("/"));
    let Landing::Response {
        status,
        is_configured: false,
        why,
        ..
    } = &outcome.landing
    else {
        panic!("{outcome}");
    };
    assert!(*status == 503 || *status == 500, "{status}");
    assert!(why.contains("v3"), "{why}");
}

#[test]
fn a_subset_without_endpoints_is_unavailable() {
    let rule = json!({"host": "reviews", "subsets": [{"name": "v9", "labels": {"version": "v9"}}]});
    let mesh = shop_with([
        networking("DestinationRule", "reviews", &rule),
        routes(&json!([{"route": to("v9")}])),
    ]);
    let outcome = ask(&mesh, &get("/"));
    assert_eq!(response(&outcome).0, 503);
    assert!(
        outcome.to_string().contains("has no endpoints"),
        "{outcome}"
    );
}

fn entry(host: &str) -> Value {
    networking(
        "ServiceEntry",
        &host.replace(['*', '.'], "x"),
        &json!({
            "hosts": [host], "location": "MESH_EXTERNAL", "resolution": if host.starts_with('*') { "NONE" } else { "DNS" },
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        }),
    )
}

fn url(host: &str) -> Request {
    Request {
        host: host.to_owned(),
        ..Request::default()
    }
}

#[test]
fn wildcard_hosts_give_way_to_exact_ones() {
    let mesh = shop_with([entry("*.example.com"), entry("a.example.com")]);
    let exact = ask(&mesh, &url("a.example.com"));
    assert_eq!(exact.cluster(), Some("outbound|80||a.example.com"));
    let other = ask(&mesh, &url("b.example.com"));
    assert_eq!(other.cluster(), Some("outbound|80||*.example.com"));
    assert_eq!(other.addresses(), ["b.example.com:80"]);
}

#[test]
fn unknown_hosts_pass_or_end_by_policy() {
    let passed = ask(&shop_with([]), &url("elsewhere.org"));
    assert_eq!(passed.cluster(), Some("PassthroughCluster"));
    assert_eq!(passed.addresses(), ["elsewhere.org:80"]);
    let strict = json!({"kind": "MeshConfig", "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
    let ended = ask(&shop_with([strict]), &url("elsewhere.org"));
    assert_eq!(response(&ended).0, 502);
}

#[test]
fn the_text_tells_the_way() {
    let text = ask(&shop_with([]), &get("/")).to_string();
    for part in [
        "listener",
        "10.96.0.2",
        "virtual host",
        "route 0",
        "=> lands on cluster",
        "50 %  10.1.0.2:9080",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn localities_fail_over_in_the_order_that_a_rule_tells() {
    let slice = |zone: &str, ip: &str, is_ready: bool| {
        let mut slice = endpoint_slice("prices", &[("http", 9080)], &[ip]);
        slice["metadata"]["name"] = json!(format!("prices-{zone}"));
        slice["endpoints"][0]["zone"] = json!(zone);
        slice["endpoints"][0]["conditions"]["ready"] = json!(is_ready);
        slice
    };
    let node = |zone: &str| {
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": zone, "labels": {
            "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": zone}}})
    };
    let pod_in = |name: &str, ip: &str, zone: &str| {
        let mut made = pod(name, ip, "prices", "v1");
        made["spec"]["nodeName"] = json!(zone);
        made
    };
    let rule = json!({"host": "prices", "trafficPolicy": {
        "outlierDetection": {"consecutive5xxErrors": 3},
        "loadBalancer": {"localityLbSetting": {"enabled": true}},
    }});
    let objects = |is_near_ready: bool| {
        shop_with([
            service("prices", "10.96.0.20", &[("http", 9080, 9080)]),
            node("near"),
            node("far"),
            pod_in("prices-1", "10.1.0.21", "near"),
            pod_in("prices-2", "10.1.0.22", "far"),
            slice("near", "10.1.0.21", is_near_ready),
            slice("far", "10.1.0.22", true),
            networking("DestinationRule", "prices", &rule),
        ])
    };
    let request = Request {
        host: "prices:9080".to_owned(),
        ..Request::default()
    };
    let asked = |mesh: &TestMesh| {
        let near = client().with_locality("r", "near");
        simulate(&mesh.resources(&near), "shop", &request)
    };
    assert_eq!(asked(&objects(true)).addresses(), ["10.1.0.21:9080"]);
    assert_eq!(asked(&objects(false)).addresses(), ["10.1.0.22:9080"]);
}

#[test]
fn a_stock_envoy_lands_on_the_same_endpoints() {
    let mesh = shop_with([subsets(), routes(&json!([{"route": to("v2")}]))]);
    let stock = client().without_metadata("ISTIO_VERSION");
    let outcome = simulate(&mesh.resources(&stock), "shop", &get("/"));
    assert_eq!(outcome.addresses(), ["10.1.0.3:9080"]);
    let Landing::Endpoints { endpoints, .. } = &outcome.landing else {
        panic!("{outcome}");
    };
    assert!(!endpoints[0].transport.is_tls, "{outcome}");
}

#[test]
fn tls_is_originated_where_a_rule_says_so() {
    let rule = json!({"host": "a.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE", "sni": "b.example.com"}}});
    let mesh = shop_with([
        entry("a.example.com"),
        networking("DestinationRule", "a", &rule),
    ]);
    let outcome = ask(&mesh, &url("a.example.com"));
    let Landing::Endpoints { endpoints, .. } = &outcome.landing else {
        panic!("{outcome}");
    };
    let transport = &endpoints[0].transport;
    assert!(transport.is_tls && !transport.has_certificate, "{outcome}");
    assert_eq!(transport.sni, "b.example.com");
}

#[test]
fn without_interception_the_sidecar_is_connected_to_itself() {
    let mesh = shop_with([]);
    let proxy = client().with_metadata("INTERCEPTION_MODE", json!("NONE"));
    let resources = mesh.resources(&proxy);
    let request = Request {
        is_captured: false,
        ..get("/")
    };
    let outcome = simulate(&resources, "shop", &request);
    assert_eq!(outcome.cluster(), Some(&*reviews("")), "{outcome}");
    let elsewhere = simulate(
        &resources,
        "shop",
        &Request {
            port: 4444,
            ..request
        },
    );
    assert!(matches!(elsewhere.landing, Landing::Closed { .. }));
}
