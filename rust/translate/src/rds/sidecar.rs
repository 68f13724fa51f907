//! The route configurations of sidecars: which virtual hosts, under which domains.
//!
//! Source: istio pilot/pkg/networking/core/httproute.go `BuildSidecarOutboundVirtualHosts`,
//! route/route.go `BuildSidecarVirtualHostWrapper`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Hostname, OutboundTrafficPolicyMode, Protocol, Resolution, Service, ServicePort, Shared,
    VirtualService,
};
use navarch_snapshot::{EgressScope, ProxyScope};

use super::domain::{DomainRegistry, TextSet, Viewer, host_and_port};
use super::hash_policy::{has_hash, hash_of_port};
use super::inputs::{
    DestinationFacts, RouteClient, RouteConfigurationInputs, RouteSource, RouteViewer,
    ServiceRoute, UnknownHosts, VirtualHostInputs, VirtualServiceRoutes,
};
use super::name::{RouteName, find_egress};
use super::route::has_routes;
use super::selection::{HostIndex, Precedence};
use super::text_list::TextList;
use super::virtual_host::{ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS, BLOCK_ALL};
use crate::name::{ALLOW_ANY_DYNAMIC_DNS_CLUSTER, PASSTHROUGH_CLUSTER, outbound_cluster};

/// Finds the inputs of a sidecar's route configurations.
pub(super) struct SidecarRoutes<'a> {
    scope: &'a ProxyScope,
    viewer: Viewer,
    has_attempt_count: bool,
    client: Shared<RouteViewer>,
    /// The name of the mesh itself where rules name gateways.
    mesh: Arc<str>,
    unknown_hosts: Arc<VirtualHostInputs>,
}

/// An egress listener, indexed once for all its ports.
struct EgressIndex<'a> {
    virtual_services: HostIndex<'a>,
    by_port: BTreeMap<u32, Vec<&'a Shared<Service>>>,
}

/// All virtual hosts of a port.
struct PortHosts {
    all: Vec<Arc<VirtualHostInputs>>,
    /// Made when the first sniffed port asks.
    by_domain: OnceCell<BTreeMap<String, usize>>,
}

/// One group of virtual hosts with the same routes: those of a VirtualService on one port.
struct Entry<'a> {
    port: u32,
    /// Hosts that are no services.
    hosts: Vec<Hostname>,
    services: Vec<&'a Shared<Service>>,
    routes: Arc<VirtualServiceRoutes>,
}

/// The services that one listener port can reach.
struct PortView<'a> {
    /// 0 where requests for all ports come together.
    port: u32,
    by_age: Vec<&'a Shared<Service>>,
    /// Made when the first VirtualService asks.
    services: OnceCell<BTreeMap<&'a Hostname, &'a Shared<Service>>>,
}

impl<'a> PortView<'a> {
    fn services(&self) -> &BTreeMap<&'a Hostname, &'a Shared<Service>> {
        let all = || self.by_age.iter().map(|s| (&s.hostname, *s)).collect();
        self.services.get_or_init(all)
    }
}

/// Virtual hosts on their way into a route configuration.
struct HostCollector<'a> {
    routes: &'a SidecarRoutes<'a>,
    /// 0 where requests for all ports come together.
    view_port: u32,
    registry: DomainRegistry,
    names: TextSet,
    all: Vec<Arc<VirtualHostInputs>>,
}

impl HostCollector<'_> {
    /// Add a virtual host, unless there is one of that name or no domain is left for it.
    fn add(
        &mut self,
        (host, service): (&Hostname, Option<&Service>),
        port: u32,
        routes: impl FnOnce() -> RouteSource,
    ) {
        let name = host_and_port(host.as_str(), port);
        if !self.names.insert(&name) {
            return;
        }
        let mut domains = match service {
            None => self.registry.take_host(host.as_str()),
            Some(service) => {
                let port = (self.view_port == 0).then_some(port);
                let viewer = &self.routes.viewer;
                self.registry.take_service(service, port, viewer)
            }
        };
        if self.view_port == 0 && port != 80 {
            // Without a port a request means port 80.
            domains = domains.filtered(|domain| domain.contains(':'));
        }
        if !domains.is_empty() {
            self.all.push(Arc::new(VirtualHostInputs {
                name: name.into(),
                domains,
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
            mesh: "mesh".into(),
            unknown_hosts: unknown_hosts(scope),
        }
    }

    /// Inputs of all these names.
    pub(super) fn all(&self, names: &BTreeSet<String>) -> Vec<RouteConfigurationInputs> {
        let mut indexes: BTreeMap<usize, EgressIndex<'a>> = BTreeMap::new();
        let mut ports: BTreeMap<(usize, u32), PortHosts> = BTreeMap::new();
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

    fn finish(&self, name: &str, hosts: &PortHosts) -> RouteConfigurationInputs {
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
    ) -> Vec<Arc<VirtualHostInputs>> {
        let view = view(egress, index, port);
        let entries = self.entries(index, &view);
        let silent = silent_services(&entries, &view);
        let mut registry = DomainRegistry::default();
        let of_entries = entries
            .iter()
            .flat_map(|entry| entry.services.iter().map(|service| (*service, entry.port)));
        for (service, port) in of_entries.chain(silent.iter().copied()) {
            let port = (view.port == 0).then_some(port);
            registry.add_known(service.hostname.as_str(), port);
        }
        let mut hosts = HostCollector {
            routes: self,
            view_port: view.port,
            registry,
            names: TextSet::default(),
            all: Vec::with_capacity(silent.len() + entries.len() + 1),
        };
        for entry in &entries {
            let routes = || RouteSource::VirtualServices(vec![entry.routes.clone()]);
            for host in &entry.hosts {
                hosts.add((host, None), entry.port, routes);
            }
            for service in &entry.services {
                hosts.add((&service.hostname, Some(service)), entry.port, routes);
            }
        }
        for (service, port) in silent {
            let host = (&service.hostname, Some(&**service));
            hosts.add(host, port, || self.service_route(service, port));
        }
        let mut all = hosts.all;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The sidecar's side of requests that come to a port.
    fn client(&self, port: u32) -> RouteClient {
        RouteClient {
            viewer: self.client.clone(),
            gateway: self.mesh.clone(),
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
            all.matching(view.services())
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
        virtual_service: &Shared<VirtualService>,
        view: &PortView<'a>,
    ) -> Arc<VirtualServiceRoutes> {
        let facts = |host: &Hostname| self.destination_facts(host, view);
        Arc::new(VirtualServiceRoutes {
            destinations: VirtualServiceRoutes::facts_of(virtual_service, facts),
            virtual_service: virtual_service.clone(),
            client: self.client(view.port),
        })
    }

    /// What a listener port sees of a host: the service only if it has that very port.
    fn destination_facts(&self, host: &Hostname, view: &PortView<'a>) -> DestinationFacts {
        let seen = view.services().get(host);
        let known = self.scope.find_service(host.as_str());
        DestinationFacts {
            alias_of: seen.and_then(|service| service.external_name.clone()),
            default_port: match view.port {
                0 => seen.and_then(|service| only_port(service)),
                port => Some(port),
            },
            ports: known.map(|service| port_numbers(service)),
            rule: relevant_rule(self.scope, host),
        }
    }

    fn service_route(&self, service: &Service, port: u32) -> RouteSource {
        let rule = self.scope.destination_rule(&service.hostname);
        let hash = rule.and_then(|rule| hash_of_port(rule, port));
        RouteSource::Service(ServiceRoute {
            hostname: service.hostname.clone(),
            port,
            consistent_hash: hash.cloned().map(Box::new),
            default_retry: self.client.default_retry.clone(),
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
        services: OnceCell::new(),
    }
}

/// The services that no VirtualService speaks for, with each of their ports.
fn silent_services<'a>(
    entries: &[Entry<'a>],
    view: &PortView<'a>,
) -> Vec<(&'a Shared<Service>, u32)> {
    let spoken_for: BTreeSet<&Hostname> = entries
        .iter()
        .flat_map(|entry| &entry.services)
        .map(|service| &service.hostname)
        .collect();
    let services = view.by_age.iter().filter(|service| {
        service.resolution != Resolution::Alias
            && (spoken_for.is_empty() || !spoken_for.contains(&service.hostname))
    });
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

impl PortHosts {
    fn new(all: Vec<Arc<VirtualHostInputs>>) -> Self {
        Self {
            all,
            by_domain: OnceCell::new(),
        }
    }

    fn find(&self, domain: &str) -> Option<usize> {
        let by_domain = self.by_domain.get_or_init(|| {
            let all = self.all.iter().enumerate();
            let domains = all.flat_map(|(i, inputs)| {
                let domains = inputs.domains.iter();
                domains.map(move |domain| (domain.to_owned(), i))
            });
            domains.collect()
        });
        by_domain.get(domain).copied()
    }

    /// Whether one of them is for every host.
    fn takes_all(&self) -> bool {
        let mut firsts = self.all.iter().filter_map(|inputs| inputs.domains.first());
        firsts.any(|domain| domain == "*")
    }

    /// A sniffed port's listener is for one service only, whatever requests call it
    /// (istio httproute.go `getVirtualHostsForSniffedServicePort`).
    fn of_sniffed_port(&self, name: &str, host: &str) -> Vec<Arc<VirtualHostInputs>> {
        let found: BTreeSet<usize> = [name, host].iter().filter_map(|d| self.find(d)).collect();
        let mut found = found.into_iter().map(|i| &self.all[i]);
        match (found.next(), found.next()) {
            (Some(only), None) => vec![Arc::new(VirtualHostInputs {
                domains: TextList::of("*"),
                ..VirtualHostInputs::clone(only)
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

pub(super) fn port_numbers(service: &Service) -> Vec<u32> {
    service.ports.iter().map(|port| port.number).collect()
}

/// The DestinationRule of a host, if routes depend on it.
pub(super) fn relevant_rule(
    scope: &ProxyScope,
    host: &Hostname,
) -> Option<Shared<navarch_model::DestinationRule>> {
    let rule = scope.destination_rule(host)?;
    (has_hash(rule) || !rule.spec.subsets.is_empty()).then(|| rule.clone())
}

/// The hosts of a VirtualService that are no services, and the services that it speaks for
/// (istio route.go `separateVSHostsAndServices`).
fn split_hosts<'a>(
    index: &HostIndex<'_>,
    i: usize,
    view: &PortView<'a>,
) -> (Vec<Hostname>, Vec<&'a Shared<Service>>) {
    let mut hosts = Vec::new();
    let mut services = Vec::new();
    let (wildcards, exact): (Vec<_>, Vec<_>) = index
        .hosts_of(i)
        .iter()
        .partition(|host| host.is_wildcard());
    for host in exact {
        match view.services().get(host) {
            Some(service) => services.push(*service),
            None => hosts.push(host.clone()),
        }
    }
    for host in wildcards {
        let mut is_found = false;
        for service in view.by_age.iter().copied() {
            if service.hostname.is_matching(host) {
                is_found = true;
                if index.most_specific(&service.hostname) == Some(i) {
                    services.push(service);
                }
            }
        }
        if !is_found {
            hosts.push(host.clone());
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
fn unknown_hosts(scope: &ProxyScope) -> Arc<VirtualHostInputs> {
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
        name: name.into(),
        domains: TextList::of("*"),
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
