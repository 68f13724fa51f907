//! Envoy's own listeners: its metrics, and readiness, which is asked through Envoy so that Envoy must be live.

use serde_json::{Value, json};

use crate::cluster::{AGENT_CLUSTER, STATS_CLUSTER};
use crate::plan::{Address, AgentPlan};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

pub(crate) fn build_listeners(agent: &AgentPlan, admin: &Address) -> Vec<Value> {
    let mut made = vec![forwarder(
        agent,
        "stats",
        agent.envoy_prometheus_port,
        &["/stats/prometheus"],
        STATS_CLUSTER,
    )];
    // Where Envoy's admin and the status port are one, the port answers for itself.
    if agent.envoy_status_port != admin.port {
        made.push(forwarder(
            agent,
            "agent",
            agent.envoy_status_port,
            &["/healthz/ready"],
            AGENT_CLUSTER,
        ));
    }
    made
}

/// A listener that leads some paths to a cluster and knows no other.
fn forwarder(agent: &AgentPlan, name: &str, port: u16, paths: &[&str], cluster: &str) -> Value {
    let route =
        |path: &&str| json!({ "match": { "prefix": path }, "route": { "cluster": cluster } });
    let routes: Vec<Value> = paths.iter().map(route).collect();
    let manager = json!({
        "@type": MANAGER,
        "codec_type": "AUTO",
        "stat_prefix": name,
        "route_config": { "virtual_hosts": [
            { "name": "backend", "domains": ["*"], "routes": routes },
        ]},
        "http_filters": [
            { "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } },
        ],
    });
    json!({
        "address": Address::new(agent.wildcard(), port).socket_address(),
        "filter_chains": [{ "filters": [
            { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager },
        ]}],
    })
}
