//! The route configuration inside an inbound listener: everything to the workload.

use std::cell::OnceCell;

use navarch_envoy::envoy::config::route::v3::route_action::MaxStreamDuration;
use navarch_envoy::envoy::config::route::v3::{
    RetryPolicy, Route, RouteAction, RouteConfiguration,
};
use navarch_envoy::field::envoy::config::route::v3::{
    decorator, route, route_action, route_configuration, virtual_host,
};
use navarch_envoy::wire::{Template, Writer};
use navarch_model::HttpRetry;
use prost::Message;

use super::retry::build_inbound_retry_policy;
use super::route::default_route;
use super::scalar::NO_TIMEOUT;
use crate::name::Decimal;

/// The inbound route configurations of one workload, written from what they have in common.
#[derive(Debug)]
pub(crate) struct InboundRoutes<'a> {
    /// The mesh's policy for inbound requests; `None` is Istio's default.
    default_retry: Option<&'a HttpRetry>,
    plain: OnceCell<Parts>,
    /// Of gRPC, whose clients retry themselves.
    grpc: OnceCell<Parts>,
}

/// All of the route but its operation and action, and all of the action but its cluster.
#[derive(Debug)]
struct Parts {
    route: Template,
    action: Template,
}

/// One inbound route configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InboundRoute<'a> {
    /// The cluster that everything goes to, also the configuration's name: `inbound|8080||`.
    pub(crate) cluster: &'a str,
    /// The host of the service that is served; "" for the passthrough chains.
    pub(crate) hostname: &'a str,
    /// The service's port; 0 for the passthrough chains.
    pub(crate) port: u32,
    /// Whether the port speaks gRPC.
    pub(crate) is_grpc: bool,
}

impl<'a> InboundRoutes<'a> {
    /// For a mesh's policy.
    pub(crate) fn new(default_retry: Option<&'a HttpRetry>) -> Self {
        Self {
            default_retry,
            plain: OnceCell::new(),
            grpc: OnceCell::new(),
        }
    }

    /// The route configuration of one filter chain (istio httproute.go `buildSidecarInboundHTTPRouteConfig`), encoded.
    pub(crate) fn encode(&self, inputs: InboundRoute<'_>) -> Vec<u8> {
        let parts = if inputs.is_grpc {
            self.grpc.get_or_init(|| parts(None))
        } else {
            let retry = || build_inbound_retry_policy(self.default_retry);
            self.plain.get_or_init(|| parts(retry()))
        };
        let port = Decimal::new(inputs.port);
        let mut out = Writer::with_capacity(512);
        out.text(route_configuration::NAME, &[inputs.cluster]);
        out.long_message(route_configuration::VIRTUAL_HOSTS, |host| {
            host.text(virtual_host::NAME, &["inbound|http|", port.as_str()]);
            host.text(virtual_host::DOMAINS, &["*"]);
            host.long_message(virtual_host::ROUTES, |out| {
                let mut filling = parts.route.fill(out);
                filling.message(route::ROUTE, |out| {
                    let mut action = parts.action.fill(out);
                    action.text(route_action::CLUSTER, &[inputs.cluster]);
                    action.finish();
                });
                filling.message(route::DECORATOR, |out| {
                    let operation = [inputs.hostname, ":", port.as_str(), "/*"];
                    out.text(decorator::OPERATION, &operation);
                });
                filling.finish();
            });
        });
        out.append_message(&RouteConfiguration {
            validate_clusters: Some(false),
            ..RouteConfiguration::default()
        });
        debug_assert_eq!(
            RouteConfiguration::decode(out.as_slice()).map(|routes| routes.encode_to_vec()),
            Ok(out.as_slice().to_vec()),
        );
        out.into_bytes()
    }
}

fn parts(retry_policy: Option<RetryPolicy>) -> Parts {
    let action = RouteAction {
        timeout: Some(NO_TIMEOUT),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: Some(NO_TIMEOUT),
            grpc_timeout_header_max: Some(NO_TIMEOUT),
            grpc_timeout_header_offset: None,
        }),
        retry_policy,
        ..RouteAction::default()
    };
    let route = Route {
        action: None,
        decorator: None,
        ..default_route("", RouteAction::default())
    };
    Parts {
        route: Template::of(&route, route::ONEOFS),
        action: Template::of(&action, route_action::ONEOFS),
    }
}
