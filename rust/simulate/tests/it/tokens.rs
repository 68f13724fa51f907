//! What tokens do to a request.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use navarch_simulate::{Direction, Landing, Outcome, Request, Stage, simulate};
use navarch_testkit::objects::object;
use navarch_testkit::{TestMesh, TestProxy};
use serde_json::{Value, json};

use crate::cases::{response, shop_with};

const KEYS: &str = r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#;
const NOW: f64 = 1_000_000.0;

fn rule(name: &str, rules: &Value) -> Value {
    let spec = json!({"jwtRules": rules});
    object("security.istio.io/v1", "RequestAuthentication", name, &spec)
}

fn issuer(name: &str) -> Value {
    json!({"issuer": name, "jwks": KEYS, "audiences": ["shop"]})
}

fn claims(changes: &Value) -> Value {
    let mut made = json!({"iss": "a", "sub": "anna", "aud": "shop", "exp": NOW + 600.0});
    for (key, value) in changes.as_object().unwrap() {
        made[key] = value.clone();
    }
    made
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

fn bearing(text: &str) -> Request {
    let headers = BTreeMap::from([("authorization".to_owned(), format!("Bearer {text}"))]);
    Request {
        headers,
        ..Request::default()
    }
}

fn receive(mesh: &TestMesh, request: Request) -> Outcome {
    let request = Request {
        direction: Direction::Inbound,
        host: "reviews:9080".to_owned(),
        address: "10.1.0.2".to_owned(),
        port: 9080,
        now_seconds: Some(NOW),
        ..request
    };
    let proxy = TestProxy::sidecar("reviews", "10.1.0.2");
    simulate(&mesh.resources(&proxy), "shop", &request)
}

#[test]
fn a_token_must_be_valid_and_none_need_be_there() {
    let mesh = shop_with([rule("tokens", &json!([issuer("a")]))]);
    let good = receive(&mesh, bearing(&token(&claims(&json!({})))));
    assert!(good.is_delivered(), "{good}");
    assert_eq!(good.step(Stage::Token).unwrap().chosen, "a/anna");
    let none = receive(&mesh, Request::default());
    assert!(none.is_delivered(), "{none}");
    for (changes, status, why) in [
        (json!({"exp": NOW - 600.0}), 401, "expired"),
        (json!({"nbf": NOW + 600.0}), 401, "not valid yet"),
        (json!({"iss": "b"}), 401, "tokens of `b` are not taken"),
        (json!({"aud": ["other"]}), 403, "audience is [\"other\"]"),
    ] {
        let refused = receive(&mesh, bearing(&token(&claims(&changes))));
        assert_eq!(response(&refused).0, status, "{refused}");
        assert!(refused.to_string().contains(why), "{why}: {refused}");
    }
    let unreadable = receive(&mesh, bearing("a.b"));
    assert_eq!(response(&unreadable).0, 401, "{unreadable}");
}

#[test]
fn of_several_issuers_one_is_enough() {
    let mesh = shop_with([
        rule("one", &json!([issuer("a")])),
        rule("two", &json!([issuer("b")])),
    ]);
    for (iss, is_taken) in [("a", true), ("b", true), ("c", false)] {
        let outcome = receive(&mesh, bearing(&token(&claims(&json!({"iss": iss})))));
        assert_eq!(outcome.is_delivered(), is_taken, "{iss}: {outcome}");
    }
    assert!(receive(&mesh, Request::default()).is_delivered());
}

#[test]
fn rules_see_who_a_token_is_for() {
    let allow = json!({"rules": [{
        "from": [{"source": {"requestPrincipals": ["a/anna"]}}],
        "when": [{"key": "request.auth.claims[scope]", "values": ["write"]}],
    }]});
    let mesh = shop_with([
        rule("tokens", &json!([issuer("a")])),
        object(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "anna",
            &allow,
        ),
    ]);
    let with = |changes: Value| {
        let described = claims(&changes).as_object().unwrap().clone();
        receive(
            &mesh,
            Request {
                claims: described,
                ..Request::default()
            },
        )
    };
    let allowed = with(json!({"scope": "read write"}));
    assert!(allowed.is_delivered(), "{allowed}");
    let denied = with(json!({"scope": "read"}));
    assert!(
        denied.to_string().contains("claim scope is [\"read\"]"),
        "{denied}"
    );
    assert_eq!(
        response(&with(json!({"sub": "otto", "scope": "write"}))).0,
        403
    );
    assert_eq!(response(&receive(&mesh, Request::default())).0, 403);
}

#[test]
fn what_a_token_claims_goes_into_headers_that_nobody_else_may_set() {
    let mut told = issuer("a");
    told["outputClaimToHeaders"] = json!([{"header": "x-user", "claim": "sub"}]);
    let mesh = shop_with([rule("tokens", &json!([told]))]);
    let forged = |mut request: Request| {
        request
            .headers
            .insert("x-user".to_owned(), "root".to_owned());
        let outcome = receive(&mesh, request);
        let Landing::Endpoints {
            request: Some(forwarded),
            ..
        } = outcome.landing
        else {
            panic!("{outcome}");
        };
        (
            forwarded.headers.get("x-user").cloned(),
            forwarded.headers.contains_key("authorization"),
        )
    };
    let bearer = bearing(&token(&claims(&json!({}))));
    assert_eq!(forged(bearer), (Some("anna".to_owned()), false));
    assert_eq!(forged(Request::default()), (None, false));
}

#[test]
fn keys_that_a_server_fetches_are_taken_to_be_there() {
    let by_address = json!([{"issuer": "a", "jwksUri": "https://a.example/keys"}]);
    let mesh = shop_with([rule("tokens", &by_address)]);
    let outcome = receive(&mesh, bearing(&token(&claims(&json!({})))));
    let notes = &outcome.step(Stage::Token).unwrap().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("keys of a are fetched")),
        "{notes:?}"
    );
}
