//! Inbound listeners as messages.
//!
//! Source: istio `pilot/pkg/networking/core/listener_inbound.go` `buildInboundListeners`.

use navarch_envoy::envoy::config::core::v3::TrafficDirection;
use navarch_envoy::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use navarch_model::{
    ConfigKey, Diagnostic, InterceptionMode, Kind, ListenerProtocol, MutualTlsMode, Protocol,
    Severity,
};

use super::facts::duration;
use super::filter_chain::config_metadata;
use super::hcm::{self, HcmInputs, Routes};
use super::inbound::{InboundInputs, InboundPort};
use super::inbound_chain::{self, InboundChain};
use super::network_filter::{self, TcpPolicy, TcpRoute, TcpTarget};
use super::outbound_build::{additional_addresses, diagnostic, exact_balance};
use super::{access_log, listener_filter};
use crate::address::build_address;
use crate::http_filter::ListenerClass;
use crate::name;
use crate::rds::{InboundRouteInputs, inbound_route_configuration};

/// One port, or everything else, on its way to chains.
struct Served<'a> {
    inputs: &'a InboundInputs,
    /// `None` for the chains of ports that nobody declares.
    port: Option<&'a InboundPort>,
    /// 0 matches every port.
    target_port: u32,
    mode: MutualTlsMode,
    /// What policies put before a TCP proxy.
    policy_filters: &'a [Filter],
}

/// The listener, and ports that can't be served.
pub(super) fn build(inputs: &InboundInputs) -> (Listener, Vec<Diagnostic>) {
    let network = &inputs.network;
    let (chains, diagnostics) = chains(inputs);
    let bound = inputs
        .ports
        .first()
        .filter(|_| inputs.passthrough.is_none());
    let is_transparent = bound.is_none() && network.interception == InterceptionMode::Tproxy;
    let mut listener = Listener {
        name: "virtualInbound".to_owned(),
        traffic_direction: TrafficDirection::Inbound as i32,
        continue_on_listener_filters_timeout: true,
        max_connections_to_accept_per_socket_event: Some(1),
        connection_balance_config: exact_balance(network.has_inbound_exact_balance),
        transparent: is_transparent.then_some(true),
        access_log: access_log::build_listener(&network.access_log),
        listener_filters: listener_filter::inbound_filters(
            &chains,
            bound.is_some(),
            is_transparent,
        ),
        listener_filters_timeout: Some(duration(network.protocol_detection_timeout)),
        filter_chains: chains,
        ..Listener::default()
    };
    if let Some(port) = bound {
        let bind = port.binds.first().map_or("", |bind| &**bind);
        listener.name = chain_name(port);
        listener.address = Some(build_address(bind, port.target_port));
        listener.additional_addresses = additional_addresses(&port.binds, port.target_port);
    } else {
        let wildcard = network.ip_mode.wildcards()[0];
        listener.address = Some(build_address(wildcard, network.proxy_inbound_listen_port));
    }
    (listener, diagnostics)
}

/// First what no service declares, then each port.
fn chains(inputs: &InboundInputs) -> (Vec<FilterChain>, Vec<Diagnostic>) {
    let policies = &inputs.http.policies;
    let mut diagnostics = policies.diagnostics();
    let policy_filters = policies.tcp();
    let mut chains = Vec::new();
    let mut undeclared = Vec::new();
    if let Some(modes) = &inputs.passthrough {
        let own_port = inputs.network.proxy_inbound_listen_port;
        chains.push(black_hole_chain(
            inputs,
            "virtualInbound-blackhole",
            own_port,
        ));
        undeclared.push((0, modes.mode));
        undeclared.extend(modes.ports.iter().map(|(port, mode)| (*port, *mode)));
    }
    let undeclared = undeclared
        .into_iter()
        .map(|(port, mode)| (port, mode, None));
    let declared = inputs
        .ports
        .iter()
        .map(|port| (port.target_port, port.mode, Some(port)));
    for (target_port, mode, port) in undeclared.chain(declared) {
        let served = Served {
            inputs,
            port,
            target_port,
            mode,
            policy_filters: &policy_filters,
        };
        chains.extend(served.chains(&mut diagnostics));
    }
    for port in &inputs.ports {
        let name = chain_name(port);
        let rejected = port.rejected.iter();
        diagnostics.extend(rejected.map(|rejection| diagnostic(rejection, &name)));
    }
    (chains, diagnostics)
}

/// The name of the chains of a declared port.
fn chain_name(port: &InboundPort) -> String {
    let bind = port.binds.first().map_or("", |bind| &**bind);
    format!("{bind}_{}", port.target_port)
}

/// Drops what comes to a port.
fn black_hole_chain(inputs: &InboundInputs, name: &str, port: u32) -> FilterChain {
    let mut filters: Vec<Filter> = network_filter::metadata_exchange(&inputs.network)
        .into_iter()
        .collect();
    filters.push(network_filter::black_hole());
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(port),
            ..FilterChainMatch::default()
        }),
        filters,
        ..FilterChain::default()
    }
}

impl Served<'_> {
    fn protocol(&self) -> Protocol {
        self.port
            .map_or(Protocol::Unsupported, |port| port.port.protocol)
    }

    fn chains(&self, diagnostics: &mut Vec<Diagnostic>) -> Vec<FilterChain> {
        let has_certificate = self.inputs.network.has_workload_certificate;
        let kind = self.protocol().listener_protocol();
        let chains: Vec<FilterChain> = inbound_chain::chains(self.mode, kind, has_certificate)
            .map(|chain| self.build(chain))
            .collect();
        if !chains.is_empty() {
            return chains;
        }
        diagnostics.extend(self.unservable());
        if self.target_port == 0 {
            return chains;
        }
        // Without a chain of its own the port would fall to those of undeclared ports, which may take plaintext.
        let name = self
            .port
            .map_or_else(|| "virtualInbound".to_owned(), chain_name);
        vec![black_hole_chain(self.inputs, &name, self.target_port)]
    }

    fn build(&self, chain: &InboundChain) -> FilterChain {
        let mut filters: Vec<Filter> = network_filter::metadata_exchange(&self.inputs.network)
            .into_iter()
            .collect();
        if chain.is_http {
            filters.push(self.connection_manager());
        } else {
            filters.extend_from_slice(self.policy_filters);
            filters.extend(self.tcp_route().build(&self.inputs.network));
        }
        let name = match self.port {
            Some(port) => chain_name(port),
            None if chain.is_http => "virtualInbound-catchall-http".to_owned(),
            None => "virtualInbound".to_owned(),
        };
        let protocols = chain.application_protocols.iter();
        FilterChain {
            name,
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some(self.target_port).filter(|port| *port > 0),
                application_protocols: protocols.map(ToString::to_string).collect(),
                transport_protocol: chain.transport_protocol.to_owned(),
                ..FilterChainMatch::default()
            }),
            filters,
            transport_socket: chain
                .is_terminating
                .then(|| self.inputs.tls.build(chain.is_http)),
            metadata: self
                .port
                .and_then(|port| port.sidecar.as_ref())
                .map(|(namespace, name)| config_metadata("sidecar", namespace, name)),
            ..FilterChain::default()
        }
    }

    fn cluster(&self) -> String {
        match self.port {
            Some(port) => name::inbound_cluster(port.target_port),
            None => name::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        }
    }

    fn connection_manager(&self) -> Filter {
        let inputs = self.inputs;
        let stat_prefix = match self.port {
            Some(port) => format!("inbound_{}", chain_name(port)),
            None => name::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        };
        let routes = inbound_route_configuration(&InboundRouteInputs {
            cluster: self.cluster(),
            hostname: self
                .port
                .map(|port| port.hostname.clone())
                .unwrap_or_default(),
            port: self.port.map_or(0, |port| port.port.number),
            default_retry: inputs.default_retry.clone(),
            is_grpc: matches!(self.protocol(), Protocol::Grpc | Protocol::GrpcWeb),
        });
        let manager = HcmInputs {
            class: ListenerClass::SidecarInbound,
            stat_prefix: name::delimited_stat_name(&stat_prefix),
            routes: Routes::Inline(Box::new(routes)),
            protocol: self.protocol(),
            is_explicit_proxy: false,
            dynamic_host: None,
        };
        hcm::build(&inputs.network, &inputs.http, manager)
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
