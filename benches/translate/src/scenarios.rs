//! The scenarios, by Istio's names and in the shapes of its templates.
//!
//! Source: istio `pilot/pkg/xds/bench_test.go`, `pilot/pkg/xds/testdata/benchmarks/`.

mod gateways;
mod knative;
mod object;
mod protocols;
mod rules;
mod workloads;

use navarch_model::Proxy;
use navarch_snapshot::Batch;
use serde_json::json;

/// One of Istio's benchmark scenarios.
#[derive(Debug)]
pub struct Scenario {
    /// Istio's name.
    pub name: &'static str,
    /// Istio's number of services.
    pub n_services: usize,
    /// Whether the proxy is a gateway.
    pub is_gateway: bool,
    /// The objects, for a number of services.
    pub batch: fn(usize) -> Batch,
}

impl Scenario {
    const fn sidecar(name: &'static str, batch: fn(usize) -> Batch) -> Self {
        Self {
            name,
            n_services: 100,
            is_gateway: false,
            batch,
        }
    }

    const fn gateway(name: &'static str, n_services: usize, batch: fn(usize) -> Batch) -> Self {
        Self {
            name,
            n_services,
            is_gateway: true,
            batch,
        }
    }

    /// The scenario of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// The proxy that asks: `1.1.1.1`, which is an endpoint of every scenario.
    pub fn proxy(&self) -> Proxy {
        let kind = if self.is_gateway { "router" } else { "sidecar" };
        let node = json!({
            "id": format!("{kind}~1.1.1.1~v0.default~default.example.org"),
            "metadata": {
                "NAMESPACE": "default", "ISTIO_VERSION": "1.32.0", "CLUSTER_ID": "Kubernetes",
                "INSTANCE_IPS": "1.1.1.1", "LABELS": {"istio.io/benchmark": "true"},
            },
        });
        Proxy::from_node_json(node.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("the node can't be read: {error}"))
    }
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario::gateway("gateways", 1000, gateways::separate),
    Scenario::gateway("gateways-shared", 1000, gateways::shared),
    Scenario::gateway("knative-gateway", 100, knative::batch),
    Scenario::sidecar("http", protocols::http),
    Scenario::sidecar("tcp", protocols::tcp),
    Scenario::sidecar("tls", rules::tls),
    Scenario::sidecar("auto", protocols::auto),
    Scenario::sidecar("externalname", protocols::external_name),
    Scenario::sidecar("virtualservice", rules::virtual_service),
    Scenario::sidecar("serviceentry-workloadentry", workloads::batch),
];
