//! The static clusters: the control plane, and what an agent serves.

use serde_json::{Value, json};

use crate::N_CONNECTIONS;
use crate::node::Node;
use crate::plan::{Address, AgentPlan, Discovery, Plan};

/// The static cluster of the control plane; Istio's name, so that its tools find it.
pub const ADS_CLUSTER: &str = "xds-grpc";
/// The static cluster of the agent's secret service; translated configuration names it.
pub const SDS_CLUSTER: &str = "sds-grpc";
/// The static cluster of a proxy's own kind, by which Envoy knows how its zones are peopled.
pub(crate) const LOCAL_CLUSTER: &str = "local_cluster";
pub(crate) const STATS_CLUSTER: &str = "prometheus_stats";
pub(crate) const AGENT_CLUSTER: &str = "agent";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn ads_source() -> Value {
    json!({ "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" })
}

pub(crate) fn build_clusters(plan: &Plan) -> Vec<Value> {
    let mut made = vec![control_plane(&plan.discovery)];
    if has_local_cluster(&plan.node) {
        made.push(local_cluster());
    }
    if let Some(agent) = &plan.agent {
        made.extend(agent_clusters(agent, &plan.admin));
    }
    made
}

/// Whether the proxy discovers its own workload: zone-aware balancing wants it.
pub(crate) fn has_local_cluster(node: &Node) -> bool {
    let told = match node.metadata.get("ENABLE_SELF_DISCOVERY") {
        Some(Value::Bool(told)) => *told,
        Some(Value::String(told)) => matches!(told.to_lowercase().as_str(), "true" | "1"),
        Some(Value::Number(told)) => told.as_i64() == Some(1),
        _ => false,
    };
    node.proxy_type == "sidecar" && told
}

/// The control plane over HTTP/2 with keepalive, found by DNS where it is no address.
fn control_plane(discovery: &Discovery) -> Value {
    let mut http2 = json!({});
    let (kind, address) = match discovery {
        Discovery::Pipe(path) => ("STATIC", pipe(path)),
        Discovery::Address(address) => {
            // A control plane that is gone without a word is noticed within 40 s.
            http2 = json!({ "connection_keepalive": { "interval": "30s", "timeout": "10s" } });
            (resolution(address), address.socket_address())
        }
    };
    // One control plane that is away must not be shut out by a circuit breaker when it is back.
    let threshold = |priority: &str| {
        json!({
            "priority": priority,
            "max_connections": N_CONNECTIONS,
            "max_pending_requests": N_CONNECTIONS,
            "max_requests": N_CONNECTIONS,
        })
    };
    let mut made = cluster(ADS_CLUSTER, kind, &address);
    made["typed_extension_protocol_options"] = http2_options(&http2);
    made["circuit_breakers"] = json!({ "thresholds": [threshold("DEFAULT"), threshold("HIGH")] });
    made["upstream_connection_options"] =
        json!({ "tcp_keepalive": { "keepalive_time": 300, "keepalive_interval": 30 } });
    made
}

fn resolution(address: &Address) -> &'static str {
    if address.is_numeric() {
        "STATIC"
    } else {
        "STRICT_DNS"
    }
}

fn local_cluster() -> Value {
    json!({
        "name": LOCAL_CLUSTER,
        "type": "EDS",
        "eds_cluster_config": { "eds_config": ads_source() },
        "connect_timeout": "1s",
    })
}

fn agent_clusters(agent: &AgentPlan, admin: &Address) -> Vec<Value> {
    let mut secrets = cluster(SDS_CLUSTER, "STATIC", &pipe(&agent.sds_path));
    secrets["typed_extension_protocol_options"] = http2_options(&json!({}));
    let here = |port| Address::new(agent.localhost(), port).socket_address();
    let mut made = vec![
        secrets,
        cluster(STATS_CLUSTER, "STATIC", &here(admin.port)),
        cluster(AGENT_CLUSTER, "STATIC", &here(agent.status_port)),
    ];
    for remote in &agent.remote_services {
        let address = remote.address.socket_address();
        let mut told = cluster(&remote.cluster, resolution(&remote.address), &address);
        if remote.is_http2 {
            told["typed_extension_protocol_options"] = http2_options(&json!({}));
        }
        if told["type"] == "STRICT_DNS" {
            told["respect_dns_ttl"] = true.into();
        }
        made.push(told);
    }
    made
}

fn cluster(name: &str, kind: &str, address: &Value) -> Value {
    json!({
        "name": name,
        "type": kind,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
    })
}

fn http2_options(http2: &Value) -> Value {
    json!({ HTTP_OPTIONS: {
        "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
        "explicit_http_config": { "http2_protocol_options": http2 },
    }})
}

fn pipe(path: &str) -> Value {
    json!({ "pipe": { "path": path } })
}
