//! The route configurations of sidecars: which virtual hosts, under which domains.
//!
//! Source: istio pilot/pkg/networking/core/httproute.go `BuildSidecarOutboundVirtualHosts`,
//! route/route.go `BuildSidecarVirtualHostWrapper`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Destination, Hostname, HttpRetry, HttpRoute, OutboundTrafficPolicyMode, Protocol, Resolution,
    Service, Shared, VirtualService,
};
use navarch_snapshot::{EgressScope, ProxyScope};

use super::domain::{DomainRegistry, Viewer, bracketed, domains_of, host_and_port};
use super::hash_policy::{has_hash, hash_of_port};
use super::inputs::{
    DestinationFacts, RouteClient, RouteConfigurationInputs, RouteSource, ServiceRoute,
    UnknownHosts, VirtualHostInputs, VirtualServiceRoutes,
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
    default_retry: Option<Arc<HttpRetry>>,
    unknown_hosts: Shared<VirtualHostInputs>,
}

/// An egress listener, indexed once for all its ports.
struct EgressIndex<'a> {
    virtual_services: HostIndex<'a>,
    by_port: BTreeMap<u32, Vec<&'a Shared<Service>>>,
}

/// All virtual hosts of a port.
struct PortHosts {
    all: Vec<Shared<VirtualHostInputs>>,
    /// Made when the first sniffed port asks.
    by_domain: OnceCell<BTreeMap<Arc<str>, usize>>,
}

/// One group of virtual hosts with the same routes.
struct Entry<'a> {
    port: u32,
    /// Hosts of a VirtualService that are no services.
    hosts: Vec<Hostname>,
    services: Vec<&'a Shared<Service>>,
    routes: RouteSource,
}

/// The services that one listener port can reach, and the VirtualServices that apply.
struct PortView<'a> {
    /// 0 where requests for all ports come together.
    port: u32,
    services: BTreeMap<&'a Hostname, &'a Shared<Service>>,
    by_age: Vec<&'a Shared<Service>>,
    client: Shared<RouteClient>,
}

impl<'a> SidecarRoutes<'a> {
    pub(super) fn new(scope: &'a ProxyScope) -> Self {
        let has_attempt_count = super::has_attempt_count(scope);
        Self {
            scope,
            viewer: Viewer::new(&scope.group),
            has_attempt_count,
            default_retry: super::default_retry(scope),
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
    ) -> Vec<Shared<VirtualHostInputs>> {
        let view = self.view(egress, index, port);
        let entries = self.entries(index, &view);
        let mut registry = DomainRegistry::default();
        for (entry, service) in entries
            .iter()
            .flat_map(|e| e.services.iter().map(move |s| (e, s)))
        {
            let host = service.hostname.as_str();
            registry.known.insert(host_and_port(host, entry.port));
            registry.known.insert(host.to_owned());
        }
        let mut names = BTreeSet::new();
        let mut out = Vec::new();
        for entry in &entries {
            let hosts = entry.hosts.iter().map(|host| (host, None));
            let services = entry.services.iter().map(|s| (&s.hostname, Some(*s)));
            for (host, service) in hosts.chain(services) {
                let name = host_and_port(host.as_str(), entry.port);
                if !names.insert(name.clone()) {
                    continue;
                }
                let domains = match service {
                    None => vec![(bracketed(host.as_str()), false)],
                    Some(service) => {
                        let port = (view.port == 0).then_some(entry.port);
                        domains_of(service, port, &self.viewer)
                    }
                };
                let mut domains = registry.take(domains);
                if view.port == 0 && entry.port != 80 {
                    // Without a port a request means port 80.
                    domains.retain(|domain| domain.contains(':'));
                }
                if !domains.is_empty() {
                    out.push(self.virtual_host(name, domains, entry.routes.clone()));
                }
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    fn virtual_host(
        &self,
        name: String,
        domains: Vec<Arc<str>>,
        routes: RouteSource,
    ) -> Shared<VirtualHostInputs> {
        Shared::new(VirtualHostInputs {
            name: name.into(),
            domains,
            routes: vec![routes],
            has_attempt_count: self.has_attempt_count,
            is_https_only: false,
            is_sorted: false,
        })
    }

    fn view(&self, egress: &'a EgressScope, index: &EgressIndex<'a>, port: u32) -> PortView<'a> {
        let by_age: Vec<&Shared<Service>> = if port == 0 {
            egress.services.iter().collect()
        } else {
            index.by_port.get(&port).cloned().unwrap_or_default()
        };
        let group = &self.scope.group;
        let client = RouteClient {
            namespace: group.namespace.clone(),
            labels: group.labels.clone(),
            gateway: "mesh".into(),
            port,
            is_tls: false,
            default_retry: self.default_retry.clone(),
        };
        PortView {
            port,
            services: by_age.iter().map(|s| (&s.hostname, *s)).collect(),
            by_age,
            client: Shared::new(client),
        }
    }

    /// Virtual hosts of VirtualServices, oldest first, then of the services that none speaks for.
    fn entries(&self, index: &EgressIndex<'a>, view: &PortView<'a>) -> Vec<Entry<'a>> {
        let all = &index.virtual_services;
        // Hosts that are no services get routes on port 80 only (and where all ports come together): Istio's own limit.
        let chosen = if view.port == 80 {
            (0..all.virtual_services.len()).collect()
        } else {
            all.matching(&view.services)
        };
        let mut entries = Vec::new();
        for i in chosen {
            self.add_virtual_service(all, i, view, &mut entries);
        }
        let spoken_for: BTreeSet<&Hostname> = entries
            .iter()
            .flat_map(|entry: &Entry<'_>| &entry.services)
            .map(|service| &service.hostname)
            .collect();
        let silent = |service: &&&Shared<Service>| {
            service.resolution != Resolution::Alias && !spoken_for.contains(&service.hostname)
        };
        let mut defaults = Vec::new();
        for service in view.by_age.iter().filter(silent) {
            for port in http_ports(service, view.port) {
                defaults.push(Entry {
                    port,
                    hosts: Vec::new(),
                    services: vec![*service],
                    routes: self.service_route(service, port),
                });
            }
        }
        entries.extend(defaults);
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
        if !has_routes(virtual_service, &view.client) {
            return;
        }
        let (hosts, services) = split_hosts(index, i, view);
        let mut by_port: BTreeMap<u32, Vec<&'a Shared<Service>>> = BTreeMap::new();
        for service in services {
            for port in http_ports(service, view.port) {
                by_port.entry(port).or_default().push(service);
            }
        }
        if by_port.is_empty() && view.port == 80 {
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
        view: &PortView<'_>,
    ) -> RouteSource {
        let destinations = virtual_service.spec.http.iter().flat_map(destinations_of);
        let facts = destinations.map(|destination| {
            let host = Hostname::from(destination.host.as_str());
            let facts = self.destination_facts(&host, view);
            (host, facts)
        });
        RouteSource::VirtualService(Shared::new(VirtualServiceRoutes {
            virtual_service: virtual_service.clone(),
            client: view.client.clone(),
            destinations: facts.collect(),
        }))
    }

    /// What a listener port sees of a host: the service only if it has that very port.
    fn destination_facts(&self, host: &Hostname, view: &PortView<'_>) -> DestinationFacts {
        let seen = view.services.get(host);
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
            default_retry: self.default_retry.clone(),
        })
    }
}

impl<'a> EgressIndex<'a> {
    fn new(egress: &'a EgressScope, precedence: &Precedence<'_>) -> Self {
        let mut by_port: BTreeMap<u32, Vec<&Shared<Service>>> = BTreeMap::new();
        for service in &egress.services {
            let ports: BTreeSet<u32> = service.ports.iter().map(|port| port.number).collect();
            for port in ports {
                by_port.entry(port).or_default().push(service);
            }
        }
        Self {
            virtual_services: HostIndex::new(&egress.virtual_services, precedence),
            by_port,
        }
    }
}

impl PortHosts {
    fn new(all: Vec<Shared<VirtualHostInputs>>) -> Self {
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
                domains.map(move |domain| (domain.clone(), i))
            });
            domains.collect()
        });
        by_domain.get(domain).copied()
    }

    /// Whether one of them is for every host.
    fn takes_all(&self) -> bool {
        let mut firsts = self.all.iter().filter_map(|inputs| inputs.domains.first());
        firsts.any(|domain| &**domain == "*")
    }

    /// A sniffed port's listener is for one service only, whatever requests call it
    /// (istio httproute.go `getVirtualHostsForSniffedServicePort`).
    fn of_sniffed_port(&self, name: &str, host: &str) -> Vec<Shared<VirtualHostInputs>> {
        let found: BTreeSet<usize> = [name, host].iter().filter_map(|d| self.find(d)).collect();
        let mut found = found.into_iter().map(|i| &self.all[i]);
        match (found.next(), found.next()) {
            (Some(only), None) => vec![Shared::new(VirtualHostInputs {
                domains: vec!["*".into()],
                ..VirtualHostInputs::clone(only)
            })],
            (first, second) => first.into_iter().chain(second).cloned().collect(),
        }
    }
}

/// All hosts that an HTTP rule sends requests to.
pub(super) fn destinations_of(http: &HttpRoute) -> impl Iterator<Item = &Destination> {
    let mirrors = http.mirrors.iter().filter_map(|m| m.destination.as_ref());
    let routes = http.route.iter().map(|route| &route.destination);
    routes.chain(&http.mirror).chain(mirrors)
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
        match view.services.get(host) {
            Some(service) => services.push(*service),
            None => hosts.push(host.clone()),
        }
    }
    for host in wildcards {
        let mut is_found = false;
        for service in &view.by_age {
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
fn http_ports(service: &Service, port: u32) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let ports = service.ports.iter();
    ports
        .filter(|p| port == 0 || p.number == port)
        .filter(|p| p.protocol.is_http() || p.protocol.is_unsupported())
        .map(|p| p.number)
        .filter(|number| seen.insert(*number))
        .collect()
}

/// What happens to requests for hosts that are not known.
fn unknown_hosts(scope: &ProxyScope) -> Shared<VirtualHostInputs> {
    let policy = &scope.outbound_traffic_policy;
    let (name, routes) = match policy.mode {
        OutboundTrafficPolicyMode::RegistryOnly => (BLOCK_ALL, UnknownHosts::Block),
        OutboundTrafficPolicyMode::AllowAny => {
            let proxy = policy.egress_proxy.as_ref().map(|to| {
                let port = to.port.map_or(0, |port| port.number);
                outbound_cluster(port, &to.subset, &to.host)
            });
            let cluster = proxy.unwrap_or_else(|| PASSTHROUGH_CLUSTER.to_owned());
            (ALLOW_ANY, pass(ALLOW_ANY, &cluster))
        }
        OutboundTrafficPolicyMode::AllowAnyDynamicDns => {
            let name = ALLOW_ANY_DYNAMIC_DNS;
            (name, pass(name, ALLOW_ANY_DYNAMIC_DNS_CLUSTER))
        }
    };
    Shared::new(VirtualHostInputs {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![RouteSource::Unknown(routes)],
        has_attempt_count: super::has_attempt_count(scope),
        is_https_only: false,
        is_sorted: false,
    })
}

fn pass(name: &'static str, cluster: &str) -> UnknownHosts {
    UnknownHosts::Pass {
        name,
        cluster: cluster.into(),
    }
}
