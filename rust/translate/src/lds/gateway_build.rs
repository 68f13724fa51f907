//! Listeners of routers as messages.
//!
//! Source: istio `pilot/pkg/networking/core/gateway.go` `buildGatewayListeners`.

use std::sync::Arc;

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::Listener;
use navarch_envoy::field::envoy::config::listener::v3::listener as field;
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{ConfigKey, Diagnostic, Kind, Severity};

use super::access_log;
use super::filter_chain::{ChainParts, write_chain};
use super::gateway::{Content, GatewayChain, GatewayInputs};
use super::hcm::{self, HcmInputs, Routes};
use super::listener_filter::{write_proxy_protocol, write_tls_inspector};
use super::network_filter::{write_black_hole, write_metadata_exchange};
use super::outbound_build::{HANDSHAKE_TIMEOUT, additional_addresses, exact_balance};
use crate::address::build_address;
use crate::encoded::{Encoded, References};
use crate::http_filter::ListenerClass;
use crate::name;

/// Bytes that a chain has, about.
const CHAIN_BYTES: usize = 2560;

/// The listener, and servers that can't be served.
pub(super) fn build(inputs: &GatewayInputs) -> (Encoded<Listener>, Vec<Diagnostic>) {
    let refused = inputs
        .chains
        .iter()
        .filter_map(|chain| match &chain.content {
            Content::Refusal { gateway } => Some(refusal(gateway, inputs.port)),
            Content::Http { .. } | Content::Tcp { .. } => None,
        });
    let rejected = inputs.rejected.iter();
    let conflicts = rejected.map(|gateway| conflict(gateway, inputs.port));
    let unanswered = inputs.policies.diagnostics();
    let told = refused.chain(conflicts).chain(unanswered).collect();
    (encode(inputs), told)
}

fn conflict(gateway: &str, port: u32) -> Diagnostic {
    let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
    Diagnostic {
        key: ConfigKey::new(Kind::Gateway, namespace, name),
        code: "gateway-conflict",
        severity: Severity::Error,
        field_path: "spec.servers".to_owned(),
        message: format!(
            "a server on port {port} has the hosts and TLS of another that came first; give it other hosts or another port"
        ),
    }
}

fn refusal(gateway: &str, port: u32) -> Diagnostic {
    let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
    Diagnostic {
        key: ConfigKey::new(Kind::Gateway, namespace, name),
        code: "istio-mutual-without-certificate",
        severity: Severity::Error,
        field_path: "spec.servers".to_owned(),
        message: format!(
            "a server on port {port} wants ISTIO_MUTUAL, but the router has no workload certificate, so that nobody is \
             let in; give its Envoy a secret source for `default` and `ROOTCA` and set WORKLOAD_CERTIFICATE in \
             node.metadata, or use another TLS mode"
        ),
    }
}

fn encode(inputs: &GatewayInputs) -> Encoded<Listener> {
    let bind = inputs.binds.first().map_or("", |bind| &**bind);
    let name: Arc<str> = format!("{bind}_{}", inputs.port).into();
    let rest = Listener {
        name: name.to_string(),
        address: Some(build_address(bind, inputs.port)),
        additional_addresses: additional_addresses(&inputs.binds, inputs.port),
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: Some(1),
        connection_balance_config: exact_balance(inputs.network.has_outbound_exact_balance),
        access_log: access_log::build_listener(&inputs.network.access_log),
        per_connection_buffer_limit_bytes: inputs.buffer_limit_bytes,
        ..Listener::default()
    };
    let template = Template::of(&rest, field::ONEOFS);
    let mut out = Writer::with_capacity(template.len() + CHAIN_BYTES * inputs.chains.len());
    let mut listener = template.fill(&mut out);
    let place = listener.at(field::FILTER_CHAINS);
    let mut policy_filters = Writer::default();
    inputs.policies.write_tcp(&mut policy_filters);
    let writer = ChainWriter {
        inputs,
        stat_prefix: name::delimited_stat_name(&format!("outbound_{name}")),
        policy_filters: policy_filters.as_slice(),
    };
    for chain in &inputs.chains {
        writer.write(chain, place);
    }
    let place = listener.at(field::LISTENER_FILTERS);
    if inputs.has_proxy_protocol {
        write_proxy_protocol(place);
    }
    let needs_tls = |c: &GatewayChain| c.tls.is_some() || !c.conditions.sni_hosts.is_empty();
    if inputs.chains.iter().any(needs_tls) {
        write_tls_inspector(place);
    }
    listener.finish();
    let routes = inputs.chains.iter().filter_map(GatewayChain::route_name);
    let references = References::Names(routes.cloned().collect());
    Encoded::new(name, out, references)
}

struct ChainWriter<'a> {
    inputs: &'a GatewayInputs,
    /// Of connection managers whose server has no name.
    stat_prefix: String,
    /// What policies put before a TCP proxy, encoded.
    policy_filters: &'a [u8],
}

impl ChainWriter<'_> {
    fn write(&self, chain: &GatewayChain, out: &mut Writer) {
        let parts = ChainParts {
            conditions: chain.conditions.narrowing(),
            transport_socket: chain.tls.as_ref().map(|tls| tls.socket()),
            handshake_timeout: Some(HANDSHAKE_TIMEOUT),
            ..ChainParts::default()
        };
        write_chain(field::FILTER_CHAINS, parts, out, |out| {
            self.write_filters(chain, out);
        });
    }

    fn write_filters(&self, chain: &GatewayChain, out: &mut Writer) {
        let network = &self.inputs.network;
        match &chain.content {
            Content::Refusal { .. } => write_black_hole(out),
            Content::Tcp {
                route,
                has_metadata_exchange,
            } => {
                if *has_metadata_exchange {
                    write_metadata_exchange(network, out);
                }
                out.append(self.policy_filters);
                route.write(network, out);
            }
            Content::Http {
                route_name,
                protocol,
                stat_prefix,
            } => {
                let manager = HcmInputs {
                    class: ListenerClass::Gateway,
                    stat_prefix: if stat_prefix.is_empty() {
                        &self.stat_prefix
                    } else {
                        stat_prefix
                    },
                    routes: Routes::Named(route_name),
                    protocol: *protocol,
                    is_explicit_proxy: false,
                    dynamic_host: None,
                };
                if let Some(http) = &self.inputs.http {
                    hcm::write(network, http, &manager, out);
                }
            }
        }
    }
}
