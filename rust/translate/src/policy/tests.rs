//! Policies in their written form, and the filters that they become.

use navarch_envoy::any::unpack;
use navarch_envoy::envoy::config::listener::v3::filter::ConfigType as TcpConfig;
use navarch_envoy::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use navarch_envoy::envoy::extensions::filters::http::rbac::v3::Rbac;
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use navarch_envoy::envoy::extensions::filters::network::rbac::v3::Rbac as TcpRbac;
use navarch_envoy::json::message_to_json;
use navarch_model::{ConfigKey, Kind, Labels};
use navarch_snapshot::{Change, MeshOptions, MeshStore};

use super::PolicyFacts;

fn change(kind: Kind, payload: &str) -> Change {
    Change {
        key: ConfigKey::new(kind, "shop", "p"),
        payload: Some(payload.as_bytes().to_vec()),
    }
}

fn policy(spec: &str) -> Change {
    let payload =
        format!(r#"{{"metadata": {{"namespace": "shop", "name": "p"}}, "spec": {spec}}}"#);
    change(Kind::AuthorizationPolicy, &payload)
}

fn facts(changes: Vec<Change>) -> PolicyFacts {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(changes);
    assert_eq!(store.undecodable().count(), 0);
    PolicyFacts::new(&store.snapshot(), "shop", &Labels::new(), false)
}

/// The one filter of requests for one policy, as JSON.
fn http(spec: &str) -> String {
    let filters = facts(vec![policy(spec)]).authorization_http();
    let [filter] = filters.as_slice() else {
        panic!("{} filters", filters.len());
    };
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => {
            message_to_json(&unpack::<Rbac>(any).unwrap()).to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// The one filter of connections for one policy, as JSON.
fn tcp(spec: &str) -> String {
    let filters = facts(vec![policy(spec)]).tcp();
    let [filter] = filters.as_slice() else {
        panic!("{} filters", filters.len());
    };
    match &filter.config_type {
        Some(TcpConfig::TypedConfig(any)) => {
            message_to_json(&unpack::<TcpRbac>(any).unwrap()).to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn source(fields: &str) -> String {
    http(&format!(
        r#"{{"rules": [{{"from": [{{"source": {{{fields}}}}}]}}]}}"#
    ))
}

fn operation(fields: &str) -> String {
    http(&format!(
        r#"{{"rules": [{{"to": [{{"operation": {{{fields}}}}}]}}]}}"#
    ))
}

fn when(fields: &str) -> String {
    http(&format!(r#"{{"rules": [{{"when": [{{{fields}}}]}}]}}"#))
}

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part} is not in {text}");
}

#[test]
fn every_field_of_a_source_becomes_a_principal() {
    for (fields, part) in [
        (
            r#""principals": ["td/ns/a/sa/b"]"#,
            r#""exact":"spiffe://td/ns/a/sa/b""#,
        ),
        (
            r#""principals": ["td/ns/a/*"]"#,
            r#""prefix":"spiffe://td/ns/a/""#,
        ),
        (
            r#""principals": ["*/sa/b.c"]"#,
            r#""regex":"spiffe://.*/sa/b\\.c""#,
        ),
        (r#""principals": ["*"]"#, r#""regex":".+""#),
        (
            r#""namespaces": ["team-*"]"#,
            r#""regex":".*/ns/team-.*/.*""#,
        ),
        (
            r#""serviceAccounts": ["web"]"#,
            r#""regex":"spiffe://.+/ns/shop/(.+/|)sa/web(/.+)?""#,
        ),
        (
            r#""serviceAccounts": ["b/a.i"]"#,
            r#""regex":"spiffe://.+/ns/b/(.+/|)sa/a\\.i(/.+)?""#,
        ),
        (
            r#""trustDomains": ["td.x"]"#,
            r#""prefix":"spiffe://td.x/""#,
        ),
        (
            r#""trustDomains": ["td.*"]"#,
            r#""regex":"spiffe://td\\.[^/]*/.*""#,
        ),
        (
            r#""ipBlocks": ["10.0.0.0/8"]"#,
            r#""direct_remote_ip":{"address_prefix":"10.0.0.0","prefix_len":8}"#,
        ),
        (
            r#""remoteIpBlocks": ["::1"]"#,
            r#""remote_ip":{"address_prefix":"::1","prefix_len":128}"#,
        ),
    ] {
        let text = source(fields);
        assert_has(&text, part);
        assert!(!text.contains("not_id"), "{text}");
        let name = fields.split('"').nth(1).unwrap();
        let not = format!("not{}{}", name[..1].to_uppercase(), &name[1..]);
        let text = source(&fields.replacen(name, &not, 1));
        assert_has(&text, "not_id");
        assert_has(&text, part);
    }
}

#[test]
fn request_principals_are_parted_at_the_last_slash() {
    for (value, issuer, subject) in [
        (
            "https://a/b/sub",
            r#""exact":"https://a/b""#,
            r#""exact":"sub""#,
        ),
        ("a/*", r#""exact":"a""#, r#""regex":".+""#),
        ("*/sub", r#""regex":".+""#, r#""exact":"sub""#),
        ("*.com/sub", r#""suffix":".com""#, r#""exact":"sub""#),
        ("a/su*", r#""exact":"a""#, r#""prefix":"su""#),
        ("*", r#""regex":".+""#, r#""regex":".+""#),
    ] {
        let text = source(&format!(r#""requestPrincipals": ["{value}"]"#));
        let (iss, sub) = text.split_once(r#"{"key":"sub"}"#).unwrap();
        assert_has(iss, r#"[{"key":"payload"},{"key":"iss"}]"#);
        assert_has(iss, issuer);
        assert_has(sub, subject);
    }
}

#[test]
fn every_field_of_an_operation_becomes_a_permission() {
    for (fields, part) in [
        (
            r#""hosts": ["A.com"]"#,
            r#"":authority","string_match":{"exact":"A.com","ignore_case":true}"#,
        ),
        (
            r#""hosts": ["*"]"#,
            r#""name":":authority","present_match":true"#,
        ),
        (
            r#""methods": ["GET"]"#,
            r#""name":":method","string_match":{"exact":"GET"}"#,
        ),
        (
            r#""paths": ["/a*"]"#,
            r#""url_path":{"path":{"prefix":"/a"}}"#,
        ),
        (
            r#""paths": ["*.php"]"#,
            r#""url_path":{"path":{"suffix":".php"}}"#,
        ),
        (
            r#""paths": ["/a/{*}/{**}"]"#,
            r#""path_template":"/a/*/**""#,
        ),
        (r#""ports": ["80"]"#, r#""destination_port":80"#),
    ] {
        let text = operation(fields);
        assert_has(&text, part);
        let name = fields.split('"').nth(1).unwrap();
        let not = format!("not{}{}", name[..1].to_uppercase(), &name[1..]);
        assert_has(&operation(&fields.replacen(name, &not, 1)), "not_rule");
    }
}

#[test]
fn every_key_of_a_condition_is_looked_at() {
    for (key, value, part) in [
        (
            "request.headers[X-A]",
            "v*",
            r#""header":{"name":"X-A","string_match":{"prefix":"v"}}"#,
        ),
        ("source.ip", "10.1.2.3", r#""direct_remote_ip""#),
        ("remote.ip", "10.1.2.3", r#""remote_ip""#),
        ("source.namespace", "a", r#"".*/ns/a/.*""#),
        (
            "source.principal",
            "td/ns/a/sa/b",
            r#""exact":"spiffe://td/ns/a/sa/b""#,
        ),
        ("source.serviceAccount", "a/b", "/ns/a/(.+/|)sa/b"),
        ("source.trustDomain", "td", r#""prefix":"spiffe://td/""#),
        ("request.auth.principal", "a/b", r#"{"key":"sub"}"#),
        ("request.auth.audiences", "a", r#"{"key":"aud"}"#),
        ("request.auth.presenter", "a", r#"{"key":"azp"}"#),
        (
            "request.auth.claims[a][b]",
            "v",
            r#"[{"key":"payload"},{"key":"a"},{"key":"b"}]"#,
        ),
        ("destination.ip", "10.0.0.0/8", r#""destination_ip""#),
        ("destination.port", "80", r#""destination_port":80"#),
        (
            "connection.sni",
            "a.b",
            r#""requested_server_name":{"exact":"a.b"}"#,
        ),
        (
            "experimental.envoy.filters.a.b[c]",
            "[d]",
            r#"{"filter":"envoy.filters.a.b","path":[{"key":"c"}],"value":{"list_match""#,
        ),
    ] {
        assert_has(
            &when(&format!(r#""key": "{key}", "values": ["{value}"]"#)),
            part,
        );
        let not = when(&format!(r#""key": "{key}", "notValues": ["{value}"]"#));
        assert_has(&not, part);
        assert!(not.contains("not_id") || not.contains("not_rule"), "{not}");
    }
}

#[test]
fn a_claim_is_a_value_or_a_list_with_it() {
    let text = when(r#""key": "request.auth.claims[g]", "values": ["a", "b"]"#);
    let values = r#"{"or_match":{"value_matchers":[{"string_match":{"exact":"a"}},{"string_match":{"exact":"b"}}]}}"#;
    assert_has(
        &text,
        &format!(r#"{{"list_match":{{"one_of":{values}}}}},{values}"#),
    );
}

#[test]
fn a_policy_without_rules_fits_nothing_and_an_empty_rule_everything() {
    assert_has(&http("{}"), r#""not_rule":{"any":true}"#);
    assert_has(&http("{}"), r#""not_id":{"any":true}"#);
    let all = http(r#"{"rules": [{}]}"#);
    assert_has(&all, r#""and_rules":{"rules":[{"any":true}]}"#);
    assert_has(&all, r#""and_ids":{"ids":[{"any":true}]}"#);
}

#[test]
fn on_connections_what_allows_by_http_is_void_and_what_denies_by_it_is_wider() {
    let rules = r#""rules": [{"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]}]"#;
    assert_has(
        &tcp(&format!(r#"{{"action": "ALLOW", {rules}}}"#)),
        r#""rules":{}"#,
    );
    let deny = tcp(&format!(r#"{{"action": "DENY", {rules}}}"#));
    assert_has(&deny, r#""destination_port":80"#);
    assert!(!deny.contains("method"), "{deny}");
    for fields in [
        r#""from": [{"source": {"requestPrincipals": ["*"]}}]"#,
        r#""when": [{"key": "request.headers[a]", "values": ["b"]}]"#,
        r#""when": [{"key": "request.auth.claims[a]", "notValues": ["b"]}]"#,
    ] {
        let of = |action| {
            tcp(&format!(
                r#"{{"action": "{action}", "rules": [{{{fields}}}]}}"#
            ))
        };
        assert_has(&of("ALLOW"), r#""rules":{}"#);
        assert_has(&of("DENY"), r#""and_ids":{"ids":[{"any":true}]}"#);
    }
}

#[test]
fn a_dry_run_only_tells() {
    let dry = |action: &str| {
        let payload = format!(
            r#"{{"metadata": {{"namespace": "shop", "name": "p", "annotations": {{"istio.io/dry-run": "true"}}}},
                "spec": {{"action": "{action}", "rules": [{{}}]}}}}"#
        );
        let filters = facts(vec![change(Kind::AuthorizationPolicy, &payload)]).authorization_http();
        let Some(ConfigType::TypedConfig(any)) = &filters[0].config_type else {
            panic!("no configuration")
        };
        let rbac = unpack::<Rbac>(any).unwrap();
        assert!(rbac.rules.is_none());
        rbac.shadow_rules_stat_prefix
    };
    assert_eq!(dry("ALLOW"), "istio_dry_run_allow_");
    assert_eq!(dry("DENY"), "istio_dry_run_deny_");
}

const AUTHZ: &str = r#"{"metadata": {"namespace": "shop", "name": "authz"}, "spec": {"clusterIP": "10.96.0.9",
    "ports": [{"name": "http", "port": 8000}]}}"#;

fn custom(provider: &str, providers: &str) -> PolicyFacts {
    let mesh = format!(r#"{{"extensionProviders": [{providers}]}}"#);
    let mut service = change(Kind::Service, AUTHZ);
    service.key = ConfigKey::new(Kind::Service, "shop", "authz");
    let mut config = change(Kind::MeshConfig, &mesh);
    config.key = ConfigKey::new(Kind::MeshConfig, "", "mesh");
    facts(vec![
        config,
        service,
        policy(&format!(
            r#"{{"action": "CUSTOM", "provider": {{"name": "{provider}"}}, "rules": [{{}}]}}"#
        )),
    ])
}

#[test]
fn a_custom_policy_asks_its_provider_and_refuses_where_it_cant() {
    let http = r#"{"name": "a", "envoyExtAuthzHttp": {"service": "authz.shop.svc.cluster.local", "port": 8000}}"#;
    let grpc = http.replace("Http", "Grpc");
    let asked = custom("a", http);
    let names = |facts: &PolicyFacts| -> Vec<String> {
        let filters = facts.custom_http().into_iter();
        filters.map(|filter| filter.name).collect()
    };
    assert_eq!(
        names(&asked),
        ["envoy.filters.http.rbac", "envoy.filters.http.ext_authz"]
    );
    assert_eq!(asked.tcp().len(), 0);
    assert_eq!(custom("a", &grpc).tcp().len(), 2);
    assert!(asked.diagnostics().is_empty());
    for (provider, providers) in [
        ("b", http.to_owned()),
        ("a", http.replace("authz.shop", "nobody")),
        (
            "a",
            http.replace("8000", r#"8000, "statusOnError": "299x""#),
        ),
        ("a", http.replace("8000", r#"8000, "pathPrefix": "x""#)),
        ("a", r#"{"name": "a"}"#.to_owned()),
    ] {
        let refused = custom(provider, &providers);
        assert_eq!(names(&refused), ["envoy.filters.http.rbac"], "{providers}");
        assert_eq!(refused.tcp().len(), 1);
        assert_eq!(refused.diagnostics()[0].code, "authorizer-unavailable");
    }
}

#[test]
fn an_authorizer_is_asked_as_its_provider_says() {
    let fields = r#""timeout": "2s", "failOpen": true, "statusOnError": "503", "pathPrefix": "/p",
        "includeRequestBodyInCheck": {"maxRequestBytes": 9, "allowPartialMessage": true},
        "includeHeadersInCheck": ["x-*"], "includeAdditionalHeadersInCheck": {"k": "v"},
        "headersToUpstreamOnAllow": ["*-up"], "headersToDownstreamOnDeny": ["d"], "headersToDownstreamOnAllow": ["o"]"#;
    let provider = format!(
        r#"{{"name": "a", "envoyExtAuthzHttp": {{"service": "shop/authz.shop.svc.cluster.local", "port": 8000, {fields}}}}}"#
    );
    let filters = custom("a", &provider).custom_http();
    let Some(ConfigType::TypedConfig(any)) = &filters[1].config_type else {
        panic!("no configuration")
    };
    let text = message_to_json(&unpack::<ExtAuthz>(any).unwrap()).to_string();
    for part in [
        r#""timeout":"2s""#,
        r#""failure_mode_allow":true"#,
        r#""status_on_error":{"code":"ServiceUnavailable"}"#,
        r#""path_prefix":"/p""#,
        r#""max_request_bytes":9"#,
        r#""allowed_headers":{"patterns":[{"ignore_case":true,"prefix":"x-"}]}"#,
        r#""headers_to_add":[{"key":"k","value":"v"}]"#,
        r#""allowed_upstream_headers":{"patterns":[{"ignore_case":true,"suffix":"-up"}]}"#,
        r#""cluster":"outbound|8000||authz.shop.svc.cluster.local""#,
    ] {
        assert_has(&text, part);
    }
}

#[test]
fn without_keys_a_rule_gets_a_set_that_nobody_signs_with() {
    let payload = r#"{"metadata": {"namespace": "shop", "name": "p"},
        "spec": {"jwtRules": [{"issuer": "a", "jwksUri": "http://keys"}, {"issuer": "b", "jwks": "inline"}]}}"#;
    let rules = || change(Kind::RequestAuthentication, payload);
    let keys = |facts: &PolicyFacts| {
        let filters = facts.tokens();
        let Some(ConfigType::TypedConfig(any)) = &filters[0].config_type else {
            panic!("no configuration")
        };
        message_to_json(&unpack::<JwtAuthentication>(any).unwrap()).to_string()
    };
    let text = keys(&facts(vec![rules()]));
    assert_has(&text, "navarch-not-fetched");
    assert_has(&text, r#""inline_string":"inline""#);
    let mut fetched = change(Kind::JsonWebKeySet, r#"{"jwks": "fetched keys"}"#);
    fetched.key = ConfigKey::new(Kind::JsonWebKeySet, "", "http://keys");
    let text = keys(&facts(vec![rules(), fetched]));
    assert_has(&text, r#""inline_string":"fetched keys""#);
    assert!(!text.contains("navarch-not-fetched"), "{text}");
}
