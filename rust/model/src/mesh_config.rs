//! MeshConfig: the mesh-wide settings, with all defaults filled in by the Python half.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    ConnectionPoolSettings, HttpRetry, LocalityLoadBalancerSetting, Number,
    OutboundTrafficPolicyMode, OutlierDetection, Span, TcpKeepalive, ZoneAwareLoadBalancerSetting,
};

/// The mesh-wide settings that the core reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct MeshConfig {
    pub proxy_listen_port: u32,
    pub proxy_inbound_listen_port: u32,
    pub proxy_http_port: u32,
    pub connect_timeout: Span,
    pub protocol_detection_timeout: Option<Span>,
    pub tcp_keepalive: Option<TcpKeepalive>,
    pub enable_tracing: bool,
    pub outbound_traffic_policy: MeshOutboundTrafficPolicy,
    pub inbound_traffic_policy: InboundTrafficPolicy,
    pub enable_auto_mtls: bool,
    pub trust_domain: String,
    pub trust_domain_aliases: Vec<String>,
    pub default_service_export_to: Vec<String>,
    pub default_virtual_service_export_to: Vec<String>,
    pub default_destination_rule_export_to: Vec<String>,
    pub root_namespace: String,
    pub ingress_class: String,
    /// `STRICT`, `DEFAULT` or `OFF`.
    pub ingress_controller_mode: String,
    pub ingress_selector: String,
    pub ingress_service: String,
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    pub dns_refresh_rate: Span,
    /// `DO_NOT_UPGRADE` or `UPGRADE`.
    pub h2_upgrade_policy: String,
    pub inbound_cluster_stat_name: String,
    pub outbound_cluster_stat_name: String,
    pub service_settings: Vec<ServiceSettings>,
    pub path_normalization: PathNormalization,
    pub default_http_retry_policy: Option<HttpRetry>,
    pub default_inbound_http_retry_policy: Option<HttpRetry>,
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<MeshTls>,
    pub tls_defaults: Option<MeshTls>,
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    pub default_config: ProxyConfig,
    pub access_log_file: String,
    pub access_log_format: String,
    pub access_log_encoding: String,
    pub enable_envoy_access_log_service: bool,
    pub disable_envoy_listener_log: bool,
}

impl Default for MeshConfig {
    /// Istio's defaults (`pkg/config/mesh/mesh.go` `DefaultMeshConfig`).
    fn default() -> Self {
        let everybody = || vec!["*".to_owned()];
        Self {
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            proxy_http_port: 0,
            connect_timeout: Span::from_seconds(10),
            protocol_detection_timeout: None,
            tcp_keepalive: None,
            enable_tracing: true,
            outbound_traffic_policy: MeshOutboundTrafficPolicy::default(),
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            enable_auto_mtls: true,
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            default_service_export_to: everybody(),
            default_virtual_service_export_to: everybody(),
            default_destination_rule_export_to: everybody(),
            root_namespace: "istio-system".to_owned(),
            ingress_class: "istio".to_owned(),
            ingress_controller_mode: "STRICT".to_owned(),
            ingress_selector: String::new(),
            ingress_service: "istio-ingressgateway".to_owned(),
            locality_lb_setting: Some(LocalityLoadBalancerSetting {
                enabled: Some(true),
                ..LocalityLoadBalancerSetting::default()
            }),
            zone_aware_lb_setting: None,
            dns_refresh_rate: Span::from_seconds(60),
            h2_upgrade_policy: "DO_NOT_UPGRADE".to_owned(),
            inbound_cluster_stat_name: String::new(),
            outbound_cluster_stat_name: String::new(),
            service_settings: Vec::new(),
            path_normalization: PathNormalization::default(),
            default_http_retry_policy: None,
            default_inbound_http_retry_policy: None,
            mesh_mtls: None,
            tls_defaults: None,
            default_traffic_policy: None,
            default_config: ProxyConfig::default(),
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: "TEXT".to_owned(),
            enable_envoy_access_log_service: false,
            disable_envoy_listener_log: false,
        }
    }
}

/// What happens to traffic for unknown destinations, mesh-wide.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct MeshOutboundTrafficPolicy {
    /// `ALLOW_ANY` unless said otherwise.
    pub mode: OutboundTrafficPolicyMode,
}

impl Default for MeshOutboundTrafficPolicy {
    fn default() -> Self {
        Self {
            mode: OutboundTrafficPolicyMode::AllowAny,
        }
    }
}

/// How inbound traffic reaches the application.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct InboundTrafficPolicy {
    /// `PASSTHROUGH` (default, also "") or `LOCALHOST`.
    pub mode: String,
}

/// Settings of some services.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ServiceSettings {
    pub settings: ClusterLocalSettings,
    pub hosts: Vec<String>,
}

/// Whether a service stays within its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ClusterLocalSettings {
    pub cluster_local: bool,
}

/// How paths are normalized.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct PathNormalization {
    /// `DEFAULT` (also ""), `NONE`, `BASE`, `MERGE_SLASHES`, `DECODE_AND_MERGE_SLASHES`.
    pub normalization: String,
}

/// TLS parameters of a class of connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct MeshTls {
    /// `TLS_AUTO`, `TLSV1_2`, `TLSV1_3`.
    pub min_protocol_version: String,
    pub cipher_suites: Vec<String>,
    pub ecdh_curves: Vec<String>,
}

/// The baseline under every DestinationRule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct DefaultTrafficPolicy {
    pub connection_pool: Option<ConnectionPoolSettings>,
    pub outlier_detection: Option<OutlierDetection>,
}

/// Settings of one proxy; the mesh's `defaultConfig`, overridden by node metadata `PROXY_CONFIG`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ProxyConfig {
    pub proxy_headers: Option<ProxyHeaders>,
    pub gateway_topology: Option<GatewayTopology>,
    pub tracing: Option<ProxyTracing>,
    pub connection_settings: Option<ConnectionSettings>,
    pub mesh_id: String,
}

/// Tracing of one proxy, as far as the dynamic configuration has it (the tracer itself is the bootstrap's).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ProxyTracing {
    pub custom_tags: BTreeMap<String, CustomTag>,
    pub max_path_tag_length: u32,
    pub sampling: Number,
    pub enable_istio_tags: Option<bool>,
}

/// A tag on every span.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CustomTag {
    /// Of fixed value.
    Literal(LiteralTag),
    /// Of the proxy's environment.
    Environment(NamedTag),
    /// Of the request.
    Header(NamedTag),
    /// An access log format.
    Formatter(LiteralTag),
}

/// The value of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct LiteralTag {
    pub value: String,
}

/// Where the value of a tag comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct NamedTag {
    pub name: String,
    pub default_value: String,
}

/// Limits of connections and how requests are normalized, over the mesh's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ConnectionSettings {
    /// `UNSPECIFIED` (also ""), `SIDECAR` or `EDGE`.
    pub profile: String,
    pub listener_per_connection_buffer_limit_bytes: Option<u32>,
    pub cluster_per_connection_buffer_limit_bytes: Option<u32>,
    pub http_idle_timeout: Option<Span>,
    pub http_max_connection_duration: Option<Span>,
    pub http_drain_timeout: Option<Span>,
    pub http_request_timeout: Option<Span>,
    pub http_request_headers_timeout: Option<Span>,
    pub http_stream_idle_timeout: Option<Span>,
    pub http_max_stream_duration: Option<Span>,
    pub http_max_concurrent_streams: Option<u32>,
    #[serde(rename = "http2InitialStreamWindowSize")]
    pub http2_initial_stream_window_size: Option<u32>,
    #[serde(rename = "http2InitialConnectionWindowSize")]
    pub http2_initial_connection_window_size: Option<u32>,
    /// `HEADERS_WITH_UNDERSCORES_…` with `UNSPECIFIED` (also ""), `ALLOW`, `REJECT_REQUEST`, `DROP_HEADER`.
    pub http_headers_with_underscores_action: String,
    pub http_merge_slashes: Option<bool>,
    /// `PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED` (also ""), `KEEP_UNCHANGED`, `REJECT_REQUEST`, `UNESCAPE_AND_REDIRECT`,
    /// `UNESCAPE_AND_FORWARD`.
    pub http_path_with_escaped_slashes_action: String,
}

/// Which headers the proxies add.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ProxyHeaders {
    pub forwarded_client_cert: Option<String>,
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    pub request_id: Option<Disabled>,
    pub server: Option<ServerHeader>,
    pub attempt_count: Option<Disabled>,
    pub envoy_debug_headers: Option<Disabled>,
    pub metadata_exchange_headers: Option<MetadataExchangeHeaders>,
    pub preserve_http1_header_case: Option<bool>,
    pub x_forwarded_host: Option<Enabled>,
    pub x_forwarded_port: Option<Enabled>,
}

/// Parts of the client certificate in XFCC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct SetCurrentClientCertDetails {
    pub subject: Option<bool>,
    pub cert: Option<bool>,
    pub chain: Option<bool>,
    pub dns: Option<bool>,
    pub uri: Option<bool>,
}

/// Switched off.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Disabled {
    pub disabled: Option<bool>,
}

/// Switched on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct Enabled {
    pub enabled: Option<bool>,
}

/// The `server` header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ServerHeader {
    pub disabled: Option<bool>,
    pub value: String,
}

/// Istio's metadata exchange headers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct MetadataExchangeHeaders {
    /// `UNDEFINED` or `IN_MESH`.
    pub mode: String,
}

/// Proxies in front of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct GatewayTopology {
    pub num_trusted_proxies: u32,
    pub forward_client_cert_details: String,
    pub proxy_protocol: Option<ProxyProtocolAccepted>,
}

/// PROXY protocol is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ProxyProtocolAccepted {}
