//! `serviceentry-workloadentry`: entries that select WorkloadEntries, ten for each.

use navarch_model::Kind;
use navarch_snapshot::Batch;
use serde_json::json;

use super::object::{ALL_PORTS, object, own_service, ports};

/// Istio's 100 services have 1,000 workloads.
const WORKLOADS_PER_SERVICE: usize = 10;

/// The objects.
pub(super) fn batch(n_services: usize) -> Batch {
    let labels = json!({"security.istio.io/tlsMode": "istio"});
    let service = |i| {
        let spec = json!({
            "hosts": [format!("random-{i}.host.example")], "ports": ports(ALL_PORTS),
            "resolution": "STATIC", "location": "MESH_INTERNAL",
            "workloadSelector": {"labels": {"app": format!("random-{i}")}},
        });
        object(
            Kind::ServiceEntry,
            "default",
            &format!("service-{i}"),
            &spec,
        )
    };
    let workload = |j| {
        let spec = json!({
            "serviceAccount": "random", "address": "10.10.10.10",
            "labels": {"app": format!("random-{}", j % n_services)},
        });
        object(
            Kind::WorkloadEntry,
            "default",
            &format!("random-{j}"),
            &spec,
        )
    };
    [own_service(ALL_PORTS, "MESH_INTERNAL", &labels)]
        .into_iter()
        .chain((0..n_services).map(service))
        .chain((0..n_services * WORKLOADS_PER_SERVICE).map(workload))
        .collect()
}
