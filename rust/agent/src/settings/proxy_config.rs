//! `ProxyConfig` (istio `mesh/v1alpha1/proxy.proto`), as far as the process beside Envoy follows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::duration;

/// What is told of a proxy's process; the defaults are Istio's (`pkg/config/mesh/mesh.go`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ProxyConfig {
    pub config_path: PathBuf,
    pub binary_path: PathBuf,
    pub custom_config_file: Option<PathBuf>,
    pub service_cluster: String,
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain_duration: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub termination_drain_duration: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub file_flush_interval: Duration,
    pub discovery_address: String,
    pub control_plane_auth_policy: ControlPlaneAuth,
    pub proxy_admin_port: u16,
    pub status_port: u16,
    pub concurrency: Option<u32>,
    pub mesh_id: String,
    pub proxy_metadata: BTreeMap<String, String>,
    pub runtime_values: BTreeMap<String, String>,
    pub extra_stat_tags: Vec<String>,
    pub proxy_stats_matcher: StatsMatcher,
    pub readiness_probe: Option<ReadinessProbe>,
    pub tracing: Option<Tracing>,
    pub envoy_access_log_service: Option<Remote>,
    pub envoy_metrics_service: Option<Remote>,
    pub connection_settings: ConnectionSettings,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            config_path: "./etc/istio/proxy".into(),
            binary_path: "/usr/local/bin/envoy".into(),
            custom_config_file: None,
            service_cluster: String::new(),
            drain_duration: Duration::from_secs(45),
            termination_drain_duration: Duration::from_secs(5),
            file_flush_interval: Duration::from_secs(1),
            discovery_address: "istiod.istio-system.svc:15012".into(),
            control_plane_auth_policy: ControlPlaneAuth::MutualTls,
            proxy_admin_port: 15000,
            status_port: 15020,
            concurrency: None,
            mesh_id: String::new(),
            proxy_metadata: BTreeMap::new(),
            runtime_values: BTreeMap::new(),
            extra_stat_tags: Vec::new(),
            proxy_stats_matcher: StatsMatcher::default(),
            readiness_probe: None,
            tracing: None,
            envoy_access_log_service: None,
            envoy_metrics_service: None,
            connection_settings: ConnectionSettings::default(),
        }
    }
}

/// Whether the control plane is reached over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ControlPlaneAuth {
    /// In plaintext, without a word on who asks.
    None,
    /// TLS, with the token or the certificate.
    MutualTls,
}

/// Which further statistics of Envoy's are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatsMatcher {
    pub inclusion_prefixes: Vec<String>,
    pub inclusion_suffixes: Vec<String>,
    pub inclusion_regexps: Vec<String>,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    pub zipkin: Option<Remote>,
    pub datadog: Option<Remote>,
}

/// An address that Envoy reports to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Remote {
    /// `HOST:PORT`.
    pub address: String,
}

/// Limits of connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConnectionSettings {
    pub global_downstream_connection_limit: Option<u32>,
}

/// The probe of a `WorkloadGroup`: how the application's health is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ReadinessProbe {
    pub initial_delay_seconds: u32,
    pub timeout_seconds: u32,
    pub period_seconds: u32,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    pub http_get: Option<HttpGet>,
    pub tcp_socket: Option<TcpSocket>,
    pub exec: Option<Exec>,
    pub grpc: Option<Grpc>,
}

/// An HTTP request as a probe, of Kubernetes' form too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct HttpGet {
    pub path: String,
    pub port: u16,
    pub host: String,
    pub scheme: String,
    pub http_headers: Vec<Header>,
}

/// A header of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A connection as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct TcpSocket {
    pub port: u16,
    pub host: String,
}

/// A program as a probe: its exit code tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Exec {
    pub command: Vec<String>,
}

/// The health service of gRPC as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Grpc {
    pub port: u16,
    pub service: Option<String>,
}

/// Lay one `ProxyConfig` in YAML or JSON over another: objects are merged, all else is replaced.
///
/// # Errors
/// The parser's words when the text is no object.
pub(super) fn overlay(base: &mut Value, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let told: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if !told.is_object() {
        return Err("is no object".to_owned());
    }
    merge(base, told);
    Ok(())
}

fn merge(base: &mut Value, told: Value) {
    match (base, told) {
        (Value::Object(base), Value::Object(told)) => {
            for (key, value) in told {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, told) => *base = told,
    }
}

/// The `defaultConfig` of a mesh configuration in YAML; an empty object if it has none.
///
/// # Errors
/// The parser's words when the text is no object.
pub(super) fn default_config(mesh: &str) -> Result<Value, String> {
    let told: Value = serde_saphyr::from_str(mesh).map_err(|e| e.to_string())?;
    let found = told.get("defaultConfig").cloned();
    Ok(found.unwrap_or_else(|| Value::Object(Map::new())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{ProxyConfig, default_config, overlay};

    #[test]
    fn later_texts_are_laid_over_earlier_ones() {
        let mesh =
            "rootNamespace: x\ndefaultConfig:\n  drainDuration: 10s\n  proxyMetadata: {A: '1'}\n";
        let mut made = default_config(mesh).unwrap();
        overlay(
            &mut made,
            r#"{"proxyMetadata":{"B":"2"},"statusPort":15022}"#,
        )
        .unwrap();
        assert_eq!(made["proxyMetadata"], json!({"A": "1", "B": "2"}));
        let read: ProxyConfig = serde_json::from_value(made).unwrap();
        assert_eq!(read.drain_duration, Duration::from_secs(10));
        assert_eq!(read.status_port, 15022);
        assert_eq!(read.proxy_admin_port, 15000);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(overlay(&mut json!({}), "- a").is_err());
        assert!(overlay(&mut json!({}), "{").is_err());
        assert!(serde_json::from_value::<ProxyConfig>(json!({"drainDuration": "5"})).is_err());
    }
}
