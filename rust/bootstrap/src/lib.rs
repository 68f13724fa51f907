//! What an Envoy must be told to start with: who it is, where its control plane and its agent are.
//!
//! **In:** a [`Plan`]: the node, the addresses, and with an agent what `ProxyConfig` says of the process.
//! **Out:** a [`Bootstrap`] as protobuf JSON, or which part of the node is missing or malformed.
//! **Never:** I/O, environment, clock; what the control plane sends later.

mod cluster;
mod listener;
mod node;
mod plan;
mod stats;

use serde::Serialize;
use serde_json::{Value, json};

pub use cluster::{ADS_CLUSTER, SDS_CLUSTER};
pub use node::{Node, build_node};
pub use plan::{Address, AgentPlan, Discovery, Plan, RemoteService};

const CONNECTION_MONITOR: &str = "envoy.resource_monitors.global_downstream_max_connections";
const CONNECTION_LIMIT: &str = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";
const TYPED_STRUCT: &str = "type.googleapis.com/udpa.type.v1.TypedStruct";
const INTERNAL_LISTENER: &str =
    "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener";
const FILE_ACCESS_LOG: &str =
    "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
/// How many connections, or requests to the control plane, are never reached in earnest.
const N_CONNECTIONS: u32 = 100_000;
/// Envoy's own limit of 100 refuses as little as `[0-9a-f]{64}`; this one is that of Istio's bootstrap.
const REGEX_PROGRAM_SIZE: u32 = 32_768;

/// Why there is no bootstrap.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The node's id is not of four parts, or of an unknown type.
    #[error(
        "the node's id (--node-id) {0:?} must be TYPE~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN with TYPE sidecar or router"
    )]
    MalformedId(String),
    /// Neither an id nor all parts of one.
    #[error("give --node-id, or {} too", .0.join(", "))]
    MissingParts(Vec<&'static str>),
}

/// A bootstrap as protobuf JSON, its parts in the order that people read them in.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of Envoy's message")]
pub struct Bootstrap {
    pub node: Value,
    pub admin: Value,
    pub dynamic_resources: Value,
    pub static_resources: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub cluster_manager: Value,
    pub overload_manager: Value,
    pub layered_runtime: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub stats_config: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub bootstrap_extensions: Value,
}

/// Make a bootstrap.
///
/// # Errors
/// The node's id is malformed, or parts of it are missing.
pub fn build(plan: &Plan) -> Result<Bootstrap, BootstrapError> {
    let mut static_resources = json!({ "clusters": cluster::build_clusters(plan) });
    let agent = plan.agent.as_ref();
    if let Some(agent) = agent {
        static_resources["listeners"] = listener::build_listeners(agent, &plan.admin).into();
    }
    let has_local = cluster::has_local_cluster(&plan.node);
    Ok(Bootstrap {
        node: build_node(&plan.node)?,
        admin: admin(plan),
        dynamic_resources: dynamic_resources(plan.is_delta),
        static_resources,
        cluster_manager: if has_local {
            json!({ "local_cluster_name": cluster::LOCAL_CLUSTER })
        } else {
            Value::Null
        },
        overload_manager: json!({ "resource_monitors": [connection_monitor(agent)] }),
        layered_runtime: layered_runtime(agent),
        stats_config: agent.map_or(Value::Null, stats::build_stats_config),
        bootstrap_extensions: agent.map_or(Value::Null, |_| json!([internal_listener()])),
    })
}

fn admin(plan: &Plan) -> Value {
    let mut made = json!({ "address": plan.admin.socket_address() });
    if plan.agent.is_some() {
        made["access_log"] = json!([{
            "name": "envoy.access_loggers.file",
            "typed_config": { "@type": FILE_ACCESS_LOG, "path": "/dev/null" },
        }]);
    }
    made
}

fn dynamic_resources(is_delta: bool) -> Value {
    let source = cluster::ads_source();
    json!({
        "ads_config": {
            "api_type": if is_delta { "DELTA_GRPC" } else { "GRPC" },
            "transport_api_version": "V3",
            // Each node of Envoy's is known from the stream's first request on.
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": ADS_CLUSTER } }],
        },
        "cds_config": source,
        "lds_config": source,
    })
}

/// The limit of all listeners' connections together, which Envoy asks every edge proxy to have.
fn connection_monitor(agent: Option<&AgentPlan>) -> Value {
    let told = agent.and_then(|agent| agent.max_connections);
    json!({
        "name": CONNECTION_MONITOR,
        "typed_config": {
            "@type": CONNECTION_LIMIT,
            "max_active_downstream_connections": told.unwrap_or(N_CONNECTIONS),
        },
    })
}

fn layered_runtime(agent: Option<&AgentPlan>) -> Value {
    let mut layer = json!({ "re2.max_program_size.error_level": REGEX_PROGRAM_SIZE });
    let Some(agent) = agent else {
        return json!({ "layers": [{ "name": "navarch", "static_layer": layer }] });
    };
    for (key, value) in &agent.runtime_values {
        layer[key] = value.as_str().into();
    }
    json!({ "layers": [
        { "name": "navarch", "static_layer": layer },
        { "name": "admin", "admin_layer": {} },
    ]})
}

fn internal_listener() -> Value {
    json!({
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {
            "@type": TYPED_STRUCT,
            "type_url": INTERNAL_LISTENER,
            "value": { "buffer_size_kb": 64 },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{Address, AgentPlan, Discovery, Node, Plan, build};

    fn plan() -> Plan {
        Plan {
            node: Node {
                ip: "10.1.1.1".into(),
                pod: "web-1".into(),
                namespace: "shop".into(),
                ..Node::default()
            },
            discovery: Discovery::Pipe("./etc/istio/proxy/XDS".into()),
            admin: Address::new("127.0.0.1", 15000),
            is_delta: true,
            agent: Some(AgentPlan::default()),
        }
    }

    #[test]
    fn an_agent_brings_its_sockets_listeners_and_stats() {
        let made = build(&plan()).unwrap();
        let clusters = made.static_resources["clusters"].as_array().unwrap();
        let names: Vec<_> = clusters
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["xds-grpc", "sds-grpc", "prometheus_stats", "agent"]);
        let endpoint = &clusters[0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
        let path = &endpoint["endpoint"]["address"]["pipe"]["path"];
        assert_eq!(path, "./etc/istio/proxy/XDS");
        let listeners = made.static_resources["listeners"].as_array().unwrap();
        let port = |i: usize| &listeners[i]["address"]["socket_address"]["port_value"];
        assert_eq!((port(0), port(1)), (&15090.into(), &15021.into()));
        assert!(made.stats_config["stats_matcher"].is_object());
    }

    #[test]
    fn without_an_agent_there_is_one_cluster_and_no_listener() {
        let made = build(&Plan {
            agent: None,
            discovery: Discovery::Address(Address::new("127.0.0.1", 15010)),
            ..plan()
        })
        .unwrap();
        assert_eq!(
            made.static_resources["clusters"].as_array().unwrap().len(),
            1
        );
        assert!(made.static_resources.get("listeners").is_none());
        assert!(made.stats_config.is_null());
    }

    #[test]
    fn values_of_the_runtime_are_told() {
        let agent = AgentPlan {
            runtime_values: [("a.b".to_owned(), "true".to_owned())].into(),
            max_connections: Some(7),
            ..AgentPlan::default()
        };
        let made = build(&Plan {
            agent: Some(agent),
            ..plan()
        })
        .unwrap();
        assert_eq!(
            made.layered_runtime["layers"][0]["static_layer"]["a.b"],
            "true"
        );
        let monitor = &made.overload_manager["resource_monitors"][0]["typed_config"];
        assert_eq!(monitor["max_active_downstream_connections"], 7);
    }
}
