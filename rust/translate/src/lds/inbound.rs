//! Inbound listeners as inputs: which ports a workload serves, and how.
//!
//! Source: istio `pilot/pkg/networking/core/listener_inbound.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    CaptureMode, InterceptionMode, MutualTlsMode, Protocol, Proxy, ProxyKind, Registry,
    ServicePort, Shared, Sidecar,
};
use navarch_snapshot::{MeshSnapshot, MutualTlsModes, ProxyScope, ServiceTarget};

use super::facts::{HttpFacts, NetworkFacts};
use super::outbound::{Rejection, RejectionReason};
use super::reserved;
use super::tls::MutualTlsFacts;
use crate::policy::PolicyFacts;

/// One inbound listener: the one that iptables redirects to, or one of a Sidecar that binds its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboundInputs {
    pub(super) network: Shared<NetworkFacts>,
    pub(super) http: Shared<HttpFacts>,
    pub(super) tls: Shared<MutualTlsFacts>,
    /// For ports that nobody declares, and those of them that have a mode of their own; `None` for a bound listener.
    pub(super) passthrough: Option<MutualTlsModes>,
    /// By the workload's port.
    pub(super) ports: Vec<InboundPort>,
    /// Namespace and name of the workload, only where it may have to be told of: replicas share the rest.
    pub(super) workload: Option<(Arc<str>, Arc<str>)>,
    pub(super) default_retry: Option<navarch_model::HttpRetry>,
    pub(super) stat_pattern: String,
}

/// One port that a workload serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InboundPort {
    /// Addresses, the first for names.
    pub(super) binds: Vec<Arc<str>>,
    pub(super) target_port: u32,
    /// The port clients use.
    pub(super) port: ServicePort,
    pub(super) mode: MutualTlsMode,
    /// Of the service, or a name made from the Sidecar's.
    pub(super) hostname: String,
    /// Name and namespace of a Kubernetes service.
    pub(super) kubernetes: Option<(Arc<str>, Arc<str>)>,
    /// Namespace and name of the Sidecar that declares it.
    pub(super) sidecar: Option<(String, String)>,
    pub(super) is_bound: bool,
    /// Younger services that declare another protocol for the same port of the workload.
    pub(super) rejected: Vec<Rejection>,
}

/// The inbound listeners of a sidecar.
pub(super) fn inputs(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    proxy: &Proxy,
    network: &Shared<NetworkFacts>,
) -> Vec<InboundInputs> {
    if scope.group.kind != ProxyKind::Sidecar || scope.mesh_config.proxy_listen_port == 0 {
        return Vec::new();
    }
    let labels = mesh.proxy_labels(proxy);
    let modes = mesh.mutual_tls(&proxy.namespace, &labels);
    let policies = PolicyFacts::new(mesh, &proxy.namespace, &labels, false);
    let ports = ports(mesh, scope, proxy, &modes);
    let (bound, captured): (Vec<_>, Vec<_>) = ports.into_iter().partition(|port| port.is_bound);
    let pod = proxy
        .name
        .strip_suffix(&*format!(".{}", proxy.namespace))
        .unwrap_or(&proxy.name);
    let base = InboundInputs {
        network: network.clone(),
        http: Shared::new(
            HttpFacts::new(&scope.mesh_config, &scope.group, false)
                .with_policies(Shared::new(policies)),
        ),
        tls: Shared::new(MutualTlsFacts::new(&scope.mesh_config, &scope.group)),
        passthrough: None,
        ports: Vec::new(),
        workload: (is_strict_somewhere(&modes) && !network.has_workload_certificate)
            .then(|| (proxy.namespace.clone(), pod.into())),
        default_retry: scope.mesh_config.default_inbound_http_retry_policy.clone(),
        stat_pattern: scope.mesh_config.inbound_cluster_stat_name.clone(),
    };
    let mut listeners = Vec::new();
    if scope.group.interception != InterceptionMode::None {
        listeners.push(InboundInputs {
            passthrough: Some(undeclared(modes, &captured, scope)),
            ports: captured,
            ..base.clone()
        });
    }
    let own = bound.into_iter().map(|port| InboundInputs {
        ports: vec![port],
        ..base.clone()
    });
    listeners.extend(own);
    listeners
}

/// Whether any port takes mutual TLS only.
fn is_strict_somewhere(modes: &MutualTlsModes) -> bool {
    let all = modes.ports.values().chain([&modes.mode]);
    all.into_iter().any(|mode| *mode == MutualTlsMode::Strict)
}

/// The modes that passthrough chains need: a port's own mode only where no chain of its own has it.
fn undeclared(
    mut modes: MutualTlsModes,
    captured: &[InboundPort],
    scope: &ProxyScope,
) -> MutualTlsModes {
    let ingress = ingress_of(scope);
    modes.ports.retain(|port, _| match ingress {
        Some(sidecar) => !sidecar
            .spec
            .ingress
            .iter()
            .any(|own| own.port.number == *port),
        None => !captured.iter().any(|own| own.target_port == *port),
    });
    modes
}

fn ingress_of(scope: &ProxyScope) -> Option<&Shared<Sidecar>> {
    scope
        .sidecar
        .as_ref()
        .filter(|sidecar| !sidecar.spec.ingress.is_empty())
}

/// What the workload serves: what its Sidecar says, else the ports of its services, the oldest service's word first.
fn ports(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    proxy: &Proxy,
    modes: &MutualTlsModes,
) -> Vec<InboundPort> {
    let mut ports: BTreeMap<u32, InboundPort> = BTreeMap::new();
    if let Some(sidecar) = ingress_of(scope) {
        for port in ingress_ports(scope, proxy, sidecar, modes) {
            ports.entry(port.target_port).or_insert(port);
        }
    } else if scope.group.interception != InterceptionMode::None {
        // Without interception a listener per service would take the application's own ports.
        let binds = wildcards(scope);
        for target in mesh.service_targets(proxy) {
            let declared = ServicePort {
                number: target.target_port,
                ..target.port.clone()
            };
            let is_free = reserved::is_free(
                &scope.group,
                &scope.mesh_config,
                false,
                &binds[0],
                &declared,
            );
            if is_free {
                add_target(&mut ports, target, &binds, modes);
            }
        }
    }
    ports.into_values().collect()
}

/// Take a service's word for a port, unless an older one gave its own.
fn add_target(
    ports: &mut BTreeMap<u32, InboundPort>,
    target: ServiceTarget,
    binds: &[Arc<str>],
    modes: &MutualTlsModes,
) {
    let Some(older) = ports.get_mut(&target.target_port) else {
        ports.insert(target.target_port, service_port(target, binds, modes));
        return;
    };
    let service = &target.service;
    if older.port.protocol != target.port.protocol && older.hostname != *service.hostname.as_str() {
        older.rejected.push(Rejection {
            registry: service.registry,
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            hostname: service.hostname.clone(),
            reason: RejectionReason::OtherProtocol,
        });
    }
}

fn wildcards(scope: &ProxyScope) -> Vec<Arc<str>> {
    let mode = super::facts::ip_mode(&scope.group);
    mode.wildcards()
        .iter()
        .map(|bind| Arc::from(*bind))
        .collect()
}

fn service_port(target: ServiceTarget, binds: &[Arc<str>], modes: &MutualTlsModes) -> InboundPort {
    let service = &target.service;
    let is_kubernetes = service.registry == Registry::Kubernetes;
    InboundPort {
        binds: binds.to_vec(),
        target_port: target.target_port,
        mode: modes.of_port(target.target_port),
        hostname: service.hostname.to_string(),
        kubernetes: is_kubernetes.then(|| (service.name.clone(), service.namespace.clone())),
        sidecar: None,
        is_bound: false,
        rejected: Vec::new(),
        port: target.port,
    }
}

fn ingress_ports<'a>(
    scope: &'a ProxyScope,
    proxy: &'a Proxy,
    sidecar: &'a Sidecar,
    modes: &'a MutualTlsModes,
) -> impl Iterator<Item = InboundPort> + 'a {
    let metadata = &sidecar.metadata;
    let has_interception = scope.group.interception != InterceptionMode::None;
    sidecar.spec.ingress.iter().filter_map(move |listener| {
        let port = ServicePort {
            name: listener.port.name.as_str().into(),
            number: listener.port.number,
            protocol: Protocol::parse(&listener.port.protocol),
            target_port: None,
            target_port_name: None,
        };
        let is_bound = match listener.capture_mode {
            CaptureMode::Default => !has_interception,
            CaptureMode::Iptables => false,
            CaptureMode::None => true,
        };
        let group = &scope.group;
        if !reserved::is_free(group, &scope.mesh_config, is_bound, &listener.bind, &port) {
            return None;
        }
        let binds = if listener.bind.is_empty() {
            proxy.ip_addresses.clone()
        } else {
            vec![listener.bind.as_str().into()]
        };
        Some(InboundPort {
            binds,
            target_port: port.number,
            mode: modes.of_port(port.number),
            hostname: format!("{}.{}", metadata.name, metadata.namespace),
            kubernetes: None,
            sidecar: Some((metadata.namespace.clone(), metadata.name.clone())),
            is_bound,
            rejected: Vec::new(),
            port,
        })
    })
}
