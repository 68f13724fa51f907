//! Endpoints of meshes of several networks, and those that a proxy finds beside itself.

use navarch_envoy::envoy::config::core::v3::address::Address;
use navarch_envoy::envoy::config::core::v3::socket_address::PortSpecifier;
use navarch_envoy::envoy::config::endpoint::v3::LocalityLbEndpoints;
use navarch_envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use navarch_model::{ConfigKey, Kind, Proxy};
use navarch_snapshot::{Change, MeshOptions, MeshSnapshot, MeshStore};

use super::local_cluster::{build_local_cluster, local_cluster_inputs};
use super::{build_load_assignment, endpoint_inputs};

const SERVICE: &str = r#"{"metadata": {"namespace": "shop", "name": "reviews"}, "spec":
    {"clusterIP": "10.96.0.1", "selector": {"app": "reviews"}, "ports": [{"name": "http", "port": 80}]}}"#;
const SLICE: &str = r#"{"metadata": {"namespace": "shop", "name": "reviews-1",
    "labels": {"kubernetes.io/service-name": "reviews"}}, "ports": [{"name": "http", "port": 80}],
    "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true}},
                  {"addresses": ["10.2.0.1"], "conditions": {"ready": true}}]}"#;
const DOOR: &str = r#"{"metadata": {"namespace": "shop", "name": "door"}, "spec":
    {"clusterIP": "10.96.0.2", "externalIPs": ["203.0.113.7"], "ports": [{"name": "tls", "port": 443}]}}"#;
const NETWORKS: &str = r#"{"networks": {
    "near": {"endpoints": [{"fromCidr": "10.1.0.0/16"}]},
    "far": {"endpoints": [{"fromCidr": "10.2.0.0/16"}],
            "gateways": [{"address": "203.0.113.9", "port": 15443}]}}}"#;

fn change(kind: Kind, namespace: &str, name: &str, payload: &str) -> Change {
    Change {
        key: ConfigKey::new(kind, namespace, name),
        payload: Some(payload.as_bytes().to_vec()),
    }
}

fn pod(name: &str, ip: &str, label: &str) -> Change {
    let payload = format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "{name}",
            "labels": {{"app": "reviews", "security.istio.io/tlsMode": "istio"{label}}}}},
            "spec": {{"serviceAccountName": "reviews"}}, "status": {{"phase": "Running", "podIP": "{ip}"}}}}"#
    );
    change(Kind::Pod, "shop", name, &payload)
}

fn base() -> Vec<Change> {
    vec![
        change(Kind::Service, "shop", "reviews", SERVICE),
        change(Kind::EndpointSlice, "shop", "reviews-1", SLICE),
        pod("r1", "10.1.0.1", ""),
        pod("r2", "10.2.0.1", ""),
    ]
}

fn networks(text: &str) -> Change {
    change(Kind::MeshNetworks, "", "mesh", text)
}

fn proxy() -> Proxy {
    let node = r#"{"id": "sidecar~10.1.0.9~web-1.shop~shop.svc.cluster.local",
        "metadata": {"NAMESPACE": "shop", "CLUSTER_ID": "Kubernetes", "NETWORK": "near"}}"#;
    Proxy::from_node_json(node.as_bytes()).unwrap()
}

/// `address:port` of every endpoint, in order.
fn places(localities: &[LocalityLbEndpoints]) -> Vec<String> {
    let endpoints = localities
        .iter()
        .flat_map(|locality| &locality.lb_endpoints);
    let hosts = endpoints.map(|endpoint| match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint.address.as_ref()?.address.as_ref(),
        _ => None,
    });
    let text = |address: Option<&Address>| match address {
        Some(Address::SocketAddress(socket)) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            _ => panic!("no port: {socket:?}"),
        },
        other => panic!("no socket address: {other:?}"),
    };
    hosts.map(text).collect()
}

/// The endpoints of `reviews` as the proxy gets them.
fn endpoints(mesh: &MeshSnapshot) -> Vec<String> {
    let scope = mesh.scope_of(&mesh.group_of(&proxy()));
    let inputs = endpoint_inputs(mesh, &scope);
    let of_reviews = |name: &str| name.contains("reviews");
    let inputs = inputs
        .iter()
        .find(|inputs| of_reviews(&inputs.cluster_name));
    places(&build_load_assignment(inputs.unwrap()).endpoints)
}

fn endpoints_with(more: impl IntoIterator<Item = Change>) -> Vec<String> {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(base().into_iter().chain(more).collect());
    endpoints(&store.snapshot())
}

#[test]
fn endpoints_of_another_subnet_are_reached_by_its_gateway() {
    assert_eq!(endpoints_with([]), ["10.1.0.1:80", "10.2.0.1:80"]);
    assert_eq!(
        endpoints_with([networks(NETWORKS)]),
        ["10.1.0.1:80", "203.0.113.9:15443"]
    );
}

#[test]
fn labels_of_pod_and_system_namespace_count_before_the_networks_file() {
    let label = r#", "topology.istio.io/network": "near""#;
    assert_eq!(
        endpoints_with([networks(NETWORKS), pod("r2", "10.2.0.1", label)]),
        ["10.1.0.1:80", "10.2.0.1:80"]
    );
    let root = r#"{"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "near"}}}"#;
    let root = change(Kind::Namespace, "", "istio-system", root);
    assert_eq!(
        endpoints_with([networks(NETWORKS), root]),
        ["10.1.0.1:80", "10.2.0.1:80"]
    );
}

#[test]
fn a_service_is_the_gateway_of_its_clusters_network_only() {
    let told = |registry: &str| {
        networks(&format!(
            r#"{{"networks": {{"far": {{"endpoints": [{{"fromRegistry": "{registry}"}}],
                "gateways": [{{"registryServiceName": "door.shop.svc.cluster.local", "port": 443}}]}}}}}}"#
        ))
    };
    let door = || change(Kind::Service, "shop", "door", DOOR);
    assert_eq!(
        endpoints_with([door(), told("Kubernetes")]),
        ["203.0.113.7:443"]
    );
    assert_eq!(
        endpoints_with([door(), told("elsewhere")]),
        ["10.1.0.1:80", "10.2.0.1:80"]
    );
}

#[test]
fn networks_change_and_go_with_their_file() {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(base());
    let changes = store.apply(vec![networks(NETWORKS)]);
    assert!(changes.is_configuration);
    assert_eq!(
        endpoints(&store.snapshot()),
        ["10.1.0.1:80", "203.0.113.9:15443"]
    );
    store.apply(vec![Change {
        key: ConfigKey::new(Kind::MeshNetworks, "", "mesh"),
        payload: None,
    }]);
    assert_eq!(endpoints(&store.snapshot()), ["10.1.0.1:80", "10.2.0.1:80"]);
}

const NODES: [(&str, &str); 3] = [("east", "a"), ("east", "b"), ("west", "a")];

/// Pods of a rollout, each on the Node of its index.
fn rollout(owner: &str, hash: &str, ips: [&str; 3]) -> Vec<Change> {
    let pods = ips.iter().enumerate().map(|(i, ip)| {
        let payload = format!(
            r#"{{"metadata": {{"namespace": "shop", "name": "{owner}-{hash}-{i}", "generateName": "{owner}-{hash}-",
                "ownerReferences": [{{"kind": "ReplicaSet", "name": "{owner}-{hash}", "controller": true}}],
                "labels": {{"app": "reviews", "pod-template-hash": "{hash}"}}}},
                "spec": {{"nodeName": "n{i}"}}, "status": {{"phase": "Running", "podIP": "{ip}"}}}}"#
        );
        change(Kind::Pod, "shop", &format!("{owner}-{hash}-{i}"), &payload)
    });
    pods.collect()
}

#[test]
fn a_proxy_that_discovers_itself_gets_its_own_rollout_in_its_region() {
    let mut batch = vec![change(Kind::Service, "shop", "reviews", SERVICE)];
    for (i, (region, zone)) in NODES.iter().enumerate() {
        let payload = format!(
            r#"{{"metadata": {{"name": "n{i}", "labels": {{"topology.kubernetes.io/region": "{region}",
                "topology.kubernetes.io/zone": "{zone}"}}}}}}"#
        );
        batch.push(change(Kind::Node, "", &format!("n{i}"), &payload));
    }
    batch.extend(rollout(
        "reviews",
        "abc",
        ["10.1.0.1", "10.1.0.2", "10.1.0.3"],
    ));
    batch.extend(rollout(
        "reviews",
        "def",
        ["10.1.1.1", "10.1.1.2", "10.1.1.3"],
    ));
    batch.extend(rollout(
        "other",
        "abc",
        ["10.1.2.1", "10.1.2.2", "10.1.2.3"],
    ));
    let ips = (0..3).flat_map(|rollout| (1..4).map(move |i| format!("10.1.{rollout}.{i}")));
    let endpoints: Vec<String> = ips
        .map(|ip| format!(r#"{{"addresses": ["{ip}"], "conditions": {{"ready": true}}}}"#))
        .collect();
    let slice = format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "s", "labels": {{"kubernetes.io/service-name": "reviews"}}}},
            "ports": [{{"name": "http", "port": 8080}}, {{"name": "other", "port": 9090}}],
            "endpoints": [{}]}}"#,
        endpoints.join(",")
    );
    batch.push(change(Kind::EndpointSlice, "shop", "s", &slice));
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(batch);
    let mesh = store.snapshot();
    let node = |metadata: &str| {
        let node = format!(
            r#"{{"id": "sidecar~10.1.0.1~reviews-abc-0.shop~shop.svc.cluster.local",
                "metadata": {{"NAMESPACE": "shop"{metadata}}}}}"#
        );
        Proxy::from_node_json(node.as_bytes()).unwrap()
    };
    let asks = node(r#", "ENABLE_SELF_DISCOVERY": "true""#);
    let inputs = local_cluster_inputs(&mesh, &asks).unwrap();
    let made = build_local_cluster(&inputs);
    assert_eq!(made.cluster_name, "local_cluster");
    assert_eq!(places(&made.endpoints), ["10.1.0.1:80", "10.1.0.2:80"]);
    let zones = made.endpoints.iter().flat_map(|of| &of.locality);
    let zones: Vec<&str> = zones.map(|locality| locality.zone.as_str()).collect();
    assert_eq!(zones, ["a", "b"]);
    assert!(local_cluster_inputs(&mesh, &node("")).is_none());
}
