//! The mesh behind the streams: what a change touches, and what is left behind by proxies that go.

use navarch_encode::ResourceSnapshot;
use navarch_envoy::TypeUrl;
use navarch_model::{ConfigKey, Kind, Proxy, Shared};
use navarch_serve::{MeshEpochs, ResourceSource, Touched, Trigger};
use navarch_snapshot::{Change, MeshOptions};

const SERVICE: &str = r#"{"metadata": {"namespace": "shop", "name": "web"}, "spec":
    {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}}"#;

fn change(kind: Kind, name: &str, payload: &str) -> Change {
    Change {
        key: ConfigKey::new(kind, "shop", name),
        payload: Some(payload.as_bytes().to_vec()),
    }
}

fn slice(ips: &[&str]) -> Change {
    let endpoints = ips.iter().map(|ip| format!(r#"{{"addresses": ["{ip}"]}}"#));
    let endpoints: Vec<String> = endpoints.collect();
    let payload = format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "web-1", "labels": {{"kubernetes.io/service-name": "web"}}}},
            "ports": [{{"name": "http", "port": 8080}}], "endpoints": [{}]}}"#,
        endpoints.join(",")
    );
    change(Kind::EndpointSlice, "web-1", &payload)
}

fn pod(name: &str, ip: &str) -> Change {
    let payload = format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "{name}", "labels": {{"app": "web"}}}},
            "status": {{"phase": "Running", "podIP": "{ip}"}}}}"#
    );
    change(Kind::Pod, name, &payload)
}

fn proxy(ip: &str, namespace: &str, metadata: &str) -> Shared<Proxy> {
    let node = format!(
        r#"{{"id": "sidecar~{ip}~p-1.{namespace}~{namespace}.svc.cluster.local",
            "metadata": {{"NAMESPACE": "{namespace}", "LABELS": {{"app": "web"}}{metadata}}}}}"#
    );
    Shared::new(Proxy::from_node_json(node.as_bytes()).unwrap())
}

fn mesh() -> MeshEpochs {
    let epochs = MeshEpochs::new(MeshOptions::default());
    let pods = [pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.2")];
    let rest = [change(Kind::Service, "web", SERVICE), slice(&["10.1.0.1"])];
    epochs.apply(rest.into_iter().chain(pods).collect());
    assert_eq!(trigger(&epochs), Some(Trigger::Config));
    epochs
}

fn trigger(epochs: &MeshEpochs) -> Option<Trigger> {
    epochs.begin_push().map(|push| push.trigger)
}

/// How many addresses of a load assignment the text of its bytes has.
fn has_address(snapshot: &ResourceSnapshot, name: &str, ip: &str) -> bool {
    let assignment = snapshot.resources(TypeUrl::Endpoint).find(name).unwrap();
    let bytes = assignment.message_bytes();
    bytes
        .windows(ip.len())
        .any(|window| window == ip.as_bytes())
}

#[test]
fn proxies_that_are_gone_leave_nothing_behind() {
    let epochs = mesh();
    let (stays, goes) = (
        proxy("10.1.0.1", "shop", ""),
        proxy("10.9.0.1", "other", ""),
    );
    epochs.snapshot_for(&stays);
    epochs.snapshot_for(&goes);
    assert_eq!(epochs.n_groups(), 2);
    epochs.forget(&[goes]);
    assert_eq!(epochs.n_groups(), 1);
    epochs.forget(&[stays]);
    assert_eq!(epochs.n_groups(), 0);
}

#[test]
fn a_push_tells_endpoints_from_configuration() {
    let epochs = mesh();
    assert_eq!(trigger(&epochs), None);
    epochs.apply(vec![slice(&["10.1.0.1", "10.1.0.2"])]);
    assert_eq!(trigger(&epochs), Some(Trigger::Endpoint));
    epochs.apply(vec![change(Kind::Service, "more", SERVICE)]);
    epochs.apply(vec![slice(&["10.1.0.1"])]);
    assert_eq!(trigger(&epochs), Some(Trigger::Config));
}

#[test]
fn endpoints_alone_are_taken_into_a_push_under_way() {
    let epochs = mesh();
    let client = proxy("10.9.0.1", "shop", "");
    let name = "outbound|80||web.shop.svc.cluster.local";
    assert!(!has_address(
        &epochs.snapshot_for(&client),
        name,
        "10.1.0.2"
    ));
    assert!(epochs.take_endpoints().is_none());
    epochs.apply(vec![slice(&["10.1.0.1", "10.1.0.2"])]);
    assert!(epochs.take_endpoints().is_some());
    assert!(has_address(&epochs.snapshot_for(&client), name, "10.1.0.2"));

    epochs.apply(vec![slice(&["10.1.0.1"])]);
    epochs.apply(vec![change(Kind::Service, "more", SERVICE)]);
    let taken = epochs.take_endpoints();
    assert!(taken.is_none(), "configuration waits for its push");
    assert!(has_address(&epochs.snapshot_for(&client), name, "10.1.0.2"));
}

#[test]
fn a_proxy_that_discovers_itself_follows_its_own_kind() {
    let epochs = mesh();
    let told = r#", "ENABLE_SELF_DISCOVERY": "true", "WORKLOAD_NAME": "web-1""#;
    let asks = proxy("10.1.0.1", "shop", told);
    assert!(has_address(
        &epochs.snapshot_for(&asks),
        "local_cluster",
        "10.1.0.1"
    ));
    let plain = epochs.snapshot_for(&proxy("10.1.0.1", "shop", ""));
    assert!(
        plain
            .resources(TypeUrl::Endpoint)
            .find("local_cluster")
            .is_none()
    );
    epochs.apply(vec![slice(&["10.1.0.2"])]);
    epochs.begin_push();
    assert!(!has_address(
        &epochs.snapshot_for(&asks),
        "local_cluster",
        "10.1.0.1"
    ));
    let (offline, _) = epochs.translate(&asks);
    assert!(
        offline
            .resources(TypeUrl::Endpoint)
            .find("local_cluster")
            .is_none()
    );
}

/// A change is worked on for the groups and proxies that it may touch, and for no other.
#[test]
fn untouched_groups_are_not_looked_at() {
    let epochs = mesh();
    let sidecar = r#"{"metadata": {"namespace": "other", "name": "default"},
        "spec": {"egress": [{"hosts": ["./*"]}]}}"#;
    let key = ConfigKey::new(Kind::Sidecar, "other", "default");
    let payload = Some(sidecar.as_bytes().to_vec());
    epochs.apply(vec![Change { key, payload }]);
    epochs.begin_push();
    let (sees, scoped) = (
        proxy("10.1.0.1", "shop", ""),
        proxy("10.9.0.1", "other", ""),
    );
    let lead = || {
        epochs.snapshot_for(&sees);
        epochs.snapshot_for(&scoped);
        epochs.work()
    };
    let before = lead();
    let touched = |changes: Vec<Change>| {
        epochs.apply(changes);
        epochs.begin_push().map(|push| push.touched)
    };
    let only_one = Some(Touched::Proxies(vec![sees.hash128()]));
    let more = SERVICE.replace(r#""name": "web""#, r#""name": "more""#);
    let more = change(Kind::Service, "more", &more);
    assert_eq!(touched(vec![more]), only_one);
    assert_eq!(lead(), (before.0 + 1, before.1 + 1));
    assert_eq!(touched(vec![slice(&["10.1.0.1", "10.1.0.2"])]), only_one);
    assert_eq!(lead(), (before.0 + 2, before.1 + 2));
    let nobodys =
        r#"{"metadata": {"namespace": "shop", "name": "rule"}, "spec": {"host": "nobody"}}"#;
    let rule = change(Kind::DestinationRule, "rule", nobodys);
    assert_eq!(touched(vec![rule]), Some(Touched::Proxies(Vec::new())));
    assert_eq!(lead(), (before.0 + 2, before.1 + 2));
}
