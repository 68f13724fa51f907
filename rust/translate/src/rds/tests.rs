//! Route configurations of small meshes, from objects to virtual hosts.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_envoy::envoy::config::route::v3::RouteConfiguration;
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use navarch_model::{ConfigKey, Diagnostic, Kind, Proxy};
use navarch_snapshot::{Change, MeshOptions, MeshSnapshot, MeshStore, ProxyScope};

use super::{RouteConfigurationInputs, build_route_configuration, route_inputs};

const SIDECAR: &str = r#"{"id": "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local",
    "metadata": {"NAMESPACE": "shop", "ISTIO_VERSION": "1.32.0", "CLUSTER_ID": "Kubernetes", "LABELS": {"app": "web"}}}"#;
const ROUTER: &str = r#"{"id": "router~10.1.0.9~gw-1.shop~shop.svc.cluster.local",
    "metadata": {"NAMESPACE": "shop", "ISTIO_VERSION": "1.32.0", "CLUSTER_ID": "Kubernetes", "LABELS": {"app": "gw"}}}"#;

fn change(kind: Kind, namespace: &str, name: &str, spec: &str) -> Change {
    let payload = format!(
        r#"{{"metadata": {{"namespace": "{namespace}", "name": "{name}"}}, "spec": {spec}}}"#
    );
    Change {
        key: ConfigKey::new(kind, namespace, name),
        payload: Some(payload.into_bytes()),
    }
}

fn service(namespace: &str, name: &str, spec: &str) -> Change {
    change(Kind::Service, namespace, name, spec)
}

fn virtual_service(name: &str, spec: &str) -> Change {
    change(Kind::VirtualService, "shop", name, spec)
}

fn web_and_reviews() -> Vec<Change> {
    let http = r#"[{"name": "http", "port": 80}]"#;
    vec![
        service(
            "shop",
            "web",
            &format!(r#"{{"clusterIP": "10.0.0.1", "ports": {http}}}"#),
        ),
        service(
            "shop",
            "reviews",
            &format!(r#"{{"clusterIP": "10.0.0.2", "ports": {http}}}"#),
        ),
    ]
}

fn mesh(changes: Vec<Change>) -> Arc<MeshSnapshot> {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(changes);
    assert_eq!(store.undecodable().next(), None);
    store.snapshot()
}

fn scope(mesh: &MeshSnapshot, node: &str) -> ProxyScope {
    let proxy = Proxy::from_node_json(node.as_bytes()).unwrap();
    mesh.scope_of(&mesh.group_of(&proxy))
}

fn inputs<'a>(
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    name: &str,
) -> RouteConfigurationInputs<'a> {
    let names = BTreeSet::from([name.to_owned()]);
    route_inputs(mesh, scope, &names).remove(0)
}

fn build_in(mesh: &MeshSnapshot, node: &str, name: &str) -> (RouteConfiguration, Vec<Diagnostic>) {
    let scope = scope(mesh, node);
    let (config, diagnostics) = build_route_configuration(&inputs(mesh, &scope, name));
    (config.message(), diagnostics)
}

fn build(changes: Vec<Change>, node: &str, name: &str) -> RouteConfiguration {
    build_in(&mesh(changes), node, name).0
}

/// Each virtual host's name with its domains.
fn domains(config: &RouteConfiguration) -> Vec<(&str, Vec<&str>)> {
    let hosts = config.virtual_hosts.iter();
    hosts
        .map(|host| (&*host.name, host.domains.iter().map(|d| &**d).collect()))
        .collect()
}

/// Each virtual host's name with the clusters of its routes ("" for other answers).
fn clusters(config: &RouteConfiguration) -> Vec<(&str, Vec<&str>)> {
    let hosts = config.virtual_hosts.iter();
    hosts
        .map(|host| {
            let routes = host.routes.iter().map(|route| match &route.action {
                Some(Action::Route(action)) => match &action.cluster_specifier {
                    Some(ClusterSpecifier::Cluster(name)) => &**name,
                    _ => "",
                },
                _ => "",
            });
            (&*host.name, routes.collect())
        })
        .collect()
}

#[test]
fn services_are_known_by_all_their_names() {
    let headless = r#"{"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}"#;
    let changes = vec![
        service(
            "shop",
            "a",
            r#"{"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}"#,
        ),
        service("other", "b", headless),
        service(
            "shop",
            "nick",
            r#"{"type": "ExternalName", "externalName": "a.shop.svc.cluster.local",
                "ports": [{"name": "http", "port": 80}]}"#,
        ),
    ];
    let config = build(changes, SIDECAR, "80");
    let a = [
        "a.shop.svc.cluster.local",
        "a.shop.svc.cluster.local.",
        "a",
        "a.shop.svc",
        "a.shop",
        "nick.shop.svc.cluster.local",
        "nick.shop.svc.cluster.local.",
        "nick",
        "nick.shop.svc",
        "nick.shop",
        "10.0.0.1",
    ];
    let b = [
        "b.other.svc.cluster.local",
        "b.other.svc.cluster.local.",
        "b.other",
        "b.other.svc",
        "*.b.other.svc.cluster.local",
        "*.b.other.svc.cluster.local.",
        "*.b.other",
        "*.b.other.svc",
    ];
    assert_eq!(
        domains(&config),
        [
            ("a.shop.svc.cluster.local:80", a.to_vec()),
            ("b.other.svc.cluster.local:80", b.to_vec()),
            ("allow_any", vec!["*"]),
        ]
    );
}

#[test]
fn the_oldest_virtual_service_speaks_for_a_service_and_others_keep_their_own() {
    let mut changes = web_and_reviews();
    for (name, subset) in [("first", "v1"), ("second", "v2")] {
        let spec = format!(
            r#"{{"hosts": ["reviews"], "http": [{{"route": [{{"destination": {{"host": "reviews", "subset": "{subset}"}}}}]}}]}}"#
        );
        changes.push(virtual_service(name, &spec));
    }
    let config = build(changes, SIDECAR, "80");
    assert_eq!(
        clusters(&config),
        [
            (
                "reviews.shop.svc.cluster.local:80",
                vec!["outbound|80|v1|reviews.shop.svc.cluster.local"]
            ),
            (
                "web.shop.svc.cluster.local:80",
                vec!["outbound|80||web.shop.svc.cluster.local"]
            ),
            ("allow_any", vec!["PassthroughCluster"]),
        ]
    );
}

#[test]
fn a_virtual_service_without_a_route_for_the_client_is_as_if_absent() {
    let mut changes = web_and_reviews();
    changes.push(virtual_service(
        "reviews",
        r#"{"hosts": ["reviews"], "http": [{"match": [{"sourceLabels": {"app": "job"}}],
            "directResponse": {"status": 404}}]}"#,
    ));
    let config = build(changes, SIDECAR, "80");
    let reviews = &clusters(&config)[0];
    assert_eq!(reviews.1, ["outbound|80||reviews.shop.svc.cluster.local"]);
}

#[test]
fn hosts_that_are_no_services_are_served_on_port_80_only() {
    let spec = r#"{"hosts": ["virtual.example.com"], "http": [{"route": [{"destination": {"host": "web"}}]}]}"#;
    let mut changes = web_and_reviews();
    changes.push(service(
        "shop",
        "other",
        r#"{"clusterIP": "10.0.0.3", "ports": [{"name": "http", "port": 8080}]}"#,
    ));
    changes.push(virtual_service("virtual", spec));
    let mesh = mesh(changes);
    let names = |port: &str| {
        let (config, _) = build_in(&mesh, SIDECAR, port);
        let hosts = config.virtual_hosts.into_iter().map(|host| host.name);
        hosts.collect::<Vec<_>>()
    };
    assert!(names("80").contains(&"virtual.example.com:80".to_owned()));
    assert_eq!(
        names("8080"),
        ["other.shop.svc.cluster.local:8080", "allow_any"]
    );
}

#[test]
fn a_sniffed_port_takes_every_host_and_nothing_unknown() {
    let spec = r#"{"clusterIP": "10.0.0.1", "ports": [{"port": 8080}]}"#;
    let changes = vec![service("shop", "any", spec), service("shop", "too", spec)];
    let config = build(changes, SIDECAR, "any.shop.svc.cluster.local:8080");
    assert_eq!(
        domains(&config),
        [("any.shop.svc.cluster.local:8080", vec!["*"])]
    );
}

#[test]
fn a_name_that_means_nothing_gives_an_empty_configuration() {
    for name in ["http.8080", "gone:x", ""] {
        let config = build(web_and_reviews(), SIDECAR, name);
        assert_eq!((&*config.name, config.virtual_hosts.len()), (name, 0));
    }
    let config = build(web_and_reviews(), ROUTER, "http.8080");
    assert!(config.virtual_hosts.is_empty());
}

#[test]
fn one_virtual_host_takes_everything_at_most() {
    let changes = vec![virtual_service(
        "all",
        r#"{"hosts": ["*"], "http": [{"directResponse": {"status": 204}}]}"#,
    )];
    let config = build(changes, SIDECAR, "80");
    assert_eq!(domains(&config), [("*:80", vec!["*"])]);
}

#[test]
fn a_change_of_one_virtual_service_changes_one_virtual_host() {
    let with_status = |status: u32| {
        let mut changes = web_and_reviews();
        let spec = format!(
            r#"{{"hosts": ["reviews"], "http": [{{"directResponse": {{"status": {status}}}}}]}}"#
        );
        changes.push(virtual_service("reviews", &spec));
        let mesh = mesh(changes);
        let scope = scope(&mesh, SIDECAR);
        (mesh, scope)
    };
    let all = [200, 200, 503].map(with_status);
    let [old, same, new] = all
        .each_ref()
        .map(|(mesh, scope)| inputs(mesh, scope, "80"));
    assert_eq!(old, same);
    let pairs = old.virtual_hosts.iter().zip(&new.virtual_hosts);
    let changed: Vec<_> = pairs
        .filter(|(old, new)| old != new)
        .map(|(old, _)| old.names.name())
        .collect();
    assert_eq!(changed, ["reviews.shop.svc.cluster.local:80"]);
}

#[test]
fn a_gateway_joins_virtual_services_and_puts_what_catches_all_last() {
    let gateway = r#"{"selector": {"app": "gw"}, "servers": [
        {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*.example.com"]},
        {"port": {"number": 8081, "name": "none", "protocol": "HTTP"}, "hosts": ["nobody.example.com"]}]}"#;
    let mut changes = web_and_reviews();
    changes.push(change(Kind::Gateway, "shop", "public", gateway));
    for (name, hosts, rule) in [
        ("1", r#""a.example.com", "b.example.com""#, ""),
        (
            "2",
            r#""a.example.com""#,
            r#""match": [{"uri": {"prefix": "/x"}}], "#,
        ),
    ] {
        let spec = format!(
            r#"{{"hosts": [{hosts}], "gateways": ["public"], "http": [{{{rule}"name": "{name}", "route": [{{"destination": {{"host": "web"}}}}]}}]}}"#
        );
        changes.push(virtual_service(name, &spec));
    }
    let mesh = mesh(changes);
    let (config, _) = build_in(&mesh, ROUTER, "http.8080");
    let names = |i: usize| {
        let routes = config.virtual_hosts[i].routes.iter();
        routes.map(|route| &*route.name).collect::<Vec<_>>()
    };
    assert_eq!(
        domains(&config),
        [
            ("a.example.com:8080", vec!["a.example.com"]),
            ("b.example.com:8080", vec!["b.example.com"]),
        ]
    );
    assert_eq!((names(0), names(1)), (vec!["2", "1"], vec!["1"]));
    let (config, _) = build_in(&mesh, ROUTER, "http.8081");
    assert_eq!(domains(&config), [("blackhole:8081", vec!["*"])]);
}

#[test]
fn unknown_hosts_are_dropped_where_only_the_registry_counts() {
    let mut changes = web_and_reviews();
    changes.push(change(
        Kind::Sidecar,
        "shop",
        "default",
        r#"{"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}"#,
    ));
    let config = build(changes, SIDECAR, "80");
    let last = config.virtual_hosts.last().unwrap();
    assert_eq!(last.name, "block_all");
    assert!(matches!(
        last.routes[0].action,
        Some(Action::DirectResponse(ref answer)) if answer.status == 502
    ));
}

#[test]
fn an_explicit_proxy_tells_services_apart_by_port() {
    let mut changes = web_and_reviews();
    changes.push(service(
        "shop",
        "two",
        r#"{"clusterIP": "10.0.0.3", "ports": [{"name": "http", "port": 8080}]}"#,
    ));
    changes.push(change(
        Kind::Sidecar,
        "shop",
        "default",
        r#"{"egress": [{"port": {"number": 15080, "protocol": "HTTP_PROXY", "name": "p"}, "hosts": ["./*"]}]}"#,
    ));
    let config = build(changes, SIDECAR, "15080");
    let all = domains(&config);
    let of = |name: &str| {
        let found = all.iter().find(|(host, _)| *host == name);
        found.map(|(_, domains)| domains.clone()).unwrap()
    };
    let web = of("web.shop.svc.cluster.local:80");
    assert!(web.contains(&"web") && web.contains(&"web:80"));
    let two = of("two.shop.svc.cluster.local:8080");
    assert!(two.contains(&"two:8080") && !two.contains(&"two"));
}

#[test]
fn destinations_that_are_not_there_are_told_and_named_all_the_same() {
    let mut changes = web_and_reviews();
    changes.push(virtual_service(
        "reviews",
        r#"{"hosts": ["reviews"], "http": [
            {"match": [{"uri": {"prefix": "/a"}}], "route": [{"destination": {"host": "gone"}}]},
            {"match": [{"uri": {"prefix": "/b"}}], "route": [{"destination": {"host": "web", "port": {"number": 7}}}]},
            {"route": [{"destination": {"host": "web", "subset": "v9"}}]}]}"#,
    ));
    let (config, diagnostics) = build_in(&mesh(changes), SIDECAR, "80");
    assert_eq!(
        clusters(&config)[0].1,
        [
            "outbound|80||gone.shop.svc.cluster.local",
            "outbound|7||web.shop.svc.cluster.local",
            "outbound|80|v9|web.shop.svc.cluster.local",
        ]
    );
    let told: Vec<_> = diagnostics
        .iter()
        .map(|d| (d.code, &*d.field_path))
        .collect();
    assert_eq!(
        told,
        [
            (
                "unknown-destination",
                "spec.http[0].route[0].destination.host"
            ),
            (
                "unknown-port",
                "spec.http[1].route[0].destination.port.number"
            ),
            ("unknown-subset", "spec.http[2].route[0].destination.subset"),
        ]
    );
}
