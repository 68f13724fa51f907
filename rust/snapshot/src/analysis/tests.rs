//! Each fault is told once, on the object and field that is to be changed.

use navarch_model::{ConfigKey, Diagnostic, Kind};

use crate::{Change, MeshOptions, MeshStore};

fn object(kind: Kind, name: &str, age: u32, parts: &str) -> Change {
    let (namespace, short) = name.split_once('/').unwrap_or(("n", name));
    let body = format!(
        r#"{{"metadata":{{"name":"{short}","namespace":"{namespace}",
            "creationTimestamp":"2024-01-01T00:00:{age:02}Z"}},{parts}}}"#
    );
    Change {
        key: ConfigKey::new(kind, namespace, short),
        payload: Some(body.into_bytes()),
    }
}

fn spec(kind: Kind, name: &str, age: u32, spec: &str) -> Change {
    object(kind, name, age, &format!(r#""spec":{{{spec}}}"#))
}

fn service(name: &str) -> Change {
    spec(
        Kind::Service,
        name,
        0,
        r#""clusterIP":"10.0.0.1","selector":{"app":"a"},"ports":[{"name":"http","port":80}]"#,
    )
}

fn pod(name: &str, labels: &str) -> Change {
    let body = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"n","labels":{labels}}},"spec":{{}},
            "status":{{"phase":"Running","podIP":"10.1.0.1"}}}}"#
    );
    Change {
        key: ConfigKey::new(Kind::Pod, "n", name),
        payload: Some(body.into_bytes()),
    }
}

fn told(changes: Vec<Change>) -> Vec<Diagnostic> {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(changes);
    assert_eq!(store.undecodable().next(), None);
    store.rule_diagnostics()
}

/// `namespace/name code path` of everything told, sorted.
fn brief(changes: Vec<Change>) -> Vec<String> {
    let told = told(changes).into_iter();
    let line = |d: Diagnostic| {
        let line = format!(
            "{}/{} {} {}",
            d.key.namespace, d.key.name, d.code, d.field_path
        );
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = told.map(line).collect();
    lines.sort();
    lines
}

const VS: Kind = Kind::VirtualService;
const TO_A: &str = r#""http":[{"route":[{"destination":{"host":"a"}}]}]"#;

#[test]
fn a_mesh_without_faults_is_silent() {
    let gateway =
        r#""selector":{"app":"gw"},"servers":[{"port":{"number":80},"hosts":["n/*.com"]}]"#;
    let changes = vec![
        service("a"),
        pod("gw", r#"{"app":"gw"}"#),
        spec(Kind::Gateway, "gw", 1, gateway),
        spec(
            VS,
            "a",
            2,
            &format!(r#""hosts":["a.com","a"],"gateways":["gw","mesh"],{TO_A}"#),
        ),
        spec(Kind::DestinationRule, "a", 3, r#""host":"a""#),
        spec(
            Kind::DestinationRule,
            "all",
            3,
            r#""host":"*.n.svc.cluster.local""#,
        ),
        spec(Kind::Sidecar, "s", 4, r#""egress":[{"hosts":["*/*"]}]"#),
        spec(
            Kind::PeerAuthentication,
            "p",
            5,
            r#""mtls":{"mode":"STRICT"}"#,
        ),
    ];
    assert!(brief(changes).is_empty());
}

#[test]
fn gateways_that_are_not_there_and_hosts_that_they_lack_are_told() {
    let gateway = r#""servers":[{"port":{"number":80},"hosts":["./a.com","*.b.com"]}]"#;
    let rule = |name: &str, hosts: &str, gateways: &str| {
        let text = format!(r#""hosts":[{hosts}],"gateways":[{gateways}],{TO_A}"#);
        spec(VS, name, 2, &text)
    };
    let changes = vec![
        service("a"),
        spec(Kind::Gateway, "edge/gw", 1, gateway),
        rule("part", r#""x.b.com","c.com""#, r#""edge/gw""#),
        rule("other", r#""a.com""#, r#""edge/gw""#),
        rule("edge/own", r#""a.com""#, r#""gw""#),
        rule("none", r#""x.b.com","d.com""#, r#""edge/gw","edge/none""#),
        rule("mesh", r#""x.b.com","e.com""#, r#""edge/gw","mesh""#),
    ];
    let expected = [
        "n/none unknown-gateway spec.gateways[1]",
        "n/other host-not-in-gateway spec.gateways[0]",
        "n/part host-not-in-gateway spec.hosts[1]",
    ];
    assert_eq!(brief(changes), expected);
}

#[test]
fn a_host_of_the_mesh_is_one_rules() {
    let rule = |name: &str, age: u32, more: &str| {
        spec(
            VS,
            name,
            age,
            &format!(r#""hosts":["a.n.svc.cluster.local"],{more}{TO_A}"#),
        )
    };
    let changes = vec![
        service("a"),
        rule("first", 1, ""),
        rule("second", 2, ""),
        rule("x/private", 3, r#""exportTo":["."],"#),
        rule("y/private", 4, r#""exportTo":["."],"#),
        spec(
            VS,
            "edge",
            5,
            &format!(r#""hosts":["a.n.svc.cluster.local"],"gateways":["g"],{TO_A}"#),
        ),
        spec(
            Kind::Gateway,
            "g",
            6,
            r#""servers":[{"port":{"number":80},"hosts":["*"]}]"#,
        ),
    ];
    let lines = brief(changes);
    let conflicts = lines
        .iter()
        .filter(|line| line.contains("mesh-host-conflict"));
    let expected = ["n/second", "x/private", "y/private"];
    assert!(
        conflicts.map(|l| l.split(' ').next().unwrap()).eq(expected),
        "{lines:?}"
    );
    let nobody = vec![
        service("a"),
        rule("x/private", 1, r#""exportTo":["."],"#),
        rule("y/private", 2, r#""exportTo":["."],"#),
    ];
    assert!(!brief(nobody).iter().any(|line| line.contains("conflict")));
}

#[test]
fn connections_to_unknown_destinations_are_told() {
    let to = |destination: &str| format!(r#"{{"route":[{{"destination":{{{destination}}}}}]}}"#);
    let rule = format!(
        r#""hosts":["db"],"tcp":[{},{},{},{}]"#,
        to(r#""host":"none""#),
        to(r#""host":"a","port":{"number":81}"#),
        to(r#""host":"a","subset":"v9""#),
        to(r#""host":"a","subset":"v1","port":{"number":80}"#),
    );
    let subsets = r#""host":"a","subsets":[{"name":"v1"}]"#;
    let changes = vec![
        service("a"),
        spec(VS, "r", 1, &rule),
        spec(Kind::DestinationRule, "a", 2, subsets),
    ];
    let expected = [
        "n/r unknown-destination spec.tcp[0].route[0].destination.host",
        "n/r unknown-port spec.tcp[1].route[0].destination.port.number",
        "n/r unknown-subset spec.tcp[2].route[0].destination.subset",
    ];
    assert_eq!(brief(changes), expected);
}

#[test]
fn circles_of_delegates_are_named_as_such() {
    let rule = |name: &str, hosts: &str, to: &str| {
        spec(
            VS,
            name,
            1,
            &format!(r#"{hosts}"http":[{{"delegate":{{"name":"{to}"}}}}]"#),
        )
    };
    let host = r#""hosts":["a.com"],"#;
    let around = vec![
        rule("root", host, "b"),
        rule("b", "", "c"),
        rule("c", "", "b"),
    ];
    let found = told(around);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].code, &*found[0].key.name),
        ("delegate-cycle", "root")
    );
    assert!(
        found[0].message.contains("`n/b` → `n/c` → `n/b`"),
        "{}",
        found[0].message
    );
    let itself = brief(vec![rule("root", host, "root")]);
    assert_eq!(itself, ["n/root delegate-cycle spec.http[0].delegate"]);
    let nested = brief(vec![
        rule("root", host, "b"),
        rule("b", "", "c"),
        spec(VS, "c", 1, TO_A),
    ]);
    assert_eq!(nested, ["n/root delegate-nested spec.http[0].delegate"]);
    let unused = brief(vec![spec(VS, "c", 1, TO_A)]);
    assert_eq!(unused, ["n/c delegate-unused"]);
}

#[test]
fn a_delegates_route_outside_of_its_roots_match_is_told() {
    let matching = |prefix: &str, rest: &str| {
        format!(r#""http":[{{"match":[{{"uri":{{"prefix":"{prefix}"}}}}],{rest}}}]"#)
    };
    let root = matching("/a", r#""delegate":{"name":"d"}"#);
    let inner = matching("/b", r#""route":[{"destination":{"host":"a"}}]"#);
    let changes = vec![
        spec(VS, "root", 1, &format!(r#""hosts":["a.com"],{root}"#)),
        spec(VS, "d", 1, &inner),
    ];
    assert_eq!(
        brief(changes),
        ["n/root delegate-mismatch spec.http[0].delegate"]
    );
}

#[test]
fn rules_of_destinations_are_told_of_hosts_merging_and_subsets() {
    let rule = |name: &str, age: u32, text: &str| spec(Kind::DestinationRule, name, age, text);
    let policy = r#""trafficPolicy":{"loadBalancer":{"simple":"RANDOM"}}"#;
    let subset = r#""subsets":[{"name":"v1","labels":{"version":"v1"}}]"#;
    let slice = r#"{"metadata":{"name":"a-1","namespace":"n","labels":{"kubernetes.io/service-name":"a"}},
        "addressType":"IPv4","ports":[{"name":"http","port":8080}],
        "endpoints":[{"addresses":["10.1.0.9"],"conditions":{"ready":true}}]}"#;
    let changes = vec![
        service("a"),
        Change {
            key: ConfigKey::new(Kind::EndpointSlice, "n", "a-1"),
            payload: Some(slice.as_bytes().to_vec()),
        },
        rule("first", 1, &format!(r#""host":"a",{policy},{subset}"#)),
        rule(
            "second",
            2,
            &format!(r#""host":"a.n.svc.cluster.local",{policy},{subset}"#),
        ),
        rule("none", 3, r#""host":"none""#),
        rule("wild", 4, r#""host":"*.example.com""#),
    ];
    let expected = [
        "n/first subset-selects-nothing spec.subsets[0].labels",
        "n/none unknown-host spec.host",
        "n/second destination-rule-conflict spec.subsets[0]",
        "n/second destination-rule-conflict spec.trafficPolicy",
        "n/second subset-selects-nothing spec.subsets[0].labels",
        "n/wild unknown-host spec.host",
    ];
    assert_eq!(brief(changes), expected);
}

#[test]
fn a_subset_whose_server_name_is_too_long_is_told() {
    let long = "v".repeat(240);
    let rule = format!(r#""host":"a","subsets":[{{"name":"{long}"}}]"#);
    let changes = vec![service("a"), spec(Kind::DestinationRule, "a", 1, &rule)];
    assert_eq!(brief(changes), ["n/a overlong-name spec.subsets[0].name"]);
}

#[test]
fn gateways_are_looked_for_among_pods_and_their_services() {
    let gateway = |name: &str, app: &str, port: u32| {
        let spec_text = format!(
            r#""selector":{{"app":"{app}"}},"servers":[{{"port":{{"number":{port}}},"hosts":["*"]}}]"#
        );
        spec(Kind::Gateway, name, 1, &spec_text)
    };
    let all = || {
        vec![
            gateway("good", "a", 80),
            gateway("port", "a", 81),
            gateway("none", "b", 80),
        ]
    };
    let with_pods = [all(), vec![service("a"), pod("a", r#"{"app":"a"}"#)]].concat();
    let expected = [
        "n/none gateway-selects-nothing spec.selector",
        "n/port gateway-port-not-exposed spec.servers[0].port.number",
    ];
    assert_eq!(brief(with_pods), expected);
    assert!(
        brief(all()).is_empty(),
        "without any Pod, proxies are not Pods"
    );
}

#[test]
fn of_several_sidecars_and_policies_the_oldest_is_told_to_hold() {
    let sidecar = |name: &str, age: u32, labels: &str| {
        let selector = format!(r#""workloadSelector":{{"labels":{labels}}}"#);
        spec(
            Kind::Sidecar,
            name,
            age,
            if labels.is_empty() { "" } else { &selector },
        )
    };
    let policy = |name: &str, age: u32, selector: &str| {
        let text = format!(r#""selector":{{"matchLabels":{selector}}},"mtls":{{"mode":"STRICT"}}"#);
        spec(Kind::PeerAuthentication, name, age, &text)
    };
    let changes = vec![
        sidecar("d1", 1, ""),
        sidecar("d2", 2, ""),
        sidecar("s1", 3, r#"{"app":"a"}"#),
        sidecar("s2", 4, r#"{"app":"a"}"#),
        sidecar("s3", 5, r#"{"tier":"x"}"#),
        pod("a", r#"{"app":"a","tier":"x"}"#),
        policy("p1", 6, "{}"),
        policy("p2", 7, "{}"),
        policy("istio-system/p3", 8, r#"{"app":"a"}"#),
    ];
    let expected = [
        "istio-system/p3 peer-authentication-without-effect spec.selector",
        "n/d2 several-default-sidecars spec.workloadSelector",
        "n/p2 peer-authentication-conflict spec",
        "n/s2 sidecar-selector-conflict spec.workloadSelector.labels",
        "n/s3 sidecar-selector-conflict spec.workloadSelector.labels",
    ];
    assert_eq!(brief(changes), expected);
}

#[test]
fn entries_and_services_are_told_of_protocols_and_addresses() {
    let entry = |name: &str, age: u32, resolution: &str, protocol: &str| {
        let text = format!(
            r#""hosts":["db.com"],"resolution":"{resolution}",
               "ports":[{{"number":5432,"name":"p","protocol":"{protocol}"}}]"#
        );
        spec(Kind::ServiceEntry, name, age, &text)
    };
    let external =
        r#""type":"ExternalName","externalName":"x.com","ports":[{"name":"tcp","port":90}]"#;
    let unnamed = r#""clusterIP":"10.0.0.2","ports":[{"name":"web","port":80}]"#;
    let changes = vec![
        entry("one", 1, "DNS", "TCP"),
        entry("two", 2, "NONE", "TCP"),
        entry("three", 3, "DNS", "HTTP"),
        spec(Kind::Service, "ext", 0, external),
        spec(Kind::Service, "plain", 0, unnamed),
    ];
    let expected = [
        "n/ext external-name-port-opaque spec.ports[0].name",
        "n/plain undeclared-protocol spec.ports[0].name",
        "n/three service-entry-protocol-conflict spec.ports[0].protocol",
        "n/two service-entry-address-required spec.ports[0]",
    ];
    assert_eq!(brief(changes), expected);
}

#[test]
fn a_fault_goes_when_what_was_missing_comes() {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(vec![spec(Kind::DestinationRule, "a", 1, r#""host":"a""#)]);
    assert_eq!(store.rule_diagnostics().len(), 1);
    store.apply(vec![service("a")]);
    assert_eq!(store.rule_diagnostics(), []);
    let gateway = r#""selector":{"app":"gw"},"servers":[{"port":{"number":80},"hosts":["*"]}]"#;
    store.apply(vec![
        spec(Kind::Gateway, "g", 2, gateway),
        pod("a", r#"{"app":"a"}"#),
    ]);
    assert_eq!(store.rule_diagnostics().len(), 1);
    store.apply(vec![pod("b", r#"{"app":"gw"}"#)]);
    assert_eq!(store.rule_diagnostics(), []);
}
