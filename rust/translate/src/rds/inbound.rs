//! The route configuration inside an inbound listener: everything to the workload.

use navarch_envoy::envoy::config::route::v3::route_action::{ClusterSpecifier, MaxStreamDuration};
use navarch_envoy::envoy::config::route::v3::{RouteAction, RouteConfiguration, VirtualHost};
use navarch_model::HttpRetry;

use super::retry::build_inbound_retry_policy;
use super::route::default_route;
use super::scalar::NO_TIMEOUT;

/// All that an inbound route configuration is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboundRouteInputs {
    /// The cluster that everything goes to, also the configuration's name: `inbound|8080||`.
    pub cluster: String,
    /// The host of the service that is served; "" for the passthrough chains.
    pub hostname: String,
    /// The service's port; 0 for the passthrough chains.
    pub port: u32,
    /// The mesh's policy for inbound requests; `None` is Istio's default.
    pub default_retry: Option<HttpRetry>,
    /// Whether the port speaks gRPC, whose clients retry themselves.
    pub is_grpc: bool,
}

/// The route configuration of one inbound filter chain (istio httproute.go `buildSidecarInboundHTTPRouteConfig`).
pub fn inbound_route_configuration(inputs: &InboundRouteInputs) -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(inputs.cluster.clone())),
        timeout: Some(NO_TIMEOUT),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: Some(NO_TIMEOUT),
            grpc_timeout_header_max: Some(NO_TIMEOUT),
            grpc_timeout_header_offset: None,
        }),
        retry_policy: (!inputs.is_grpc)
            .then(|| build_inbound_retry_policy(inputs.default_retry.as_ref()))
            .flatten(),
        ..RouteAction::default()
    };
    let operation = format!("{}:{}/*", inputs.hostname, inputs.port);
    let virtual_host = VirtualHost {
        name: format!("inbound|http|{}", inputs.port),
        domains: vec!["*".to_owned()],
        routes: vec![default_route(&operation, action)],
        ..VirtualHost::default()
    };
    RouteConfiguration {
        name: inputs.cluster.clone(),
        virtual_hosts: vec![virtual_host],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}
