//! Clusters, endpoints and names of small meshes, from objects to messages.

use std::sync::Arc;

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use navarch_envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use navarch_model::{ConfigKey, Diagnostic, Kind, Proxy, hash128};
use navarch_snapshot::{Change, MeshOptions, MeshSnapshot, MeshStore, ProxyScope};

use super::{ClusterInputs, build_cluster, cluster_inputs, inbound_cluster_inputs};
use crate::eds::{EndpointInputs, endpoint_inputs, service_endpoint_inputs};
use crate::nds::{build_name_table, name_table_inputs};

const SLICE_LABEL: &str = "kubernetes.io/service-name";

fn object(kind: Kind, name: &str, rest: &str) -> Change {
    let payload = format!(r#"{{"metadata": {{"namespace": "shop", "name": "{name}"}}, {rest}}}"#);
    Change {
        key: ConfigKey::new(kind, "shop", name),
        payload: Some(payload.into_bytes()),
    }
}

fn service(name: &str, spec: &str) -> Change {
    object(Kind::Service, name, &format!(r#""spec": {spec}"#))
}

fn rule(spec: &str) -> Change {
    object(Kind::DestinationRule, "rule", &format!(r#""spec": {spec}"#))
}

/// A Pod at an address, injected unless said otherwise.
fn pod(name: &str, ip: &str, is_injected: bool) -> Change {
    let mode = if is_injected {
        r#", "security.istio.io/tlsMode": "istio""#
    } else {
        ""
    };
    let payload = format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "{name}", "labels": {{"app": "reviews"{mode}}}}},
            "spec": {{"serviceAccountName": "reviews", "hostname": "{name}", "subdomain": "db"}},
            "status": {{"phase": "Running", "podIP": "{ip}"}}}}"#
    );
    Change {
        key: ConfigKey::new(Kind::Pod, "shop", name),
        payload: Some(payload.into_bytes()),
    }
}

/// A slice of a service's port `http`: names, addresses and readiness of its Pods.
fn slice(service: &str, pods: &[(&str, &str, bool)]) -> Change {
    let endpoints: Vec<String> = pods
        .iter()
        .map(|(name, ip, is_ready)| {
            format!(
                r#"{{"addresses": ["{ip}"], "conditions": {{"ready": {is_ready}}},
                    "targetRef": {{"kind": "Pod", "name": "{name}", "namespace": "shop"}}}}"#
            )
        })
        .collect();
    let payload = format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "{service}-1", "labels": {{"{SLICE_LABEL}": "{service}"}}}},
            "addressType": "IPv4", "ports": [{{"name": "http", "port": 8080}}], "endpoints": [{}]}}"#,
        endpoints.join(",")
    );
    let key = ConfigKey::new(Kind::EndpointSlice, "shop", &format!("{service}-1"));
    Change {
        key,
        payload: Some(payload.into_bytes()),
    }
}

/// `reviews` with one injected Pod.
fn reviews() -> Vec<Change> {
    vec![
        service(
            "reviews",
            r#"{"clusterIP": "10.0.0.2", "selector": {"app": "reviews"}, "ports": [{"name": "http", "port": 80}]}"#,
        ),
        pod("reviews-1", "10.1.0.2", true),
        slice("reviews", &[("reviews-1", "10.1.0.2", true)]),
    ]
}

fn mesh(changes: Vec<Change>) -> Arc<MeshSnapshot> {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(changes);
    assert_eq!(store.undecodable().next(), None);
    store.snapshot()
}

fn proxy(metadata: &str, region: &str) -> Proxy {
    let node = format!(
        r#"{{"id": "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local", "locality": {{"region": "{region}"}},
            "metadata": {{"CLUSTER_ID": "Kubernetes"{metadata}}}}}"#
    );
    Proxy::from_node_json(node.as_bytes()).unwrap()
}

fn istio() -> Proxy {
    proxy(r#", "ISTIO_VERSION": "1.32.0""#, "")
}

fn stock() -> Proxy {
    proxy("", "")
}

fn scope(mesh: &MeshSnapshot, proxy: &Proxy) -> ProxyScope {
    mesh.scope_of(&mesh.group_of(proxy))
}

fn find(mesh: &MeshSnapshot, proxy: &Proxy, name: &str) -> (Option<Cluster>, Vec<Diagnostic>) {
    let scope = scope(mesh, proxy);
    let inputs = cluster_inputs(mesh, &scope);
    let inputs = inputs.iter().find(|inputs| inputs.name() == name).unwrap();
    let (cluster, faults) = build_cluster(inputs);
    (cluster.map(|cluster| cluster.message()), faults)
}

const REVIEWS: &str = "outbound|80||reviews.shop.svc.cluster.local";

fn discovery(cluster: &Cluster) -> Option<DiscoveryType> {
    match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).ok(),
        _ => None,
    }
}

fn tls_context(socket: Option<&TransportSocket>) -> Option<UpstreamTlsContext> {
    match &socket?.config_type {
        Some(ConfigType::TypedConfig(config)) => any::unpack(config),
        None => None,
    }
}

#[test]
fn mutual_tls_is_by_endpoint_and_only_for_proxies_with_a_certificate() {
    let mesh = mesh(reviews());
    let cluster = find(&mesh, &istio(), REVIEWS).0.unwrap();
    let matches: Vec<_> = cluster
        .transport_socket_matches
        .iter()
        .map(|m| &*m.name)
        .collect();
    assert_eq!(matches, ["tlsMode-istio", "tlsMode-disabled"]);
    let context = tls_context(
        cluster.transport_socket_matches[0]
            .transport_socket
            .as_ref(),
    );
    assert_eq!(
        context.unwrap().sni,
        "outbound_.80_._.reviews.shop.svc.cluster.local"
    );
    assert_eq!(cluster.filters.len(), 1);

    let cluster = find(&mesh, &stock(), REVIEWS).0.unwrap();
    assert!(cluster.transport_socket_matches.is_empty());
    assert_eq!(cluster.transport_socket, None);
    assert!(cluster.filters.is_empty());
}

#[test]
fn mutual_tls_that_cannot_be_had_leads_nowhere() {
    let mut changes = reviews();
    changes.push(rule(
        r#"{"host": "reviews", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}"#,
    ));
    let mesh = mesh(changes);
    let (cluster, faults) = find(&mesh, &stock(), REVIEWS);
    let cluster = cluster.unwrap();
    assert_eq!(discovery(&cluster), Some(DiscoveryType::Static));
    assert_eq!(cluster.load_assignment, None);
    assert_eq!(
        faults[0].key,
        ConfigKey::new(Kind::DestinationRule, "shop", "rule")
    );
    assert_eq!(faults[0].code, "istio-mutual-without-certificate");

    let (cluster, faults) = find(&mesh, &istio(), REVIEWS);
    assert!(faults.is_empty());
    assert!(tls_context(cluster.unwrap().transport_socket.as_ref()).is_some());
}

#[test]
fn a_passthrough_cluster_is_plaintext_unless_every_endpoint_takes_mutual_tls() {
    let passthrough =
        r#"{"host": "reviews", "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}"#;
    let mut changes = reviews();
    changes.push(rule(passthrough));
    let cluster = find(&mesh(changes.clone()), &istio(), REVIEWS).0.unwrap();
    assert_eq!(discovery(&cluster), Some(DiscoveryType::OriginalDst));
    assert!(tls_context(cluster.transport_socket.as_ref()).is_some());

    changes.push(pod("bare", "10.1.0.3", false));
    changes.push(slice(
        "reviews",
        &[("reviews-1", "10.1.0.2", true), ("bare", "10.1.0.3", true)],
    ));
    let cluster = find(&mesh(changes), &istio(), REVIEWS).0.unwrap();
    assert_eq!(cluster.transport_socket, None);
}

#[test]
fn a_name_without_endpoints_gives_no_cluster() {
    let entry = |endpoints: &str| {
        object(
            Kind::ServiceEntry,
            "ext",
            &format!(
                r#""spec": {{"hosts": ["api.example.com"], "resolution": "DNS", "ports":
                    [{{"number": 80, "name": "http", "protocol": "HTTP"}}]{endpoints}}}"#
            ),
        )
    };
    let name = "outbound|80||api.example.com";
    let cluster = find(&mesh(vec![entry("")]), &istio(), name).0.unwrap();
    assert_eq!(discovery(&cluster), Some(DiscoveryType::StrictDns));
    let nobody = entry(r#", "workloadSelector": {"labels": {"app": "nobody"}}"#);
    assert_eq!(find(&mesh(vec![nobody]), &istio(), name).0, None);
}

/// The hash of each cluster's inputs, and the inputs of all endpoints.
fn all(mesh: &MeshSnapshot, proxy: &Proxy) -> (Vec<u128>, Vec<EndpointInputs>) {
    let scope = scope(mesh, proxy);
    let clusters = cluster_inputs(mesh, &scope);
    (
        clusters.iter().map(hash128).collect(),
        endpoint_inputs(mesh, &scope),
    )
}

#[test]
fn the_clients_place_counts_only_where_it_acts() {
    let (east, west) = (proxy("", "east"), proxy("", "west"));
    let mesh_without = mesh(reviews());
    assert_eq!(all(&mesh_without, &east), all(&mesh_without, &west));

    let mut changes = reviews();
    changes.push(rule(
        r#"{"host": "reviews", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}}}"#,
    ));
    let mesh_with = mesh(changes);
    let (of_east, of_west) = (all(&mesh_with, &east), all(&mesh_with, &west));
    assert_eq!(of_east.0, of_west.0);
    assert_ne!(of_east.1, of_west.1);
}

#[test]
fn endpoints_come_and_go_without_a_change_of_clusters() {
    let mut changes = reviews();
    changes.push(pod("reviews-2", "10.1.0.3", true));
    let before = all(&mesh(changes.clone()), &istio());
    changes.push(slice(
        "reviews",
        &[
            ("reviews-1", "10.1.0.2", true),
            ("reviews-2", "10.1.0.3", true),
        ],
    ));
    let mesh = mesh(changes);
    let after = all(&mesh, &istio());
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1);
    let scope = scope(&mesh, &istio());
    assert_eq!(
        service_endpoint_inputs(&mesh, &scope, scope.services.iter().take(1)),
        after.1
    );
}

#[test]
fn the_first_service_of_a_workload_port_is_the_oldest_then_by_host() {
    let spec = |port: u32| {
        format!(
            r#"{{"clusterIP": "10.0.0.{port}", "selector": {{"app": "web"}},
                "ports": [{{"name": "http", "port": {port}, "targetPort": 8080}}]}}"#
        )
    };
    let mesh = mesh(vec![service("web", &spec(80)), service("web-b", &spec(81))]);
    let own = proxy(r#", "LABELS": {"app": "web"}"#, "");
    let inputs = inbound_cluster_inputs(&mesh, &scope(&mesh, &own), &own);
    let names: Vec<_> = inputs.iter().map(ClusterInputs::name).collect();
    assert_eq!(names, ["inbound|8080||"]);
    let metadata = build_cluster(&inputs[0])
        .0
        .unwrap()
        .message()
        .metadata
        .unwrap();
    // `web-b.shop…` is before `web.shop…`; the service of another port is not told.
    let told = format!("{metadata:?}");
    assert!(told.contains("web-b.shop.svc.cluster.local"));
    assert!(!told.contains("\"web.shop.svc.cluster.local"));
}

#[test]
fn headless_names_are_those_of_pods_that_are_ready() {
    let headless = r#"{"clusterIP": "None", "selector": {"app": "reviews"},
        "ports": [{"name": "http", "port": 80}]}"#;
    let mesh = mesh(vec![
        service("db", headless),
        pod("db-0", "10.1.0.2", true),
        pod("db-1", "10.1.0.3", true),
        slice(
            "db",
            &[("db-0", "10.1.0.2", true), ("db-1", "10.1.0.3", false)],
        ),
    ]);
    let table = build_name_table(&name_table_inputs(&mesh, &scope(&mesh, &istio()))).table;
    let names: Vec<_> = table.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "db-0.db.shop.svc.cluster.local",
            "db.shop.svc.cluster.local"
        ]
    );
    assert_eq!(table["db.shop.svc.cluster.local"].ips, ["10.1.0.2"]);
    assert_eq!(table["db-0.db.shop.svc.cluster.local"].shortname, "db-0.db");
}
