//! Objects of the namespace `shop`, as short as tests want them.

use serde_json::{Value, json};

/// An object of a kind of Istio's networking API.
pub fn networking(kind: &str, name: &str, spec: &Value) -> Value {
    object("networking.istio.io/v1", kind, name, spec)
}

/// An object of any kind.
pub fn object(api_version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    })
}

/// A Service with a selector by `app` and ports given as `(name, port, target port)`; "None" makes it headless.
pub fn service(name: &str, cluster_ip: &str, ports: &[(&str, u16, u16)]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target}))
        .collect();
    object(
        "v1",
        "Service",
        name,
        &json!({
            "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "selector": {"app": name}, "ports": ports,
        }),
    )
}

/// The EndpointSlice of a Service, ports given as `(name, target port)`.
pub fn endpoint_slice(service: &str, ports: &[(&str, u16)], ips: &[&str]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port)| json!({"name": name, "port": port}))
        .collect();
    let endpoints: Vec<Value> = ips
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": ports, "endpoints": endpoints,
    })
}

/// A running Pod with a sidecar, labelled `app` and `version`.
pub fn pod(name: &str, ip: &str, app: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": {"app": app, "version": version, "security.istio.io/tlsMode": "istio"},
        },
        "spec": {"serviceAccountName": app},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running"},
    })
}
