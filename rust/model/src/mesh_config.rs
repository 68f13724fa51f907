//! MeshConfig: the mesh-wide settings, with all defaults filled in by the Python half.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    ConnectionPoolSettings, ExtensionProvider, HttpRetry, Labels, LocalityLoadBalancerSetting,
    Number, OutboundTrafficPolicyMode, OutlierDetection, Span, TcpKeepalive,
    ZoneAwareLoadBalancerSetting, is_selected,
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
    pub discovery_selectors: Vec<LabelSelector>,
    pub service_entry_visibility: Option<ServiceEntryVisibility>,
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
    pub extension_providers: Vec<ExtensionProvider>,
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
            discovery_selectors: Vec::new(),
            service_entry_visibility: None,
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
            extension_providers: Vec::new(),
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

/// Kubernetes' label selector; an empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Kubernetes' own")]
pub struct LabelSelector {
    pub match_labels: Labels,
    pub match_expressions: Vec<LabelRequirement>,
}

/// One condition of a label selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Kubernetes' own")]
pub struct LabelRequirement {
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    pub values: Vec<String>,
}

impl LabelSelector {
    /// Whether labels meet every condition; an operator that is not known meets none.
    pub fn is_match(&self, labels: &Labels) -> bool {
        let is_met = |requirement: &LabelRequirement| {
            let value = labels.get(&requirement.key);
            let is_one = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator.as_str() {
                "In" => is_one,
                "NotIn" => !is_one,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        };
        is_selected(&self.match_labels, labels) && self.match_expressions.iter().all(is_met)
    }
}

/// Who may see ServiceEntries at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct ServiceEntryVisibility {
    pub default_visibility: EntryVisibility,
    pub policies: Vec<VisibilityPolicy>,
    pub apply_to_sidecars: bool,
}

/// A visibility for the entries that all rules match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct VisibilityPolicy {
    pub visibility: EntryVisibility,
    pub matching_rules: Vec<VisibilityRule>,
}

/// A condition on an entry's namespace; one that says nothing matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct VisibilityRule {
    pub namespace_selector: Option<LabelSelector>,
}

/// How far an entry may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryVisibility {
    /// As its exportTo says.
    #[default]
    Unspecified,
    /// As its exportTo says.
    Public,
    /// Within its namespace.
    Namespace,
    /// By nobody.
    None,
}

impl ServiceEntryVisibility {
    /// The visibility of entries of a namespace with these labels: of the first policy that matches, else the default
    /// (istio `pilot/pkg/model/serviceentry_visibility.go`).
    pub fn of_namespace(&self, labels: &Labels) -> EntryVisibility {
        let is_met = |rule: &VisibilityRule| {
            rule.namespace_selector
                .as_ref()
                .is_some_and(|selector| selector.is_match(labels))
        };
        let mut policies = self.policies.iter();
        let first = policies.find(|policy| policy.matching_rules.iter().all(is_met));
        first.map_or(self.default_visibility, |policy| policy.visibility)
    }
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
    pub proxy_metadata: ProxyMetadata,
}

/// The environment of a proxy, as far as the control plane heeds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ProxyMetadata {
    /// Whether virtual hosts are resources of their own (docs/decisions/025-routes-in-pieces.md).
    #[serde(
        rename = "NAVARCH_VHDS",
        deserialize_with = "crate::proxy::flexible_bool"
    )]
    pub navarch_vhds: bool,
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
