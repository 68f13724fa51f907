//! Outbound listeners as messages.
//!
//! Source: istio `pilot/pkg/networking/core/listener.go` `buildListenerFromEntry`.

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use navarch_envoy::envoy::config::listener::v3::listener::connection_balance_config::{
    BalanceType, ExactBalance,
};
use navarch_envoy::envoy::config::listener::v3::{AdditionalAddress, Listener};
use navarch_envoy::field::envoy::config::listener::v3::listener as field;
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{ConfigKey, Diagnostic, Kind, Registry, Severity};
use prost_types::Duration;

use super::facts::duration;
use super::filter_chain::{ChainMatch, ChainParts, write_chain};
use super::hcm::{self, HcmInputs, Routes};
use super::listener_filter::{write_http_inspector, write_tls_inspector};
use super::outbound::{ChainContent, OutboundChain, OutboundInputs, Rejection, RejectionReason};
use crate::address::build_address;
use crate::encoded::{Encoded, References};
use crate::http_filter::ListenerClass;
use crate::name::{Decimal, delimited_stat_name};

/// The chain of connections that no chain of a listener matches.
const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";
/// A slow TLS handshake holds a connection no longer than this.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration {
    seconds: 15,
    nanos: 0,
};

/// The listener, and services that had to yield on it.
pub(super) fn build(inputs: &OutboundInputs) -> (Encoded<Listener>, Vec<Diagnostic>) {
    let bind = inputs.binds.first().map_or("", |bind| &**bind);
    let name = [bind, "_", Decimal::new(inputs.port).as_str()].concat();
    let template = Template::of(&build_rest(inputs, bind), field::ONEOFS);
    // A chain that matches all is the default beside others, but not alone; without one the catch-all takes the rest.
    let (all, narrow): (Vec<_>, Vec<_>) = inputs
        .chains
        .iter()
        .partition(|chain| chain.conditions.is_match_all());
    let mut out = Writer::with_capacity(template.len() + 3072 * inputs.chains.len());
    let mut listener = template.fill(&mut out);
    listener.text(field::NAME, &[&name]);
    let place = listener.at(field::FILTER_CHAINS);
    for chain in if narrow.is_empty() { &all } else { &narrow } {
        write(inputs, chain, &name, (field::FILTER_CHAINS, place));
    }
    let place = listener.at(field::LISTENER_FILTERS);
    write_listener_filters(&inputs.chains, place);
    if !narrow.is_empty() {
        let place = listener.at(field::DEFAULT_FILTER_CHAIN);
        match all.first() {
            Some(chain) => write(inputs, chain, &name, (field::DEFAULT_FILTER_CHAIN, place)),
            None => write_fallback(inputs, place),
        }
    }
    listener.finish();
    let diagnostics = inputs.rejected.iter().map(|r| diagnostic(r, &name));
    let diagnostics = diagnostics.collect();
    let routes = inputs
        .chains
        .iter()
        .filter_map(|chain| chain.content.route_name());
    let references = References::Names(routes.cloned().collect());
    (Encoded::new(name.into(), out, references), diagnostics)
}

/// All but name, chains and listener filters.
fn build_rest(inputs: &OutboundInputs, bind: &str) -> Listener {
    Listener {
        address: Some(build_address(bind, inputs.port)),
        additional_addresses: additional_addresses(&inputs.binds, inputs.port),
        traffic_direction: TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        bind_to_port: (!inputs.is_bound).then_some(false),
        max_connections_to_accept_per_socket_event: inputs.is_bound.then_some(1),
        connection_balance_config: exact_balance(inputs.network.has_outbound_exact_balance),
        listener_filters_timeout: Some(listener_filters_timeout(inputs)),
        ..Listener::default()
    }
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

fn write_listener_filters(chains: &[OutboundChain], out: &mut Writer) {
    if chains
        .iter()
        .any(|chain| !chain.conditions.sni_hosts.is_empty())
    {
        write_tls_inspector(out);
    }
    if is_http_inspected(chains) {
        write_http_inspector(out);
    }
}

/// The mesh's timeout where HTTP is told from the first bytes; else none, as TLS is certain to come.
fn listener_filters_timeout(inputs: &OutboundInputs) -> Duration {
    if is_http_inspected(&inputs.chains) {
        duration(inputs.network.protocol_detection_timeout)
    } else {
        Duration::default()
    }
}

/// Write a chain into a field of the listener.
fn write(
    inputs: &OutboundInputs,
    chain: &OutboundChain,
    listener: &str,
    (number, out): (u32, &mut Writer),
) {
    let parts = ChainParts {
        conditions: chain.conditions.narrowing(),
        origin: chain
            .origin
            .as_ref()
            .map(|(namespace, name)| ("virtual-service", namespace.as_str(), name.as_str())),
        handshake_timeout: Some(HANDSHAKE_TIMEOUT),
        ..ChainParts::default()
    };
    write_chain(number, parts, out, |out| match &chain.content {
        ChainContent::Tcp(route) => route.write(&inputs.network, out),
        ChainContent::Http {
            route_name,
            protocol,
            dynamic_host,
        } => {
            if let Some(http) = &inputs.http {
                let manager = HcmInputs {
                    class: ListenerClass::SidecarOutbound,
                    stat_prefix: &delimited_stat_name(&["outbound_", listener].concat()),
                    routes: Routes::Named(route_name),
                    protocol: *protocol,
                    is_explicit_proxy: false,
                    dynamic_host: dynamic_host.clone(),
                };
                hcm::write(&inputs.network, http, &manager, out);
            }
        }
    });
}

/// Write the chain of connections that no other matches.
fn write_fallback(inputs: &OutboundInputs, out: &mut Writer) {
    let parts = ChainParts {
        name: PASSTHROUGH_CHAIN,
        conditions: Some(&ChainMatch::default()),
        ..ChainParts::default()
    };
    write_chain(field::DEFAULT_FILTER_CHAIN, parts, out, |out| {
        inputs.fallback.write(&inputs.network, out);
    });
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
