//! Inbound listeners as messages.
//!
//! Source: istio `pilot/pkg/networking/core/listener_inbound.go` `buildInboundListeners`.

use std::cell::OnceCell;

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::Listener;
use navarch_envoy::field::envoy::config::listener::v3::listener as field;
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{
    ConfigKey, Diagnostic, InterceptionMode, Kind, ListenerProtocol, MutualTlsMode, Protocol,
    Severity,
};

use super::access_log;
use super::facts::duration;
use super::filter_chain::{ChainMatch, ChainParts, write_chain};
use super::hcm::{self, HcmInputs, Routes};
use super::inbound::{InboundInputs, InboundPort};
use super::inbound_chain::{self, InboundChain};
use super::listener_filter::write_inbound_filters;
use super::network_filter::{
    TcpPolicy, TcpRoute, TcpTarget, write_black_hole, write_metadata_exchange,
};
use super::outbound_build::{additional_addresses, diagnostic, exact_balance};
use crate::address::build_address;
use crate::encoded::{Encoded, References};
use crate::http_filter::ListenerClass;
use crate::name;
use crate::rds::{InboundRoute, InboundRoutes};

/// The listener that iptables redirects to, and its chains of ports that nobody declares.
const VIRTUAL_INBOUND: &str = "virtualInbound";

/// One port, or everything else, on its way to chains.
struct Served<'a> {
    inputs: &'a InboundInputs,
    /// `None` for the chains of ports that nobody declares.
    port: Option<&'a InboundPort>,
    /// Of its chains.
    name: String,
    /// 0 matches every port.
    target_port: u32,
    mode: MutualTlsMode,
    /// The routes of its connection managers, encoded.
    routes: OnceCell<Vec<u8>>,
}

/// What the chains of one listener have in common.
struct SharedParts<'a> {
    inputs: &'a InboundInputs,
    /// What policies put before a TCP proxy, encoded.
    policy_filters: Writer,
    routes: InboundRoutes<'a>,
}

/// One filter chain.
struct Chain<'a> {
    name: &'a str,
    conditions: ChainMatch,
    /// `None` drops what comes.
    content: Option<(&'a Served<'a>, &'static InboundChain)>,
}

/// The listener, and ports that can't be served.
pub(super) fn build(inputs: &InboundInputs) -> (Encoded<Listener>, Vec<Diagnostic>) {
    let network = &inputs.network;
    let policies = &inputs.http.policies;
    let mut diagnostics = policies.diagnostics();
    let served = served(inputs);
    let chains = chains(inputs, &served, &mut diagnostics);
    let is_bound = inputs.passthrough.is_none();
    let is_transparent = !is_bound && network.interception == InterceptionMode::Tproxy;
    let rest = build_rest(inputs, is_transparent);
    let template = Template::of(&rest, field::ONEOFS);
    let mut out = Writer::with_capacity(template.len() + 3072 * chains.len());
    let mut listener = template.fill(&mut out);
    let mut parts = SharedParts {
        inputs,
        policy_filters: Writer::default(),
        routes: InboundRoutes::new(inputs.default_retry.as_ref()),
    };
    policies.write_tcp(&mut parts.policy_filters);
    let place = listener.at(field::FILTER_CHAINS);
    for chain in &chains {
        chain.write(&parts, place);
    }
    let conditions = chains.iter().map(|chain| &chain.conditions);
    let place = listener.at(field::LISTENER_FILTERS);
    write_inbound_filters(conditions, is_bound, is_transparent, place);
    listener.finish();
    for (port, served) in inputs
        .ports
        .iter()
        .zip(&served[served.len() - inputs.ports.len()..])
    {
        let rejected = port.rejected.iter();
        diagnostics.extend(rejected.map(|rejection| diagnostic(rejection, &served.name)));
    }
    let listener = Encoded::new(rest.name.into(), out, References::Nothing);
    (listener, diagnostics)
}

/// All but chains and listener filters.
fn build_rest(inputs: &InboundInputs, is_transparent: bool) -> Listener {
    let network = &inputs.network;
    let mut listener = Listener {
        name: VIRTUAL_INBOUND.to_owned(),
        traffic_direction: TrafficDirection::Inbound as i32,
        continue_on_listener_filters_timeout: true,
        max_connections_to_accept_per_socket_event: Some(1),
        connection_balance_config: exact_balance(network.has_inbound_exact_balance),
        transparent: is_transparent.then_some(true),
        access_log: access_log::build_listener(&network.access_log),
        listener_filters_timeout: Some(duration(network.protocol_detection_timeout)),
        ..Listener::default()
    };
    let bound = inputs.ports.first();
    if let Some(port) = bound.filter(|_| inputs.passthrough.is_none()) {
        let bind = port.binds.first().map_or("", |bind| &**bind);
        listener.name = chain_name(port);
        listener.address = Some(build_address(bind, port.target_port));
        listener.additional_addresses = additional_addresses(&port.binds, port.target_port);
    } else {
        let wildcard = network.ip_mode.wildcards()[0];
        listener.address = Some(build_address(wildcard, network.proxy_inbound_listen_port));
    }
    listener
}

/// First what no service declares, then each port.
fn served<'a>(inputs: &'a InboundInputs) -> Vec<Served<'a>> {
    let served = |target_port, mode, port: Option<&'a InboundPort>| Served {
        inputs,
        port,
        name: port.map_or_else(|| VIRTUAL_INBOUND.to_owned(), chain_name),
        target_port,
        mode,
        routes: OnceCell::new(),
    };
    let mut all = Vec::new();
    if let Some(modes) = &inputs.passthrough {
        all.push(served(0, modes.mode, None));
        all.extend(
            modes
                .ports
                .iter()
                .map(|(port, mode)| served(*port, *mode, None)),
        );
    }
    let ports = inputs.ports.iter();
    all.extend(ports.map(|port| served(port.target_port, port.mode, Some(port))));
    all
}

fn chains<'a>(
    inputs: &InboundInputs,
    served: &'a [Served<'a>],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Chain<'a>> {
    let mut chains = Vec::new();
    if inputs.passthrough.is_some() {
        let own_port = inputs.network.proxy_inbound_listen_port;
        chains.push(black_hole("virtualInbound-blackhole", own_port));
    }
    for served in served {
        let n_before = chains.len();
        chains.extend(served.chains());
        if chains.len() > n_before {
            continue;
        }
        diagnostics.extend(served.unservable());
        // Without a chain of its own the port would fall to those of undeclared ports, which may take plaintext.
        if served.target_port > 0 {
            chains.push(black_hole(&served.name, served.target_port));
        }
    }
    chains
}

/// The name of the chains of a declared port.
fn chain_name(port: &InboundPort) -> String {
    let bind = port.binds.first().map_or("", |bind| &**bind);
    format!("{bind}_{}", port.target_port)
}

/// Drops what comes to a port.
fn black_hole(name: &str, port: u32) -> Chain<'_> {
    Chain {
        name,
        conditions: ChainMatch {
            destination_port: port,
            ..ChainMatch::default()
        },
        content: None,
    }
}

impl Chain<'_> {
    fn write(&self, shared: &SharedParts<'_>, out: &mut Writer) {
        let inputs = shared.inputs;
        let origin = self
            .content
            .and_then(|(served, _)| served.port?.sidecar.as_ref());
        let is_terminating = self.content.is_some_and(|(_, kind)| kind.is_terminating);
        let is_http = self.content.is_some_and(|(_, kind)| kind.is_http);
        let parts = ChainParts {
            name: self.name,
            conditions: Some(&self.conditions),
            origin: origin.map(|(namespace, name)| ("sidecar", namespace.as_str(), name.as_str())),
            transport_socket: is_terminating.then(|| inputs.tls.socket(is_http)),
            handshake_timeout: None,
        };
        write_chain(field::FILTER_CHAINS, parts, out, |out| {
            write_metadata_exchange(&inputs.network, out);
            match self.content {
                None => write_black_hole(out),
                Some((served, kind)) if kind.is_http => {
                    served.write_connection_manager(&shared.routes, out);
                }
                Some((served, _)) => {
                    out.append(shared.policy_filters.as_slice());
                    served.tcp_route().write(&inputs.network, out);
                }
            }
        });
    }
}

impl<'a> Served<'a> {
    fn protocol(&self) -> Protocol {
        self.port
            .map_or(Protocol::Unsupported, |port| port.port.protocol)
    }

    fn chains(&'a self) -> impl Iterator<Item = Chain<'a>> {
        let has_certificate = self.inputs.network.has_workload_certificate;
        let kind = self.protocol().listener_protocol();
        inbound_chain::chains(self.mode, kind, has_certificate).map(|chain| Chain {
            name: if self.port.is_none() && chain.is_http {
                "virtualInbound-catchall-http"
            } else {
                &self.name
            },
            conditions: ChainMatch {
                destination_port: self.target_port,
                application_protocols: chain.application_protocols,
                transport_protocol: chain.transport_protocol,
                ..ChainMatch::default()
            },
            content: Some((self, chain)),
        })
    }

    fn cluster(&self) -> String {
        match self.port {
            Some(port) => name::inbound_cluster(port.target_port),
            None => name::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        }
    }

    fn write_connection_manager(&self, routes: &InboundRoutes<'_>, out: &mut Writer) {
        let inputs = self.inputs;
        let stat_prefix = match self.port {
            Some(_) => ["inbound_", &self.name].concat(),
            None => name::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        };
        let manager = HcmInputs {
            class: ListenerClass::SidecarInbound,
            stat_prefix: &name::delimited_stat_name(&stat_prefix),
            routes: Routes::Inline(self.routes.get_or_init(|| self.encode_routes(routes))),
            protocol: self.protocol(),
            is_explicit_proxy: false,
            dynamic_host: None,
        };
        hcm::write(&inputs.network, &inputs.http, &manager, out);
    }

    fn encode_routes(&self, routes: &InboundRoutes<'_>) -> Vec<u8> {
        routes.encode(InboundRoute {
            cluster: &self.cluster(),
            hostname: self.port.map_or("", |port| &port.hostname),
            port: self.port.map_or(0, |port| port.port.number),
            is_grpc: matches!(self.protocol(), Protocol::Grpc | Protocol::GrpcWeb),
        })
    }

    fn tcp_route(&self) -> TcpRoute {
        let cluster = self.cluster();
        TcpRoute {
            stat_prefix: match self.inputs.stat_pattern.as_str() {
                "" => cluster.clone(),
                pattern => self.stat_name(pattern),
            },
            target: TcpTarget::Single(cluster),
            protocol: self.protocol(),
            policy: TcpPolicy::default(),
        }
    }

    /// The mesh's pattern filled in (istio `pilot/pkg/networking/telemetry/telemetry.go` `BuildInboundStatPrefix`).
    fn stat_name(&self, pattern: &str) -> String {
        let hostname = self.port.map_or("", |port| port.hostname.as_str());
        let kubernetes = self.port.and_then(|port| port.kubernetes.as_ref());
        let (short, name) = match kubernetes {
            Some((name, namespace)) => (format!("{name}.{namespace}"), &**name),
            None => (hostname.to_owned(), hostname),
        };
        let port = self.port.map(|port| &port.port);
        pattern
            .replace("%SERVICE%", &short)
            .replace("%SERVICE_NAME%", name)
            .replace("%SERVICE_FQDN%", hostname)
            .replace("%SUBSET_NAME%", "")
            .replace(
                "%SERVICE_PORT%",
                &port.map_or(0, |port| port.number).to_string(),
            )
            .replace(
                "%SERVICE_PORT_NAME%",
                port.map_or("virtualInbound", |port| &port.name),
            )
    }

    fn unservable(&self) -> Option<Diagnostic> {
        let (namespace, pod) = self.inputs.workload.as_ref()?;
        let what = match self.target_port {
            0 => "ports without a service".to_owned(),
            port => format!("port {port}"),
        };
        let kind = match self.protocol().listener_protocol() {
            ListenerProtocol::Http => "HTTP",
            ListenerProtocol::Tcp | ListenerProtocol::Auto => "TCP",
        };
        Some(Diagnostic {
            key: ConfigKey::new(Kind::Pod, namespace, pod),
            code: "strict-mtls-without-certificate",
            severity: Severity::Error,
            field_path: String::new(),
            message: format!(
                "{what} ({kind}) takes mutual TLS only, but the proxy has no workload certificate, so that nobody is \
                 let in; give its Envoy a secret source for `default` and `ROOTCA` and set WORKLOAD_CERTIFICATE in \
                 node.metadata, or use a PeerAuthentication of mode PERMISSIVE or DISABLE"
            ),
        })
    }
}
