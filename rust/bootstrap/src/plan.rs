//! What a bootstrap is made from.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::node::Node;

/// A host and port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// A host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    pub(crate) fn socket_address(&self) -> Value {
        json!({ "socket_address": { "address": self.host, "port_value": self.port } })
    }

    /// Whether the host is an IP address rather than a name.
    pub(crate) fn is_numeric(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

/// Where Envoy gets its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// The control plane itself, in plaintext.
    Address(Address),
    /// A unix socket: the agent relays.
    Pipe(String),
}

/// A bootstrap to make.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Plan {
    /// Who the proxy is.
    pub node: Node,
    /// Where its configuration comes from.
    pub discovery: Discovery,
    /// Where Envoy's own admin page is served.
    pub admin: Address,
    /// Incremental xDS rather than the state of the world.
    pub is_delta: bool,
    /// What an agent beside Envoy brings; without one Envoy is on its own.
    #[serde(default)]
    pub agent: Option<AgentPlan>,
}

/// A service that Envoy itself reports to (istio `RemoteService` and the tracers' addresses).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RemoteService {
    /// The static cluster's name, by which Istio's configuration finds it.
    pub cluster: String,
    /// Where it is.
    pub address: Address,
    /// Whether it speaks gRPC.
    pub is_http2: bool,
}

/// What the agent and `ProxyConfig` add.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentPlan {
    /// The unix socket of the secret service.
    pub sds_path: String,
    /// The agent's own HTTP port: readiness, merged metrics, the application's probes.
    pub status_port: u16,
    /// Envoy's port that leads readiness probes to the agent.
    pub envoy_status_port: u16,
    /// Envoy's port of its own metrics.
    pub envoy_prometheus_port: u16,
    /// Whether to listen on every IPv6 address rather than IPv4.
    pub is_ipv6: bool,
    /// `ProxyConfig.proxyStatsMatcher`, and the annotations that add to it.
    pub stats_prefixes: Vec<String>,
    /// As above, by the end of the name.
    pub stats_suffixes: Vec<String>,
    /// As above, by regular expression.
    pub stats_regexes: Vec<String>,
    /// `ProxyConfig.extraStatTags`.
    pub extra_stat_tags: Vec<String>,
    /// `ProxyConfig.runtimeValues`.
    pub runtime_values: BTreeMap<String, String>,
    /// `ProxyConfig.connectionSettings.globalDownstreamConnectionLimit`.
    pub max_connections: Option<u32>,
    /// Tracers and log services.
    pub remote_services: Vec<RemoteService>,
}

impl Default for AgentPlan {
    /// Istio's paths and ports.
    fn default() -> Self {
        Self {
            sds_path: "./var/run/secrets/workload-spiffe-uds/socket".into(),
            status_port: 15020,
            envoy_status_port: 15021,
            envoy_prometheus_port: 15090,
            is_ipv6: false,
            stats_prefixes: Vec::new(),
            stats_suffixes: Vec::new(),
            stats_regexes: Vec::new(),
            extra_stat_tags: Vec::new(),
            runtime_values: BTreeMap::new(),
            max_connections: None,
            remote_services: Vec::new(),
        }
    }
}

impl AgentPlan {
    /// The address that leads to this very machine.
    pub(crate) fn localhost(&self) -> &'static str {
        if self.is_ipv6 { "::1" } else { "127.0.0.1" }
    }

    /// The address that stands for all of this machine's.
    pub(crate) fn wildcard(&self) -> &'static str {
        if self.is_ipv6 { "::" } else { "0.0.0.0" }
    }
}
