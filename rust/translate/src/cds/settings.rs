//! What a cluster depends on besides its service: settings of the mesh, and what the client is.

use navarch_model::{
    DefaultTrafficPolicy, LocalityLoadBalancerSetting, MeshConfig, MeshTls, ProxyConfig, ProxyKind,
    Shared, Span, TcpKeepalive, ZoneAwareLoadBalancerSetting,
};
use navarch_snapshot::NodeGroup;

use crate::address::IpMode;

/// The mesh's settings that show in clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterSettings {
    /// For connections without a limit of their own.
    pub connect_timeout: Span,
    /// Mesh-wide `SO_KEEPALIVE`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Whether HTTP ports are upgraded to HTTP/2 mesh-wide.
    pub is_h2_upgraded: bool,
    /// Pattern of outbound statistics names, or "".
    pub outbound_stat_name: String,
    /// Pattern of inbound statistics names, or "".
    pub inbound_stat_name: String,
    /// The baseline under every DestinationRule.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// How often names are resolved again when their answers don't say.
    pub dns_refresh_rate: Span,
    /// TLS parameters of connections out of the mesh.
    pub tls_defaults: Option<MeshTls>,
    /// Mesh-wide weights and failover by locality.
    pub locality: Option<LocalityLoadBalancerSetting>,
    /// Mesh-wide zone-aware routing.
    pub zone_aware: Option<ZoneAwareLoadBalancerSetting>,
}

impl ClusterSettings {
    /// The part of the mesh's settings that shows in clusters.
    pub fn of(mesh: &MeshConfig) -> Shared<Self> {
        Shared::new(Self {
            connect_timeout: mesh.connect_timeout,
            tcp_keepalive: mesh.tcp_keepalive.clone(),
            is_h2_upgraded: mesh.h2_upgrade_policy == "UPGRADE",
            outbound_stat_name: mesh.outbound_cluster_stat_name.clone(),
            inbound_stat_name: mesh.inbound_cluster_stat_name.clone(),
            default_traffic_policy: mesh.default_traffic_policy.clone(),
            dns_refresh_rate: mesh.dns_refresh_rate,
            tls_defaults: mesh.tls_defaults.clone(),
            locality: mesh.locality_lb_setting.clone(),
            zone_aware: mesh.zone_aware_lb_setting.clone(),
        })
    }
}

/// Certificate files that a node tells of in its metadata (`TLS_CLIENT_*`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientCertificates {
    /// The certificate chain's path.
    pub certificate_chain: String,
    /// The private key's path.
    pub private_key: String,
    /// The trust anchors' path.
    pub root_certificate: String,
}

/// What the client is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClusterClient {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Whether Istio's Envoy build runs there.
    pub is_istio: bool,
    /// Whether it has a source of the workload's certificate.
    pub has_workload_certificate: bool,
    /// Whether an agent serves it the certificates that lie in files.
    pub has_agent: bool,
    /// Its address families.
    pub ip_mode: IpMode,
    /// Whether HTTP/1 header names keep their case.
    pub is_header_case_preserved: bool,
    /// Certificates in files, in place of the workload's own.
    pub certificates: Option<ClientCertificates>,
}

impl ClusterClient {
    /// The clients of a group.
    pub(crate) fn of(mesh: &MeshConfig, group: &NodeGroup) -> Shared<Self> {
        let metadata = &group.metadata;
        let certificates =
            (!metadata.tls_client_cert_chain.is_empty()).then(|| ClientCertificates {
                certificate_chain: metadata.tls_client_cert_chain.clone(),
                private_key: metadata.tls_client_key.clone(),
                root_certificate: metadata.tls_client_root_cert.clone(),
            });
        let headers = |config: &ProxyConfig| config.proxy_headers.clone();
        let headers = metadata
            .proxy_config
            .as_ref()
            .and_then(headers)
            .or_else(|| headers(&mesh.default_config));
        Shared::new(Self {
            kind: group.kind,
            is_istio: group.is_istio,
            has_workload_certificate: group.has_workload_certificate,
            has_agent: group.has_agent(),
            ip_mode: IpMode::of_families(group.has_ipv4, group.has_ipv6),
            is_header_case_preserved: headers
                .and_then(|headers| headers.preserve_http1_header_case)
                .unwrap_or_default(),
            certificates,
        })
    }
}
