//! Outbound listeners as inputs: which address and port gets which chains, and who yields to whom.
//!
//! Source: istio `pilot/pkg/networking/core/listener.go` `buildSidecarOutboundListeners`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use navarch_model::{
    CaptureMode, Hostname, InterceptionMode, ListenerProtocol, Protocol, Registry, Resolution,
    Service, ServicePort, Shared,
};
use navarch_snapshot::{EgressScope, MeshSnapshot, ProxyScope};

use super::facts::{HttpFacts, NetworkFacts, ip_mode};
use super::filter_chain::{ChainMatch, PLAINTEXT_HTTP, RAW_BUFFER};
use super::network_filter::TcpRoute;
use super::outbound_places::OutboundPlaces;
use super::tcp_routing::TcpRouting;
use super::{reserved, service_address};
use crate::address::{self, IpMode};
use crate::name::Decimal;

/// One outbound listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboundInputs {
    pub(super) network: Shared<NetworkFacts>,
    /// Only where a chain has a connection manager.
    pub(super) http: Option<Shared<HttpFacts>>,
    /// Where connections go that no chain matches.
    pub(super) fallback: Shared<TcpRoute>,
    /// The first is the address; the others are additional ones.
    pub(super) binds: Arc<[Arc<str>]>,
    pub(super) port: u32,
    /// Whether it has a socket of its own; else it is found by the original destination.
    pub(super) is_bound: bool,
    pub(super) chains: Vec<OutboundChain>,
    /// Services whose chains had to yield.
    pub(super) rejected: Vec<Rejection>,
}

impl OutboundInputs {
    /// The port and the address by which it is told from others.
    pub fn place(&self) -> (u32, Arc<str>) {
        (self.port, self.binds.first().cloned().unwrap_or_default())
    }

    /// The names of the route configurations that its chains ask for.
    pub(super) fn route_names(&self) -> impl Iterator<Item = &str> {
        let names = self.chains.iter().filter_map(|c| c.content.route_name());
        names.map(|name| &**name)
    }
}

/// One filter chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OutboundChain {
    pub(super) conditions: ChainMatch,
    /// Namespace and name of the VirtualService it comes from.
    pub(super) origin: Option<(String, String)>,
    pub(super) content: ChainContent,
}

/// What a chain does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ChainContent {
    /// Proxies bytes.
    Tcp(TcpRoute),
    /// Proxies requests.
    Http {
        /// The name of the route configuration.
        route_name: Arc<str>,
        protocol: Protocol,
        /// The wildcard host of an entry that resolves by request, if one opens the listener.
        dynamic_host: Option<Arc<str>>,
    },
}

impl ChainContent {
    /// The route configuration that it asks for.
    pub(super) fn route_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Http { route_name, .. } => Some(route_name),
            Self::Tcp(_) => None,
        }
    }

    /// Whether traffic goes the same way: all that share a port's routes do.
    fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http { route_name: a, .. }, Self::Http { route_name: b, .. }) => a == b,
            _ => self == other,
        }
    }
}

/// A service that got no chain, or not all, on a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Rejection {
    pub(super) registry: Registry,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) hostname: Hostname,
    pub(super) reason: RejectionReason,
}

/// Why a service had to yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum RejectionReason {
    /// An older service has a chain that matches the same.
    SameMatch,
    /// A server-first protocol can't share the port.
    ServerFirst,
    /// An older service says what the workload's port speaks.
    OtherProtocol,
}

/// Addresses of a listener, and whether they are sockets.
#[derive(Clone)]
struct Binding {
    binds: Arc<[Arc<str>]>,
    is_bound: bool,
}

struct Entry {
    binding: Binding,
    port: u32,
    protocol: Protocol,
    is_locked: bool,
    chains: Vec<OutboundChain>,
    /// Places in `chains`, by what Envoy tells them apart by.
    by_key: BTreeMap<u128, usize>,
    rejected: Vec<Rejection>,
}

impl Entry {
    /// Whether one connection manager serves what is there and what comes: its routes tell the services apart.
    fn serves_alike(&self, incoming: Protocol) -> bool {
        match incoming.listener_protocol() {
            ListenerProtocol::Http => !self.protocol.is_tcp(),
            ListenerProtocol::Auto => self.protocol.is_unsupported(),
            ListenerProtocol::Tcp => false,
        }
    }

    /// Add a chain unless one is there that Envoy can't tell from it; whether its traffic gets what it says.
    fn add(&mut self, chain: OutboundChain) -> bool {
        match self.by_key.entry(chain.conditions.conflict_key()) {
            MapEntry::Occupied(known) => self.chains[*known.get()].content.is_alike(&chain.content),
            MapEntry::Vacant(free) => {
                free.insert(self.chains.len());
                self.chains.push(chain);
                true
            }
        }
    }
}

/// One service port on its way to a listener.
struct Candidate<'a> {
    service: &'a Shared<Service>,
    port: &'a ServicePort,
    binding: Binding,
    /// The service's address where it is a range.
    cidr: Option<Arc<str>>,
}

struct Collector<'a> {
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    mode: IpMode,
    /// Of the mode.
    wildcards: Arc<[Arc<str>]>,
    /// Where listeners are wanted; `None` for everywhere.
    places: Option<&'a OutboundPlaces>,
    /// By address and port.
    entries: BTreeMap<Arc<str>, BTreeMap<u32, Entry>>,
}

/// The outbound listeners of a sidecar, by address and port.
pub(super) fn inputs(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    (network, http, fallback): (&Shared<NetworkFacts>, &Shared<HttpFacts>, &Shared<TcpRoute>),
    places: Option<&OutboundPlaces>,
) -> Vec<OutboundInputs> {
    let mode = ip_mode(&scope.group);
    let mut collector = Collector {
        mesh,
        scope,
        mode,
        wildcards: shared(mode.wildcards()),
        places,
        entries: BTreeMap::new(),
    };
    for egress in &scope.egress {
        collector.add_egress(egress);
    }
    let finish = |entry: Entry| {
        let is_http = |chain: &OutboundChain| matches!(chain.content, ChainContent::Http { .. });
        OutboundInputs {
            network: network.clone(),
            http: entry.chains.iter().any(is_http).then(|| http.clone()),
            fallback: fallback.clone(),
            binds: entry.binding.binds,
            port: entry.port,
            is_bound: entry.binding.is_bound,
            chains: entry.chains,
            rejected: entry.rejected,
        }
    };
    let entries = collector.entries.into_values();
    entries
        .flat_map(BTreeMap::into_values)
        .map(finish)
        .collect()
}

fn shared(addresses: &[&str]) -> Arc<[Arc<str>]> {
    addresses
        .iter()
        .map(|address| Arc::from(*address))
        .collect()
}

impl Collector<'_> {
    fn add_egress(&mut self, egress: &EgressScope) {
        let listener = egress.listener.as_ref();
        let bind = listener.map_or("", |listener| listener.bind.as_str());
        let is_bound = self.scope.group.interception == InterceptionMode::None
            || egress.capture_mode() == CaptureMode::None
            || bind.starts_with("unix://");
        let binds = match bind {
            "" if is_bound => shared(self.mode.localhosts()),
            "" => shared(&[]),
            bind => shared(&[bind]),
        };
        let binding = Binding { binds, is_bound };
        let routing = TcpRouting::new(self.scope, &egress.virtual_services);
        if let Some(port) = listener.and_then(|listener| listener.port.as_ref()) {
            let port = ServicePort {
                name: port.name.as_str().into(),
                number: port.number,
                protocol: Protocol::parse(&port.protocol),
                target_port: None,
                target_port_name: None,
            };
            if self.is_wanted(&port) && self.is_free(&binding, &port) {
                for service in &egress.services {
                    self.add(&routing, service, &port, &binding);
                }
            }
            return;
        }
        // Ports that the listeners before this one claim are theirs alone.
        for entry in self.entries.values_mut().flat_map(BTreeMap::values_mut) {
            entry.is_locked = true;
        }
        for service in &egress.services {
            for port in &service.ports {
                if self.is_wanted(port) && self.is_free(&binding, port) {
                    self.add_service_port(&routing, service, port, &binding);
                }
            }
        }
    }

    fn is_wanted(&self, port: &ServicePort) -> bool {
        self.places
            .is_none_or(|places| places.has_port(port.number))
    }

    fn is_free(&self, binding: &Binding, port: &ServicePort) -> bool {
        let bind = binding.binds.first().map_or("", |bind| &**bind);
        reserved::is_free(
            &self.scope.group,
            &self.scope.mesh_config,
            binding.is_bound,
            bind,
            port,
        )
    }

    /// One port of a service, for each endpoint where connections go to endpoints directly.
    fn add_service_port(
        &mut self,
        routing: &TcpRouting<'_>,
        service: &Shared<Service>,
        port: &ServicePort,
        binding: &Binding,
    ) {
        let is_per_endpoint = binding.binds.is_empty()
            && service.resolution == Resolution::Passthrough
            && service_address::of(service, &self.scope.group).is_empty()
            && (port.protocol.is_tcp() || port.protocol.is_unsupported());
        if !is_per_endpoint {
            self.add(routing, service, port, binding);
            return;
        }
        let endpoints = self.mesh.endpoints(service);
        let mut addresses = endpoints
            .of_port(&port.name)
            .map(|e| &e.addresses)
            .peekable();
        // Without endpoints only a plain ServiceEntry stays, for destinations that nobody lists.
        if addresses.peek().is_none()
            && service.registry != Registry::Kubernetes
            && service.selector.is_empty()
        {
            self.add(routing, service, port, binding);
            return;
        }
        for addresses in addresses {
            let Some(first) = addresses.first() else {
                continue;
            };
            // A workload's calls to itself don't come this way.
            let is_own = self.scope.group.headless_addresses.contains(first);
            if is_own || !addresses.iter().all(|address| address::is_ip(address)) {
                continue;
            }
            let binding = Binding {
                binds: addresses.as_slice().into(),
                is_bound: false,
            };
            self.add(routing, service, port, &binding);
        }
    }

    /// One service on one port: find its addresses, then take its place there.
    fn add(
        &mut self,
        routing: &TcpRouting<'_>,
        service: &Shared<Service>,
        port: &ServicePort,
        binding: &Binding,
    ) {
        if service.resolution == Resolution::Alias || port.protocol == Protocol::Udp {
            return;
        }
        let candidate = |binds: Arc<[Arc<str>]>, cidr: Option<Arc<str>>| Candidate {
            service,
            port,
            binding: Binding {
                binds,
                is_bound: binding.is_bound,
            },
            cidr,
        };
        if !binding.binds.is_empty() {
            self.place(routing, &candidate(binding.binds.clone(), None));
            return;
        }
        if port.protocol.listener_protocol() == ListenerProtocol::Http {
            let wildcard = self.mode.wildcards()[0];
            let known = self.find_entry(wildcard, port.number);
            // Most services of a mesh are HTTP on a few ports.
            if known.is_some_and(|entry| !entry.is_locked && entry.serves_alike(port.protocol)) {
                return;
            }
            self.place(routing, &candidate(self.wildcards.clone(), None));
            return;
        }
        let addresses = service_address::of(service, &self.scope.group);
        if addresses.is_empty() {
            self.place(routing, &candidate(self.unspecified(service), None));
        }
        for address in addresses {
            if address.contains('/') {
                self.place(
                    routing,
                    &candidate(self.wildcards.clone(), Some(address.clone())),
                );
            } else {
                self.place(routing, &candidate(Arc::new([address.clone()]), None));
            }
        }
    }

    /// Where a service without an address is listened for.
    fn unspecified(&self, service: &Service) -> Arc<[Arc<str>]> {
        if service.registry == Registry::External {
            return self.wildcards.clone();
        }
        shared(&["0.0.0.0"])
    }

    fn place(&mut self, routing: &TcpRouting<'_>, candidate: &Candidate<'_>) {
        let Some(bind) = candidate.binding.binds.first() else {
            return;
        };
        let port = candidate.port.number;
        if self.places.is_some_and(|places| !places.has(port, bind)) {
            return;
        }
        let incoming = candidate.port.protocol;
        let Some(entry) = self.find_entry(bind, port) else {
            self.set_entry(routing, candidate, bind);
            return;
        };
        if entry.is_locked || entry.serves_alike(incoming) {
            return;
        }
        let existing = entry.protocol;
        if is_server_first_conflict(incoming, existing) {
            self.reject(bind, candidate, RejectionReason::ServerFirst);
            return;
        }
        if incoming.is_unsupported() && existing.is_http() {
            self.set_entry(routing, candidate, bind);
            return;
        }
        let chains = self.chains(routing, candidate);
        self.merge(bind, candidate, chains);
    }

    fn find_entry(&self, bind: &str, port: u32) -> Option<&Entry> {
        self.entries.get(bind)?.get(&port)
    }

    fn find_entry_mut(&mut self, bind: &str, port: u32) -> Option<&mut Entry> {
        self.entries.get_mut(bind)?.get_mut(&port)
    }

    fn set_entry(&mut self, routing: &TcpRouting<'_>, candidate: &Candidate<'_>, bind: &Arc<str>) {
        let entry = self.new_entry(routing, candidate);
        let of_bind = self.entries.entry(bind.clone()).or_default();
        of_bind.insert(candidate.port.number, entry);
    }

    fn new_entry(&self, routing: &TcpRouting<'_>, candidate: &Candidate<'_>) -> Entry {
        let chains = self.chains(routing, candidate);
        let is_shared_http = candidate.port.protocol.listener_protocol() == ListenerProtocol::Http
            && chains.iter().any(|chain| !chain.conditions.is_match_all());
        let mut entry = Entry {
            binding: candidate.binding.clone(),
            port: candidate.port.number,
            // A connection manager that leaves all but HTTP to the chain after it is a sniffed listener.
            protocol: if is_shared_http {
                Protocol::Unsupported
            } else {
                candidate.port.protocol
            },
            is_locked: false,
            by_key: BTreeMap::new(),
            chains: Vec::new(),
            rejected: Vec::new(),
        };
        for chain in chains {
            entry.add(chain);
        }
        entry
    }

    fn merge(&mut self, bind: &str, candidate: &Candidate<'_>, chains: Vec<OutboundChain>) {
        let Some(entry) = self.find_entry_mut(bind, candidate.port.number) else {
            return;
        };
        let mut is_rejected = false;
        for chain in chains {
            is_rejected |= !entry.add(chain);
        }
        // HTTP and TCP on one port are told apart by sniffing.
        if candidate.port.protocol.is_tcp() != entry.protocol.is_tcp() {
            entry.protocol = Protocol::Unsupported;
        }
        if is_rejected {
            self.reject(bind, candidate, RejectionReason::SameMatch);
        }
    }

    fn reject(&mut self, bind: &str, candidate: &Candidate<'_>, reason: RejectionReason) {
        let service = candidate.service;
        let rejection = Rejection {
            registry: service.registry,
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            hostname: service.hostname.clone(),
            reason,
        };
        if let Some(entry) = self.find_entry_mut(bind, candidate.port.number) {
            entry.rejected.push(rejection);
        }
    }

    fn chains(&self, routing: &TcpRouting<'_>, candidate: &Candidate<'_>) -> Vec<OutboundChain> {
        let primary = candidate.binding.binds.first().map_or("", |bind| &**bind);
        let is_wildcard = primary == self.mode.wildcards()[0];
        let cidr = candidate.cidr.as_deref();
        let tcp = || routing.chains(candidate.service, candidate.port, cidr, is_wildcard);
        let service = candidate.service;
        let is_dynamic =
            service.resolution == Resolution::DynamicDns && service.hostname.is_wildcard();
        let dynamic_host = is_dynamic.then(|| Arc::from(service.hostname.as_str()));
        let http = |is_sniffed: bool, route_name: Arc<str>| OutboundChain {
            conditions: if is_sniffed {
                ChainMatch {
                    application_protocols: PLAINTEXT_HTTP,
                    transport_protocol: RAW_BUFFER,
                    ..ChainMatch::default()
                }
            } else {
                ChainMatch::default()
            },
            origin: None,
            content: ChainContent::Http {
                route_name,
                protocol: candidate.port.protocol,
                dynamic_host: dynamic_host.clone(),
            },
        };
        let number = candidate.port.number;
        let shared_name = || -> Arc<str> {
            if number == 0 {
                primary.into()
            } else {
                Decimal::new(number).as_str().into()
            }
        };
        match candidate.port.protocol.listener_protocol() {
            ListenerProtocol::Tcp => tcp(),
            ListenerProtocol::Http => {
                let is_sniffed = is_wildcard && candidate.port.protocol != Protocol::HttpProxy;
                vec![http(is_sniffed, shared_name())]
            }
            ListenerProtocol::Auto => {
                // Its listener is its own, and so are its routes.
                let name = if is_wildcard || number == 0 {
                    shared_name()
                } else {
                    format!("{}:{number}", candidate.service.hostname).into()
                };
                let mut chains = tcp();
                chains.push(http(true, name));
                chains
            }
        }
    }
}

/// Whether one of the two lets the server speak first, so that nothing may wait for the client's first bytes.
fn is_server_first_conflict(incoming: Protocol, existing: Protocol) -> bool {
    let is_server_first = |p: Protocol| matches!(p, Protocol::Mongo | Protocol::Mysql);
    (is_server_first(incoming) || is_server_first(existing)) && incoming != existing
}

#[cfg(test)]
mod tests {
    use navarch_model::Protocol;

    use super::is_server_first_conflict;

    #[test]
    fn server_first_protocols_share_a_port_only_with_themselves() {
        assert!(is_server_first_conflict(Protocol::Mongo, Protocol::Tcp));
        assert!(is_server_first_conflict(Protocol::Http, Protocol::Mysql));
        assert!(!is_server_first_conflict(Protocol::Mongo, Protocol::Mongo));
        assert!(!is_server_first_conflict(Protocol::Http, Protocol::Tcp));
    }
}
