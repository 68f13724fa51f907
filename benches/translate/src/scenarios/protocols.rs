//! `http`, `tcp`, `auto`: services of one protocol, each with its own address; `externalname`: aliases.

use navarch_model::Kind;
use navarch_snapshot::{Batch, Change};
use serde_json::json;

use super::object::{HTTP, Port, object, own_service, ports};

/// Of HTTP on port 80.
pub(super) fn http(n_services: usize) -> Batch {
    batch(n_services, HTTP)
}

/// Of TCP.
pub(super) fn tcp(n_services: usize) -> Batch {
    batch(n_services, &[(7070, "tcp", "TCP")])
}

/// Of a protocol that has to be told from the first bytes.
pub(super) fn auto(n_services: usize) -> Batch {
    batch(n_services, &[(7070, "auto", "")])
}

/// Kubernetes Services that stand for names outside.
pub(super) fn external_name(n_services: usize) -> Batch {
    let alias = |i| {
        let spec = json!({
            "type": "ExternalName", "externalName": format!("random-{i}.example.com"),
            "ports": [{"port": 80, "name": "http"}],
        });
        object(Kind::Service, "default", &format!("service-{i}"), &spec)
    };
    [own(HTTP)]
        .into_iter()
        .chain((0..n_services).map(alias))
        .collect()
}

fn own(own_ports: &[Port]) -> Change {
    let labels = json!({"security.istio.io/tlsMode": "istio"});
    own_service(own_ports, "MESH_INTERNAL", &labels)
}

fn batch(n_services: usize, all_ports: &[Port]) -> Batch {
    let service = |i: usize| {
        let (high, low) = (i / 255, i % 255);
        let spec = json!({
            "addresses": [format!("240.240.{high}.{low}")], "hosts": [format!("random-{i}.host.example")],
            "ports": ports(all_ports), "resolution": "STATIC", "location": "MESH_INTERNAL",
            "endpoints": [{
                "address": format!("240.241.{high}.{low}"), "labels": {"security.istio.io/tlsMode": "istio"},
            }],
        });
        object(
            Kind::ServiceEntry,
            "default",
            &format!("service-{i}"),
            &spec,
        )
    };
    [own(all_ports)]
        .into_iter()
        .chain((0..n_services).map(service))
        .collect()
}
