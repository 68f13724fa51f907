//! `gateways`: a Gateway of eight servers for each VirtualService; `gateways-shared`: one Gateway for all.

use navarch_model::Kind;
use navarch_snapshot::{Batch, Change};
use serde_json::{Value, json};

use super::object::{HTTP, Port, object, own_service, random_service};

const GATEWAY_PORTS: &[Port] = &[(80, "http", "HTTP"), (443, "https", "HTTPS")];
/// Servers of port 443 with a certificate in files, besides the one of mutual TLS.
const N_SIMPLE: usize = 6;

/// Each Gateway with hosts of its own.
pub(super) fn separate(n_services: usize) -> Batch {
    [own()]
        .into_iter()
        .chain((0..n_services).flat_map(|i| {
            let hosts = json!([
                format!("random-a-{i}.host.example"),
                format!("random-b-{i}.host.example"),
                format!("random-c-{i}.host.example"),
            ]);
            let matches = json!([{"uri": {"prefix": format!("/route-{i}")}}]);
            [
                rule(i, &format!("gateway/gateway-{i}"), &hosts, &matches),
                gateway(&format!("gateway-{i}"), &hosts, N_SIMPLE),
                random_service(i, HTTP),
            ]
        }))
        .collect()
}

/// All VirtualServices on the same three hosts.
pub(super) fn shared(n_services: usize) -> Batch {
    let hosts = json!([
        "random-1.host.example",
        "random-2.host.example",
        "random-3.host.example",
    ]);
    [own(), gateway("gateway", &hosts, 0)]
        .into_iter()
        .chain((0..n_services).flat_map(|i| {
            let matches: Value = ["a", "b", "c", "d", "e", "f"]
                .into_iter()
                .map(|letter| json!({"uri": {"prefix": format!("/route-{letter}-{i}")}}))
                .collect();
            [
                rule(i, "gateway/gateway", &hosts, &matches),
                random_service(i, HTTP),
            ]
        }))
        .collect()
}

fn own() -> Change {
    let labels = json!({"istio.io/benchmark": "true"});
    own_service(GATEWAY_PORTS, "MESH_EXTERNAL", &labels)
}

fn rule(i: usize, gateway: &str, hosts: &Value, matches: &Value) -> Change {
    let route = json!([{"destination": {"host": format!("random-{i}.host.example")}}]);
    let spec = json!({
        "hosts": hosts, "gateways": [gateway], "http": [{"match": matches, "route": route}],
    });
    object(Kind::VirtualService, "gateway", &format!("vs-{i}"), &spec)
}

fn gateway(name: &str, hosts: &Value, n_simple: usize) -> Change {
    let server = |number: u16, name: &str, protocol: &str, tls: &Value| {
        let port = json!({"number": number, "name": name, "protocol": protocol});
        let mut server = json!({"port": port, "hosts": hosts});
        if !tls.is_null() {
            server["tls"] = tls.clone();
        }
        server
    };
    let mut servers = vec![
        server(80, "http", "HTTP", &Value::Null),
        server(443, "https", "HTTPS", &json!({"mode": "ISTIO_MUTUAL"})),
    ];
    let simple = json!({
        "mode": "SIMPLE", "serverCertificate": "/etc/certs/servercert.pem",
        "privateKey": "/etc/certs/privatekey.pem",
    });
    servers.extend(
        (1..=n_simple).map(|k| server(443, &format!("https-simple-{k}"), "HTTPS", &simple)),
    );
    let spec = json!({"selector": {"istio.io/benchmark": "true"}, "servers": servers});
    object(Kind::Gateway, "gateway", name, &spec)
}
