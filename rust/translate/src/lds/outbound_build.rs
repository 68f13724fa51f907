//! Outbound listeners as messages.
//!
//! Source: istio `pilot/pkg/networking/core/listener.go` `buildListenerFromEntry`.

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use navarch_envoy::envoy::config::listener::v3::listener::connection_balance_config::{
    BalanceType, ExactBalance,
};
use navarch_envoy::envoy::config::listener::v3::{
    AdditionalAddress, FilterChain, FilterChainMatch, Listener, ListenerFilter,
};
use navarch_model::{ConfigKey, Diagnostic, Kind, Registry, Severity};
use prost_types::Duration;

use super::facts::{HttpFacts, duration};
use super::filter_chain::config_metadata;
use super::hcm::{self, HcmInputs, Routes};
use super::listener_filter::{http_inspector, tls_inspector};
use super::outbound::{ChainContent, OutboundChain, OutboundInputs, Rejection, RejectionReason};
use crate::address::build_address;
use crate::http_filter::ListenerClass;
use crate::name::delimited_stat_name;

/// The chain of connections that no chain of a listener matches.
const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";
/// A slow TLS handshake holds a connection no longer than this.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration {
    seconds: 15,
    nanos: 0,
};

/// The listener, and services that had to yield on it.
pub(super) fn build(inputs: &OutboundInputs) -> (Listener, Vec<Diagnostic>) {
    let bind = inputs.binds.first().map_or("", |bind| &**bind);
    let name = format!("{bind}_{}", inputs.port);
    let mut listener = Listener {
        address: Some(build_address(bind, inputs.port)),
        additional_addresses: additional_addresses(&inputs.binds, inputs.port),
        traffic_direction: TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        bind_to_port: (!inputs.is_bound).then_some(false),
        max_connections_to_accept_per_socket_event: inputs.is_bound.then_some(1),
        connection_balance_config: exact_balance(inputs.network.has_outbound_exact_balance),
        listener_filters: listener_filters(&inputs.chains),
        listener_filters_timeout: Some(listener_filters_timeout(inputs)),
        ..Listener::default()
    };
    for chain in &inputs.chains {
        let message = FilterChain {
            filter_chain_match: chain.conditions.build(),
            filters: filters(inputs, chain, &name),
            metadata: chain
                .origin
                .as_ref()
                .map(|(namespace, name)| config_metadata("virtual-service", namespace, name)),
            transport_socket_connect_timeout: Some(HANDSHAKE_TIMEOUT),
            ..FilterChain::default()
        };
        if chain.conditions.is_match_all() {
            listener.default_filter_chain = Some(message);
        } else {
            listener.filter_chains.push(message);
        }
    }
    settle_default(&mut listener, inputs);
    let diagnostics = inputs
        .rejected
        .iter()
        .map(|r| diagnostic(r, &name))
        .collect();
    listener.name = name;
    (listener, diagnostics)
}

/// The further addresses of a listener.
pub(super) fn additional_addresses<T: AsRef<str>>(
    binds: &[T],
    port: u32,
) -> Vec<AdditionalAddress> {
    let further = binds.iter().skip(1).map(|bind| AdditionalAddress {
        address: Some(build_address(bind.as_ref(), port)),
        ..AdditionalAddress::default()
    });
    further.collect()
}

/// Connections spread evenly over the workers, where the node asks for it.
pub(super) fn exact_balance(is_wanted: bool) -> Option<ConnectionBalanceConfig> {
    is_wanted.then_some(ConnectionBalanceConfig {
        balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
    })
}

fn is_http_inspected(chains: &[OutboundChain]) -> bool {
    chains
        .iter()
        .any(|chain| !chain.conditions.application_protocols.is_empty())
}

fn listener_filters(chains: &[OutboundChain]) -> Vec<ListenerFilter> {
    let mut filters = Vec::new();
    if chains
        .iter()
        .any(|chain| !chain.conditions.sni_hosts.is_empty())
    {
        filters.push(tls_inspector());
    }
    if is_http_inspected(chains) {
        filters.push(http_inspector());
    }
    filters
}

/// The mesh's timeout where HTTP is told from the first bytes; else none, as TLS is certain to come.
fn listener_filters_timeout(inputs: &OutboundInputs) -> Duration {
    if is_http_inspected(&inputs.chains) {
        duration(inputs.network.protocol_detection_timeout)
    } else {
        Duration::default()
    }
}

fn filters(
    inputs: &OutboundInputs,
    chain: &OutboundChain,
    listener: &str,
) -> Vec<navarch_envoy::envoy::config::listener::v3::Filter> {
    match &chain.content {
        ChainContent::Tcp(route) => route.build(&inputs.network),
        ChainContent::Http {
            route_name,
            protocol,
            dynamic_host,
        } => {
            let Some(http) = &inputs.http else {
                return Vec::new();
            };
            let http: &HttpFacts = http;
            vec![hcm::build(
                &inputs.network,
                http,
                HcmInputs {
                    class: ListenerClass::SidecarOutbound,
                    stat_prefix: delimited_stat_name(&format!("outbound_{listener}")),
                    routes: Routes::Named(route_name.clone()),
                    protocol: *protocol,
                    is_explicit_proxy: false,
                    dynamic_host: dynamic_host.clone(),
                },
            )]
        }
    }
}

/// A chain that matches all is the default beside others, but not alone; without one the catch-all takes the rest.
fn settle_default(listener: &mut Listener, inputs: &OutboundInputs) {
    if listener.filter_chains.is_empty() {
        listener
            .filter_chains
            .extend(listener.default_filter_chain.take());
    } else if listener.default_filter_chain.is_none() {
        listener.default_filter_chain = Some(FilterChain {
            filter_chain_match: Some(FilterChainMatch::default()),
            name: PASSTHROUGH_CHAIN.to_owned(),
            filters: inputs.fallback.build(&inputs.network),
            ..FilterChain::default()
        });
    }
}

/// What to tell the owner of a service that had to yield.
pub(super) fn diagnostic(rejection: &Rejection, listener: &str) -> Diagnostic {
    let kind = match rejection.registry {
        Registry::Kubernetes => Kind::Service,
        Registry::External => Kind::ServiceEntry,
    };
    let (code, why) = match rejection.reason {
        RejectionReason::SameMatch => (
            "outbound-port-conflict",
            "an older service is matched by the same address and port; give it another address or port, \
             or a protocol that can be told apart (HTTP, or TLS with SNI)",
        ),
        RejectionReason::ServerFirst => (
            "server-first-port-conflict",
            "MongoDB and MySQL can't share a port with other protocols; give one of the services another port",
        ),
        RejectionReason::OtherProtocol => (
            "inbound-port-conflict",
            "an older service declares another protocol for the same port of the workload, and its word holds; \
             declare the same protocol in both",
        ),
    };
    Diagnostic {
        key: ConfigKey::new(kind, &rejection.namespace, &rejection.name),
        code,
        severity: Severity::Warning,
        field_path: "spec.ports".to_owned(),
        message: format!(
            "{} has no say on listener {listener}: {why}",
            rejection.hostname
        ),
    }
}
