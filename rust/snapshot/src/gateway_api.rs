//! Kubernetes Gateway API to the mesh's own Gateways, VirtualServices and DestinationRules, with its status.

use navarch_model::gateway_api as api;
use navarch_model::{ConfigMapFacts, SecretFacts};

use crate::registry::ByName;

/// The status of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStatus;

/// The API's objects as they stand.
#[derive(Debug, Default)]
pub(crate) struct GatewayApiObjects {
    pub(crate) classes: ByName<api::GatewayClass>,
    pub(crate) gateways: ByName<api::KubernetesGateway>,
    pub(crate) listener_sets: ByName<api::ListenerSet>,
    pub(crate) http_routes: ByName<api::HttpRoute>,
    pub(crate) grpc_routes: ByName<api::GrpcRoute>,
    pub(crate) tcp_routes: ByName<api::TcpRoute>,
    pub(crate) tls_routes: ByName<api::TlsRoute>,
    pub(crate) grants: ByName<api::ReferenceGrant>,
    pub(crate) backend_tls_policies: ByName<api::BackendTlsPolicy>,
    pub(crate) secrets: ByName<SecretFacts>,
    pub(crate) config_maps: ByName<ConfigMapFacts>,
}

