//! The route configurations of sidecars: which virtual hosts, under which domains.
//!
//! Source: istio pilot/pkg/networking/core/httproute.go `BuildSidecarOutboundVirtualHosts`,
//! route/route.go `BuildSidecarVirtualHostWrapper`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    DestinationRule, Hostname, OutboundTrafficPolicyMode, Protocol, Resolution, Service,
    ServicePort, Shared, VirtualService, hash_text,
};
use navarch_snapshot::{EgressScope, ProxyScope};

use super::by_hash::ByHash;
use super::domain::{DomainRegistry, Viewer};
use super::hash_policy::{has_hash, hash_of_port};
use super::host_names::HostNames;
use super::inputs::{
    DestinationFacts, Destinations, PortNumbers, RouteClient, RouteConfigurationInputs,
    RouteSource, RouteViewer, ServiceRoute, UnknownHosts, VirtualHostInputs, VirtualServiceRoutes,
};
use super::name::{RouteName, find_egress};
use super::route::has_routes;
use super::selection::{HostIndex, Precedence};
use super::virtual_host::{ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS, BLOCK_ALL};
use crate::name::{ALLOW_ANY_DYNAMIC_DNS_CLUSTER, PASSTHROUGH_CLUSTER, outbound_cluster};

/// Finds the inputs of a sidecar's route configurations.
pub(super) struct SidecarRoutes<'a> {
    scope: &'a ProxyScope,
    viewer: Viewer,
    has_attempt_count: bool,
    client: Shared<RouteViewer>,
    unknown_hosts: Arc<VirtualHostInputs<'a>>,
}

/// An egress listener, indexed once for all its ports.
struct EgressIndex<'a> {
    virtual_services: HostIndex<'a>,
    by_port: BTreeMap<u32, Vec<&'a Shared<Service>>>,
}

/// All virtual hosts of a port.
struct PortHosts<'a> {
    all: Vec<Arc<VirtualHostInputs<'a>>>,
    /// Made when the first sniffed port asks.
    by_domain: OnceCell<ByHash<usize>>,
}

/// One group of virtual hosts with the same routes: those of a VirtualService on one port.
struct Entry<'a> {
    port: u32,
    /// Hosts that are no services.
    hosts: Vec<&'a str>,
    services: Vec<&'a Shared<Service>>,
    routes: Arc<VirtualServiceRoutes<'a>>,
}

/// The services that one listener port can reach.
struct PortView<'a> {
    /// 0 where requests for all ports come together.
    port: u32,
    by_age: Vec<&'a Shared<Service>>,
    /// Where in `by_age` a host is; made when the first VirtualService asks.
    by_host: OnceCell<ByHash<usize>>,
}

impl<'a> PortView<'a> {
    /// The service of a host; the youngest of several.
    fn find(&self, host: &str) -> Option<&'a Shared<Service>> {
        let by_host = self.by_host.get_or_init(|| {
            let mut by_host = ByHash::with_capacity(self.by_age.len());
            for (i, service) in self.by_age.iter().enumerate() {
                *by_host.of(hash_text(service.hostname.as_str()), i) = i;
            }
            by_host
        });
        by_host.find(hash_text(host)).map(|i| self.by_age[i])
    }
}

/// Virtual hosts on their way into a route configuration.
struct HostCollector<'r, 'a> {
    routes: &'r SidecarRoutes<'a>,
    registry: DomainRegistry,
    all: Vec<Arc<VirtualHostInputs<'a>>>,
}

impl<'a> HostCollector<'_, 'a> {
    /// Add a virtual host of a service, unless no domain is left for it.
    fn add_service(
        &mut self,
        service: &Service,
        port: u32,
        routes: impl FnOnce() -> RouteSource<'a>,
    ) {
        let viewer = &self.routes.viewer;
        let names = self.registry.take_service(service, port, viewer);
        self.add(names, routes);
    }

    /// Add a virtual host of a host that is no service, unless its domain is taken.
    fn add_host(&mut self, host: &str, port: u32, routes: impl FnOnce() -> RouteSource<'a>) {
        let names = self.registry.take_host(host, port);
        self.add(names, routes);
    }

    fn add(&mut self, names: Option<HostNames>, routes: impl FnOnce() -> RouteSource<'a>) {
        if let Some(names) = names {
            self.all.push(Arc::new(VirtualHostInputs {
                names,
                routes: routes(),
                has_attempt_count: self.routes.has_attempt_count,
                is_https_only: false,
                is_sorted: false,
            }));
        }
    }
}

impl<'a> SidecarRoutes<'a> {
    pub(super) fn new(scope: &'a ProxyScope) -> Self {
        let has_attempt_count = super::has_attempt_count(scope);
        Self {
            scope,
            viewer: Viewer::new(&scope.group),
            has_attempt_count,
            client: Shared::new(RouteViewer::new(scope)),
            unknown_hosts: unknown_hosts(scope),
        }
    }

    /// Inputs of all these names.
    pub(super) fn all(&self, names: &BTreeSet<String>) -> Vec<RouteConfigurationInputs<'a>> {
        let mut indexes: BTreeMap<usize, EgressIndex<'a>> = BTreeMap::new();
        let mut ports: BTreeMap<(usize, u32), PortHosts<'a>> = BTreeMap::new();
        let mut out = Vec::with_capacity(names.len());
        for name in names {
            let Some((i, egress, port)) = self.locate(name) else {
                out.push(super::unknown(name));
                continue;
            };
            let index = indexes
                .entry(i)
                .or_insert_with(|| EgressIndex::new(egress, &Precedence::new(self.scope)));
            let hosts = ports
                .entry((i, port))
                .or_insert_with(|| PortHosts::new(self.virtual_hosts(egress, index, port)));
            out.push(self.finish(name, hosts));
        }
        out
    }

    /// The egress listener behind a name, and the port whose services it reaches (0 for all).
    fn locate(&self, name: &str) -> Option<(usize, &'a EgressScope, u32)> {
        let (i, egress) = find_egress(self.scope, &RouteName::parse(name)?)?;
        let port = egress.listener.as_ref().and_then(|l| l.port.as_ref());
        let is_proxy = port.is_some_and(|p| Protocol::parse(&p.protocol) == Protocol::HttpProxy);
        let port = RouteName::parse(name)?.port();
        Some((i, egress, if is_proxy { 0 } else { port }))
    }

    fn finish(&self, name: &str, hosts: &PortHosts<'a>) -> RouteConfigurationInputs<'a> {
        let virtual_hosts = if let Some(RouteName::Sniffed { host, .. }) = RouteName::parse(name) {
            hosts.of_sniffed_port(name, host)
        } else {
            // Envoy refuses two virtual hosts for everything.
            let rest = (!hosts.takes_all()).then_some(&self.unknown_hosts);
            hosts.all.iter().chain(rest).cloned().collect()
        };
        RouteConfigurationInputs {
            name: name.into(),
            virtual_hosts,
            is_unknown: false,
        }
    }

    fn virtual_hosts(
        &self,
        egress: &'a EgressScope,
        index: &EgressIndex<'a>,
        port: u32,
    ) -> Vec<Arc<VirtualHostInputs<'a>>> {
        let view = view(egress, index, port);
        let entries = self.entries(index, &view);
        let silent = silent_services(&entries, &view);
        let n_hosts = entries.len() + silent.len();
        let mut registry = DomainRegistry::new(n_hosts, view.port == 0);
        let of_entries = entries
            .iter()
            .flat_map(|entry| entry.services.iter().map(|service| (*service, entry.port)));
        for (service, port) in of_entries.chain(silent.iter().copied()) {
            registry.add_known(service.hostname.as_str(), port);
        }
        let mut hosts = HostCollector {
            routes: self,
            registry,
            all: Vec::with_capacity(n_hosts + 1),
        };
        for entry in &entries {
            let routes = || RouteSource::VirtualServices(vec![entry.routes.clone()]);
            for host in &entry.hosts {
                hosts.add_host(host, entry.port, routes);
            }
            for service in &entry.services {
                hosts.add_service(service, entry.port, routes);
            }
        }
        for (service, port) in silent {
            hosts.add_service(service, port, || self.service_route(service, port));
        }
        let mut all = hosts.all;
        all.sort_by(|a, b| a.names.name_bytes().cmp(b.names.name_bytes()));
        all
    }

    /// The sidecar's side of requests that come to a port.
    fn client(&self, port: u32) -> RouteClient<'a> {
        RouteClient {
            viewer: self.client.clone(),
            gateway: "mesh",
            port,
            is_tls: false,
        }
    }

    /// Virtual hosts of VirtualServices, oldest first.
    fn entries(&self, index: &EgressIndex<'a>, view: &PortView<'a>) -> Vec<Entry<'a>> {
        let all = &index.virtual_services;
        // Hosts that are no services get routes on port 80 only (and where all ports come together): Istio's own limit.
        let chosen = if all.virtual_services.is_empty() {
            Vec::new()
        } else if view.port == 80 {
            (0..all.virtual_services.len()).collect()
        } else {
            all.matching(&view.by_age)
        };
        let mut entries = Vec::with_capacity(chosen.len());
        for i in chosen {
            self.add_virtual_service(all, i, view, &mut entries);
        }
        entries
    }

    fn add_virtual_service(
        &self,
        index: &HostIndex<'a>,
        i: usize,
        view: &PortView<'a>,
        entries: &mut Vec<Entry<'a>>,
    ) {
        let virtual_service = index.virtual_services[i];
        if !has_routes(virtual_service, &self.client(view.port)) {
            return;
        }
        let (hosts, services) = split_hosts(index, i, view);
        let mut by_port: BTreeMap<u32, Vec<&'a Shared<Service>>> = BTreeMap::new();
        for service in services {
            for port in http_ports(service, view.port) {
                by_port.entry(port).or_default().push(service);
            }
        }
        // Routes of Gateway API are of their services alone.
        let is_of_services = virtual_service.semantics == navarch_model::RouteSemantics::GatewayApi;
        if by_port.is_empty() && view.port == 80 && !is_of_services {
            by_port.insert(80, Vec::new());
        }
        if by_port.is_empty() {
            return;
        }
        let routes = self.virtual_service_routes(virtual_service, view);
        entries.extend(by_port.into_iter().map(|(port, services)| Entry {
            port,
            hosts: hosts.clone(),
            services,
            routes: routes.clone(),
        }));
    }

    fn virtual_service_routes(
        &self,
        virtual_service: &'a Shared<VirtualService>,
        view: &PortView<'a>,
    ) -> Arc<VirtualServiceRoutes<'a>> {
        let facts = |host: &str| self.destination_facts(host, view);
        Arc::new(VirtualServiceRoutes {
            virtual_service,
            destinations: Arc::new(Destinations::of(virtual_service, facts)),
            client: self.client(view.port),
        })
    }

    /// What a listener port sees of a host: the service only if it has that very port.
    fn destination_facts(&self, host: &str, view: &PortView<'a>) -> DestinationFacts<'a> {
        let seen = view.find(host);
        let known = self.scope.find_service(host);
        DestinationFacts {
            alias_of: seen.and_then(|service| service.external_name.as_ref()),
            default_port: match view.port {
                0 => seen.and_then(|service| only_port(service)),
                port => Some(port),
            },
            ports: known.map(|service| PortNumbers(&service.ports)),
            rule: relevant_rule(self.scope, host),
        }
    }

    fn service_route(&self, service: &'a Service, port: u32) -> RouteSource<'a> {
        let rule = self.scope.destination_rule(service.hostname.as_str());
        RouteSource::Service(ServiceRoute {
            hostname: &service.hostname,
            port,
            consistent_hash: rule.and_then(|rule| hash_of_port(rule, port)),
            default_retry: self.scope.mesh_config.default_http_retry_policy.as_ref(),
        })
    }
}

/// The services of a port in an egress listener, or all for the port 0.
fn view<'a>(egress: &'a EgressScope, index: &EgressIndex<'a>, port: u32) -> PortView<'a> {
    let by_age: Vec<&Shared<Service>> = if port == 0 {
        egress.services.iter().collect()
    } else {
        index.by_port.get(&port).cloned().unwrap_or_default()
    };
    PortView {
        port,
        by_age,
        by_host: OnceCell::new(),
    }
}

/// The services that no VirtualService speaks for, with each of their ports.
fn silent_services<'a>(
    entries: &[Entry<'a>],
    view: &PortView<'a>,
) -> Vec<(&'a Shared<Service>, u32)> {
    let spoken_for = entries.iter().flat_map(|entry| &entry.services);
    let mut has_virtual_service = ByHash::with_capacity(entries.len());
    for service in spoken_for {
        has_virtual_service.of(hash_text(service.hostname.as_str()), ());
    }
    let is_silent = |service: &Service| {
        let host = service.hostname.as_str();
        entries.is_empty() || has_virtual_service.find(hash_text(host)).is_none()
    };
    let services = view
        .by_age
        .iter()
        .filter(|service| service.resolution != Resolution::Alias && is_silent(service));
    services
        .flat_map(|service| http_ports(service, view.port).map(move |port| (*service, port)))
        .collect()
}

impl<'a> EgressIndex<'a> {
    fn new(egress: &'a EgressScope, precedence: &Precedence<'_>) -> Self {
        let mut by_port: BTreeMap<u32, Vec<&Shared<Service>>> = BTreeMap::new();
        for service in &egress.services {
            for (i, port) in service.ports.iter().enumerate() {
                if is_first_of_number(service, i) {
                    by_port.entry(port.number).or_default().push(service);
                }
            }
        }
        Self {
            virtual_services: HostIndex::new(&egress.virtual_services, precedence),
            by_port,
        }
    }
}

/// Whether no port before the `i`-th has its number.
fn is_first_of_number(service: &Service, i: usize) -> bool {
    let number = service.ports[i].number;
    service.ports[..i].iter().all(|port| port.number != number)
}

impl<'a> PortHosts<'a> {
    fn new(all: Vec<Arc<VirtualHostInputs<'a>>>) -> Self {
        Self {
            all,
            by_domain: OnceCell::new(),
        }
    }

    fn find(&self, domain: &str) -> Option<usize> {
        let by_domain = self.by_domain.get_or_init(|| {
            let mut by_domain = ByHash::with_capacity(3 * self.all.len());
            for (i, inputs) in self.all.iter().enumerate() {
                for domain in inputs.names.domains() {
                    *by_domain.of(hash_text(domain), i) = i;
                }
            }
            by_domain
        });
        by_domain.find(hash_text(domain))
    }

    /// Whether one of them is for every host.
    fn takes_all(&self) -> bool {
        let mut firsts = self.all.iter().map(|inputs| inputs.names.domains().next());
        firsts.any(|domain| domain == Some("*"))
    }

    /// A sniffed port's listener is for one service only, whatever requests call it
    /// (istio httproute.go `getVirtualHostsForSniffedServicePort`).
    fn of_sniffed_port(&self, name: &str, host: &str) -> Vec<Arc<VirtualHostInputs<'a>>> {
        let found: BTreeSet<usize> = [name, host].iter().filter_map(|d| self.find(d)).collect();
        let mut found = found.into_iter().map(|i| &self.all[i]);
        match (found.next(), found.next()) {
            (Some(only), None) => vec![Arc::new(VirtualHostInputs {
                names: HostNames::of(only.names.name(), "*"),
                routes: only.routes.clone(),
                ..**only
            })],
            (first, second) => first.into_iter().chain(second).cloned().collect(),
        }
    }
}

/// The port of a service that has one only.
pub(super) fn only_port(service: &Service) -> Option<u32> {
    match &service.ports[..] {
        [only] => Some(only.number),
        _ => None,
    }
}

/// The DestinationRule of a host, if routes depend on it.
pub(super) fn relevant_rule<'a>(
    scope: &'a ProxyScope,
    host: &str,
) -> Option<&'a Shared<DestinationRule>> {
    let rule = scope.destination_rule(host)?;
    (has_hash(rule) || !rule.spec.subsets.is_empty()).then_some(rule)
}

/// The hosts of a VirtualService that are no services, and the services that it speaks for
/// (istio route.go `separateVSHostsAndServices`).
fn split_hosts<'a>(
    index: &HostIndex<'a>,
    i: usize,
    view: &PortView<'a>,
) -> (Vec<&'a str>, Vec<&'a Shared<Service>>) {
    let mut hosts = Vec::new();
    let mut services = Vec::new();
    let all = index.virtual_services[i].spec.hosts.iter();
    let (wildcards, exact): (Vec<&str>, Vec<&str>) = all
        .map(String::as_str)
        .partition(|host| host.starts_with('*'));
    for host in exact {
        match view.find(host) {
            Some(service) => services.push(service),
            None => hosts.push(host),
        }
    }
    for host in wildcards {
        let mut is_found = false;
        for service in view.by_age.iter().copied() {
            if Hostname::is_meeting(service.hostname.as_str(), host) {
                is_found = true;
                if index.most_specific(service.hostname.as_str()) == Some(i) {
                    services.push(service);
                }
            }
        }
        if !is_found {
            hosts.push(host);
        }
    }
    (hosts, services)
}

/// The ports of a service that speak HTTP or may; of all, or only the one of that number.
fn http_ports(service: &Service, port: u32) -> impl Iterator<Item = u32> + use<'_> {
    let is_http = |p: &ServicePort| p.protocol.is_http() || p.protocol.is_unsupported();
    let ports = service.ports.iter().enumerate();
    ports
        .filter(move |(_, p)| (port == 0 || p.number == port) && is_http(p))
        .filter(move |(i, p)| {
            let mut before = service.ports[..*i].iter();
            !before.any(|other| other.number == p.number && is_http(other))
        })
        .map(|(_, p)| p.number)
}

/// What happens to requests for hosts that are not known.
fn unknown_hosts(scope: &ProxyScope) -> Arc<VirtualHostInputs<'_>> {
    let policy = &scope.outbound_traffic_policy;
    let (name, routes) = match policy.mode {
        OutboundTrafficPolicyMode::RegistryOnly => (BLOCK_ALL, UnknownHosts::Block),
        OutboundTrafficPolicyMode::AllowAny => {
            let proxy = policy.egress_proxy.as_ref().map(|to| {
                let port = to.port.map_or(0, |port| port.number);
                outbound_cluster(port, &to.subset, &to.host)
            });
            let cluster = proxy.unwrap_or_else(|| PASSTHROUGH_CLUSTER.to_owned());
            (ALLOW_ANY, pass(scope, ALLOW_ANY, &cluster))
        }
        OutboundTrafficPolicyMode::AllowAnyDynamicDns => {
            let name = ALLOW_ANY_DYNAMIC_DNS;
            (name, pass(scope, name, ALLOW_ANY_DYNAMIC_DNS_CLUSTER))
        }
    };
    Arc::new(VirtualHostInputs {
        names: HostNames::of(name, "*"),
        routes: RouteSource::Unknown(routes),
        has_attempt_count: super::has_attempt_count(scope),
        is_https_only: false,
        is_sorted: false,
    })
}

fn pass(scope: &ProxyScope, name: &'static str, cluster: &str) -> UnknownHosts {
    UnknownHosts::Pass {
        name,
        cluster: cluster.into(),
        has_forwarded_host: super::has_forwarded_host(scope),
    }
}
