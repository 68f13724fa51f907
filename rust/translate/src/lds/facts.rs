//! What listeners need to know of the proxy and the mesh, taken out of both so that equal needs share a listener.

use std::net::IpAddr;
use std::sync::Arc;

use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use navarch_model::{
    ConnectionSettings, InterceptionMode, MeshConfig, ProxyConfig, ProxyKind, Shared, Span,
};
use navarch_snapshot::NodeGroup;
use prost::Message;
use prost_types::Duration;

use super::access_log::{self, AccessLogFacts};
use super::hcm_tail::Tails;
use crate::address::IpMode;
use crate::memo::Memo;
use crate::policy::PolicyFacts;

/// What chains of any kind need.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NetworkFacts {
    pub(super) kind: ProxyKind,
    pub(super) is_istio: bool,
    pub(super) has_workload_certificate: bool,
    pub(super) ip_mode: IpMode,
    pub(super) interception: InterceptionMode,
    /// Of node metadata `IDLE_TIMEOUT`.
    pub(super) idle_timeout: Option<Span>,
    pub(super) has_inbound_exact_balance: bool,
    pub(super) has_outbound_exact_balance: bool,
    pub(super) access_log: AccessLogFacts,
    pub(super) proxy_listen_port: u32,
    pub(super) proxy_inbound_listen_port: u32,
    pub(super) protocol_detection_timeout: Span,
    tcp_access_log: Memo<Vec<u8>>,
}

/// What connection managers need besides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HttpFacts {
    pub(super) namespace: Arc<str>,
    pub(super) cluster_id: Arc<str>,
    pub(super) mesh_id: Arc<str>,
    pub(super) canonical_service: Arc<str>,
    pub(super) canonical_revision: Arc<str>,
    pub(super) has_http10: bool,
    pub(super) has_tracing: bool,
    /// `DEFAULT` (also ""), `NONE`, …
    pub(super) path_normalization: String,
    pub(super) proxy_config: ProxyConfig,
    /// The proxy's, else the mesh's.
    pub(super) connection_settings: Option<ConnectionSettings>,
    pub(super) has_dynamic_dns: bool,
    /// From where clients count as the mesh's own, for routers: the subnets of `MeshNetworks`, in order.
    pub(super) internal_subnets: Vec<(IpAddr, u8)>,
    /// Of the workload or gateway; empty for a sidecar's outbound side.
    pub(super) policies: Shared<PolicyFacts>,
    /// Follows from these facts and from the [`NetworkFacts`] of the same group.
    pub(super) tails: Tails,
}

impl NetworkFacts {
    /// The facts of a node group.
    pub(super) fn new(mesh: &MeshConfig, group: &NodeGroup) -> Self {
        let metadata = &group.metadata;
        Self {
            kind: group.kind,
            is_istio: group.is_istio,
            has_workload_certificate: group.has_workload_certificate,
            ip_mode: ip_mode(group),
            interception: group.interception,
            idle_timeout: Span::parse(&metadata.idle_timeout),
            has_inbound_exact_balance: metadata.inbound_listener_exact_balance,
            has_outbound_exact_balance: metadata.outbound_listener_exact_balance,
            access_log: AccessLogFacts::new(mesh),
            proxy_listen_port: mesh.proxy_listen_port,
            proxy_inbound_listen_port: mesh.proxy_inbound_listen_port,
            protocol_detection_timeout: mesh.protocol_detection_timeout.unwrap_or_default(),
            tcp_access_log: Memo::default(),
        }
    }

    /// The logs of a TCP proxy, as its fields are encoded.
    pub(super) fn tcp_access_log(&self) -> &[u8] {
        self.tcp_access_log.get_or_make(|| {
            let logs = TcpProxy {
                access_log: access_log::build(&self.access_log),
                ..TcpProxy::default()
            };
            logs.encode_to_vec()
        })
    }
}

impl HttpFacts {
    /// The facts of a node group.
    pub(super) fn new(mesh: &MeshConfig, group: &NodeGroup, has_dynamic_dns: bool) -> Self {
        let own = group.metadata.proxy_config.as_ref();
        let proxy_config = own.unwrap_or(&mesh.default_config).clone();
        let settings = proxy_config.connection_settings.clone();
        Self {
            namespace: group.namespace.clone(),
            cluster_id: group.cluster_id.clone(),
            mesh_id: group.metadata.mesh_id.as_str().into(),
            canonical_service: group.canonical_name.as_str().into(),
            canonical_revision: group.canonical_revision.as_str().into(),
            has_http10: group.metadata.http10 == "1",
            has_tracing: mesh.enable_tracing,
            path_normalization: mesh.path_normalization.normalization.clone(),
            connection_settings: settings
                .or_else(|| mesh.default_config.connection_settings.clone()),
            proxy_config,
            has_dynamic_dns,
            internal_subnets: Vec::new(),
            policies: Shared::default(),
            tails: Tails::default(),
        }
    }

    /// The same for requests that policies look at.
    pub(super) fn with_policies(self, policies: Shared<PolicyFacts>) -> Self {
        Self { policies, ..self }
    }

    /// The same for a router, with the subnets of `MeshNetworks`.
    pub(super) fn with_internal_subnets(self, internal_subnets: Vec<(IpAddr, u8)>) -> Self {
        Self {
            internal_subnets,
            ..self
        }
    }
}

/// A span as protobuf's duration.
pub(super) fn duration(span: Span) -> Duration {
    Duration {
        seconds: span.seconds,
        nanos: span.nanos,
    }
}

/// The address families of a group.
pub(super) fn ip_mode(group: &NodeGroup) -> IpMode {
    match (group.has_ipv4, group.has_ipv6) {
        (true, true) => IpMode::Dual,
        (false, true) => IpMode::V6,
        _ => IpMode::V4,
    }
}
