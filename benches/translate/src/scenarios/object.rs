//! Objects as short as the scenarios want them.

use navarch_model::{ConfigKey, Kind};
use navarch_snapshot::Change;
use serde_json::{Value, json};

/// An object of Istio's APIs.
pub(super) fn object(kind: Kind, namespace: &str, name: &str, spec: &Value) -> Change {
    let object = json!({
        "kind": kind.as_str(),
        "metadata": {
            "namespace": namespace, "name": name, "creationTimestamp": "2023-11-14T22:13:20Z",
        },
        "spec": spec,
    });
    Change {
        key: ConfigKey::new(kind, namespace, name),
        payload: Some(object.to_string().into_bytes()),
    }
}

/// One port of an entry: number, name, protocol.
pub(super) type Port = (u16, &'static str, &'static str);

/// The ports of an entry, as its spec has them.
pub(super) fn ports(ports: &[Port]) -> Value {
    ports
        .iter()
        .map(|(number, name, protocol)| json!({"number": number, "name": name, "protocol": protocol}))
        .collect()
}

/// The entry `proxy-service-instance`, of which the proxy is the only endpoint.
pub(super) fn own_service(own_ports: &[Port], location: &str, labels: &Value) -> Change {
    let spec = json!({
        "hosts": ["example.com"], "ports": ports(own_ports), "resolution": "STATIC",
        "location": location, "endpoints": [{"address": "1.1.1.1", "labels": labels}],
    });
    object(
        Kind::ServiceEntry,
        "default",
        "proxy-service-instance",
        &spec,
    )
}

/// The entry `service-<i>` with the host `random-<i>.host.example` and one endpoint that all share.
pub(super) fn random_service(i: usize, random_ports: &[Port]) -> Change {
    let spec = json!({
        "hosts": [format!("random-{i}.host.example")], "ports": ports(random_ports),
        "location": "MESH_EXTERNAL", "resolution": "STATIC", "endpoints": [{"address": "1.2.3.4"}],
    });
    object(
        Kind::ServiceEntry,
        "default",
        &format!("service-{i}"),
        &spec,
    )
}

/// A port for each way in which a protocol is told.
pub(super) const ALL_PORTS: &[Port] = &[
    (80, "http", "HTTP"),
    (7070, "tcp", "TCP"),
    (443, "https", "HTTPS"),
    (9090, "auto", ""),
];
/// The one port of most scenarios.
pub(super) const HTTP: &[Port] = &[(80, "http", "HTTP")];
