//! Who may, and which rule says so.

use navarch_simulate::{
    Direction, Outcome, Protocol, Request, Sender, Stage, simulate, simulate_received,
};
use navarch_testkit::objects::object;
use navarch_testkit::{TestMesh, TestProxy};
use serde_json::{Value, json};

use crate::cases::{ask, closed, connect, get, response, shop_with};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn policy(name: &str, spec: &Value) -> Value {
    object("security.istio.io/v1", "AuthorizationPolicy", name, spec)
}

fn of_app(app: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": app}});
    spec
}

fn receive(mesh: &TestMesh, request: Request) -> Outcome {
    let request = Request {
        direction: Direction::Inbound,
        host: "reviews:9080".to_owned(),
        address: "10.1.0.2".to_owned(),
        port: 9080,
        ..request
    };
    let proxy = TestProxy::sidecar("reviews", "10.1.0.2");
    simulate(&mesh.resources(&proxy), "shop", &request)
}

/// By mutual TLS, under a name.
fn mutual(principal: &str) -> Request {
    Request {
        protocol: Protocol::Https,
        alpn: vec!["istio-http/1.1".to_owned(), "istio".to_owned()],
        principal: principal.to_owned(),
        source_address: "10.1.0.1".to_owned(),
        ..Request::default()
    }
}

fn at(path: &str, method: &str) -> Request {
    Request {
        path: path.to_owned(),
        method: method.to_owned(),
        ..mutual(WEB)
    }
}

#[test]
fn a_rule_that_allows_is_named_with_what_fits() {
    let rules = json!({"action": "ALLOW", "rules": [{
        "from": [{"source": {"principals": ["cluster.local/ns/shop/sa/web"]}}],
        "to": [{"operation": {"methods": ["GET"], "paths": ["/api/*"]}}],
    }]});
    let mesh = shop_with([policy("callers", &of_app("reviews", rules))]);
    let allowed = receive(&mesh, at("/api/x", ""));
    let step = allowed.step(Stage::Policy).unwrap();
    assert!(allowed.is_delivered(), "{allowed}");
    assert_eq!(step.chosen, "ALLOW: allowed");
    for ground in ["shop/callers rule 0", WEB, "method is `GET`", "`/api/x`"] {
        assert!(step.why.contains(ground), "{ground}: {}", step.why);
    }
    for (request, why) in [
        (
            at("/api/x", "POST"),
            "method is `POST`, wanted: it is `GET`",
        ),
        (
            at("/api", ""),
            "path is `/api`, wanted: begins with `/api/`",
        ),
        (
            mutual("cluster.local/ns/shop/sa/db"),
            "sa/db`, wanted: is `spiffe://",
        ),
    ] {
        let denied = receive(&mesh, request);
        assert_eq!(response(&denied).0, 403, "{denied}");
        assert!(denied.to_string().contains(why), "{why}: {denied}");
    }
    let nobody = receive(&mesh, Request::default());
    assert!(
        nobody.to_string().contains("it speaks plaintext"),
        "{nobody}"
    );
}

#[test]
fn a_rule_that_denies_comes_first_and_excepts() {
    let deny = json!({"action": "DENY", "rules": [{
        "to": [{"operation": {"paths": ["/admin*"]}}],
        "from": [{"source": {"notNamespaces": ["ops"]}}],
    }]});
    let mesh = shop_with([
        policy("admin", &deny),
        policy("all", &json!({"action": "ALLOW", "rules": [{}]})),
    ]);
    let denied = receive(&mesh, at("/x/../admin", ""));
    assert_eq!(response(&denied).0, 403);
    assert!(
        denied.to_string().contains("shop/admin rule 0 fits"),
        "{denied}"
    );
    let ops = Request {
        path: "/admin".to_owned(),
        ..mutual("cluster.local/ns/ops/sa/x")
    };
    let allowed = receive(&mesh, ops);
    assert!(allowed.is_delivered(), "{allowed}");
    assert!(
        allowed
            .to_string()
            .contains("it excepts this: principal is"),
        "{allowed}"
    );
    assert!(receive(&mesh, at("/", "")).is_delivered());
}

#[test]
fn a_policy_without_rules_lets_nobody_in() {
    let mesh = shop_with([policy("nobody", &json!({}))]);
    let denied = receive(&mesh, mutual(WEB));
    assert_eq!(response(&denied).0, 403, "{denied}");
}

#[test]
fn a_dry_run_and_an_audit_only_tell() {
    let mut dry = policy("dry", &json!({"action": "DENY", "rules": [{}]}));
    dry["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    let audit = policy("audit", &json!({"action": "AUDIT", "rules": [{}]}));
    let outcome = receive(&shop_with([dry, audit]), mutual(WEB));
    assert!(outcome.is_delivered(), "{outcome}");
    let told = outcome.to_string();
    assert!(told.contains("dry run of DENY: would be denied"), "{told}");
    assert!(told.contains("AUDIT: marked"), "{told}");
}

#[test]
fn addresses_ports_headers_and_hosts_are_looked_at() {
    let rules = json!({"action": "ALLOW", "rules": [{
        "from": [{"source": {"ipBlocks": ["10.1.0.0/24"], "remoteIpBlocks": ["192.0.2.7"]}}],
        "to": [{"operation": {"ports": ["9080"], "hosts": ["REVIEWS:*"]}}],
        "when": [{"key": "request.headers[x-team]", "notValues": ["red"]}],
    }]});
    let mesh = shop_with([policy("callers", &rules)]);
    let with = |headers: Value, source: &str| {
        let headers: std::collections::BTreeMap<String, String> =
            serde_json::from_value(headers).unwrap();
        receive(
            &mesh,
            Request {
                headers,
                source_address: source.to_owned(),
                ..mutual(WEB)
            },
        )
    };
    let forwarded = "203.0.113.9, 192.0.2.7";
    let allowed = with(json!({"x-forwarded-for": forwarded}), "10.1.0.1");
    assert!(allowed.is_delivered(), "{allowed}");
    for (headers, source, why) in [
        (
            json!({"x-forwarded-for": forwarded}),
            "10.2.0.1",
            "source address is 10.2.0.1",
        ),
        (json!({}), "10.1.0.1", "client address is 10.1.0.1"),
        (
            json!({"x-forwarded-for": forwarded, "x-team": "red"}),
            "10.1.0.1",
            "it excepts this: header x-team is `red`",
        ),
        (
            json!({"x-forwarded-for": forwarded}),
            "",
            "the source address is not told",
        ),
    ] {
        let denied = with(headers, source);
        assert!(denied.to_string().contains(why), "{why}: {denied}");
    }
}

#[test]
fn connections_are_judged_too() {
    let rules = json!({"action": "ALLOW", "rules": [{
        "from": [{"source": {"namespaces": ["shop"]}}],
        "to": [{"operation": {"ports": ["5432"]}}],
    }]});
    let mesh = shop_with([policy("db", &of_app("db", rules))]);
    let database = mesh.resources(&TestProxy::sidecar("db", "10.1.0.4"));
    let request = connect("db", 5432, Protocol::Tcp);
    let web = |namespace: &str| Sender {
        principal: format!("spiffe://cluster.local/ns/{namespace}/sa/web"),
        address: "10.1.0.1".to_owned(),
    };
    let sent = || ask(&mesh, &request);
    let allowed = simulate_received(sent(), (&request, &web("shop")), &database);
    assert!(allowed.is_delivered(), "{allowed}");
    let denied = simulate_received(sent(), (&request, &web("other")), &database);
    let received = denied.received.as_ref().unwrap();
    assert!(
        closed(received).contains("no rule of ALLOW fits"),
        "{denied}"
    );
}

#[test]
fn the_sender_is_known_by_its_certificate_at_the_receiver() {
    let rules = json!({"rules": [{"from": [{"source": {"principals": ["*/sa/web"]}}]}]});
    let mesh = shop_with([policy("web", &of_app("reviews", rules))]);
    let receiver = mesh.resources(&TestProxy::sidecar("reviews", "10.1.0.2"));
    for (principal, is_allowed) in [(WEB, true), ("spiffe://cluster.local/ns/shop/sa/db", false)] {
        let sender = Sender {
            principal: principal.to_owned(),
            ..Sender::default()
        };
        let request = get("/");
        let whole = simulate_received(ask(&mesh, &request), (&request, &sender), &receiver);
        assert_eq!(whole.is_delivered(), is_allowed, "{whole}");
        let received = whole.received.unwrap();
        assert_eq!(received.step(Stage::Peer).unwrap().chosen, principal);
    }
}

#[test]
fn a_certificate_of_another_trust_domain_is_refused() {
    let refused = receive(&shop_with([]), mutual("elsewhere/ns/shop/sa/web"));
    assert!(
        closed(&refused).contains("refuses the client's certificate"),
        "{refused}"
    );
}

#[test]
fn an_authorizer_is_named_and_asked_of_what_fits_alone() {
    let provider = json!({
        "kind": "MeshConfig",
        "extensionProviders": [{
            "name": "guard",
            "envoyExtAuthzGrpc": {"service": "db.shop.svc.cluster.local", "port": 5432},
        }],
    });
    let custom = |name: &str| {
        let rules = json!({"action": "CUSTOM", "provider": {"name": name}, "rules": [
            {"to": [{"operation": {"paths": ["/asked"]}}]},
        ]});
        policy("guarded", &rules)
    };
    let mesh = shop_with([provider, custom("guard")]);
    let asked = receive(&mesh, at("/asked", ""));
    let step = asked.step(Stage::Authorizer).unwrap();
    assert_eq!(step.chosen, "asks outbound|5432||db.shop.svc.cluster.local");
    assert!(asked.is_delivered(), "{asked}");
    let other = receive(&mesh, at("/other", ""));
    assert!(
        other.step(Stage::Authorizer).is_none() && other.is_delivered(),
        "{other}"
    );
    let missing = shop_with([custom("nobody")]);
    assert_eq!(response(&receive(&missing, at("/asked", ""))).0, 403);
    assert!(receive(&missing, at("/other", "")).is_delivered());
}
