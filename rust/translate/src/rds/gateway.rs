//! The route configurations of routers: servers' hosts met with VirtualServices'.
//!
//! Source: istio pilot/pkg/networking/core/gateway.go `buildGatewayHTTPRouteConfig`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Hostname, Service, Shared, VirtualService, Visibility, hash_text};
use navarch_snapshot::{GatewayServer, MeshSnapshot, ProxyScope};

use super::by_hash::ByHash;
use super::domain::{has_uppercase, host_and_port};
use super::host_names::HostNames;
use super::indexes::Indexes;
use super::inputs::{
    DestinationFacts, Destinations, PortNumbers, RouteClient, RouteConfigurationInputs,
    RouteSource, RouteViewer, VirtualHostInputs, VirtualServiceRoutes,
};
use super::route::has_routes;
use super::selection::Precedence;
use super::sidecar::{only_port, relevant_rule};
use crate::name::Decimal;

/// Finds the inputs of a router's route configurations.
pub(super) struct GatewayRoutes<'a> {
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    bindings: Bindings<'a>,
    /// Of services that do not say who may see them.
    default_visibility: Vec<Visibility>,
    has_attempt_count: bool,
    viewer: Shared<RouteViewer>,
}

/// Visible VirtualServices by Gateway.
struct Bindings<'a> {
    virtual_services: Vec<Bound<'a>>,
    /// Where in `starts` a Gateway is.
    by_gateway: ByHash<usize>,
    /// Where the bindings of each Gateway begin, and where the last one's end.
    starts: Vec<usize>,
    /// The VirtualService of each binding; those of a Gateway are in order of precedence.
    all: Vec<usize>,
}

/// A VirtualService that is bound to Gateways.
struct Bound<'a> {
    virtual_service: &'a Shared<VirtualService>,
    /// The same for all Gateways; made when the first asks.
    destinations: OnceCell<Arc<Destinations<'a>>>,
}

/// One host's virtual host, while servers and VirtualServices add to it.
struct Draft<'a> {
    host: DraftHost<'a>,
    /// The bindings whose routes it has.
    bindings: Option<Indexes>,
    is_https_only: bool,
}

/// A host in lower case, and the port that its virtual host is called by.
type DraftHost<'a> = (Cow<'a, str>, u32);

/// Virtual hosts on their way into a route configuration.
struct Drafts<'a> {
    all: Vec<Draft<'a>>,
    by_host: ByHash<usize>,
}

/// Virtual hosts with the same routes, which become one: routes are large, and hosts may be many.
struct Joined<'a> {
    hosts: Vec<DraftHost<'a>>,
    bindings: Option<Indexes>,
    is_https_only: bool,
}

/// Routes by binding, if there are any; all servers of a route configuration share the first one's port.
type BuiltRoutes<'a> = BTreeMap<usize, Option<Arc<VirtualServiceRoutes<'a>>>>;

impl<'a> GatewayRoutes<'a> {
    pub(super) fn new(mesh: &'a MeshSnapshot, scope: &'a ProxyScope) -> Self {
        let default = scope.mesh_config.default_service_export_to.iter();
        Self {
            mesh,
            scope,
            bindings: Bindings::new(scope),
            default_visibility: default.map(|token| Visibility::parse(token)).collect(),
            has_attempt_count: super::has_attempt_count(scope),
            viewer: Shared::new(RouteViewer::new(scope)),
        }
    }

    /// Inputs of one name.
    pub(super) fn of(&self, name: &str) -> RouteConfigurationInputs<'a> {
        let Some((name, servers)) = self.scope.gateways.routes.get_key_value(name) else {
            return super::unknown(name);
        };
        let n_hosts = servers.iter().map(|entry| entry.server.hosts.len()).sum();
        let mut drafts = Drafts::with_capacity(n_hosts);
        let mut routes = BuiltRoutes::new();
        for server in servers {
            self.add_server(server, &mut drafts, &mut routes);
        }
        let mut virtual_hosts: Vec<Arc<VirtualHostInputs<'a>>> = if drafts.all.is_empty() {
            let port = servers.first().map_or(0, |s| s.server.port.number);
            vec![Arc::new(black_hole(port))]
        } else {
            let joined = drafts.join().into_iter();
            joined
                .map(|joined| Arc::new(self.finish(joined, &routes)))
                .collect()
        };
        virtual_hosts.sort_by(|a, b| a.names.name_bytes().cmp(b.names.name_bytes()));
        RouteConfigurationInputs {
            name: name.clone(),
            virtual_hosts,
            is_unknown: false,
        }
    }

    /// The virtual host of joined ones, called by its most specific host.
    fn finish(&self, mut joined: Joined<'a>, routes: &BuiltRoutes<'a>) -> VirtualHostInputs<'a> {
        let hosts = &mut joined.hosts;
        hosts.sort_unstable_by(|(a, _), (b, _)| {
            let order = |host: &str| (host.starts_with('*'), Reverse(host.len()));
            order(a).cmp(&order(b)).then_with(|| a.cmp(b))
        });
        let (first, port) = hosts.first().map_or(("", 0), |(host, port)| (host, *port));
        // Each has a key and a length.
        let capacity_bytes = hosts.iter().map(|(host, _)| host.len() + 3).sum();
        let mut names = HostNames::new(&host_and_port(first, &Decimal::new(port)), capacity_bytes);
        for (host, _) in hosts {
            names.push(&[host]);
        }
        let bindings = joined.bindings.iter().flat_map(Indexes::iter);
        let routes = bindings.filter_map(|binding| routes.get(&binding)?.clone());
        VirtualHostInputs {
            names,
            routes: RouteSource::VirtualServices(routes.collect()),
            has_attempt_count: self.has_attempt_count,
            is_https_only: joined.is_https_only,
            is_sorted: true,
        }
    }

    fn add_server(
        &self,
        entry: &'a GatewayServer,
        drafts: &mut Drafts<'a>,
        routes: &mut BuiltRoutes<'a>,
    ) {
        let server = &entry.server;
        let is_https_only = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        for (binding, bound) in self.bindings.of(&entry.gateway) {
            let hosts = common_hosts(&server.hosts, bound.virtual_service);
            if hosts.is_empty() {
                continue;
            }
            let built = routes
                .entry(binding)
                .or_insert_with(|| self.build_routes(bound, entry));
            if built.is_none() {
                continue;
            }
            for host in hosts {
                let draft = drafts.of(host, server.port.number);
                match &mut draft.bindings {
                    Some(bindings) => bindings.push(binding),
                    none => *none = Some(Indexes::new(binding)),
                }
                draft.is_https_only |= is_https_only;
            }
        }
        if !is_https_only {
            return;
        }
        for host in &server.hosts {
            drafts.of(host, server.port.number).is_https_only = true;
        }
    }

    fn build_routes(
        &self,
        bound: &Bound<'a>,
        entry: &'a GatewayServer,
    ) -> Option<Arc<VirtualServiceRoutes<'a>>> {
        let client = RouteClient {
            viewer: self.viewer.clone(),
            gateway: &entry.gateway,
            port: entry.server.port.number,
            is_tls: entry.server.tls.is_some(),
        };
        let virtual_service = bound.virtual_service;
        if !has_routes(virtual_service, &client) {
            return None;
        }
        let destinations = bound.destinations.get_or_init(|| {
            let namespace = &virtual_service.metadata.namespace;
            let facts = |host: &str| self.destination_facts(host, namespace);
            Arc::new(Destinations::of(virtual_service, facts))
        });
        Some(Arc::new(VirtualServiceRoutes {
            virtual_service,
            destinations: destinations.clone(),
            client,
        }))
    }

    /// What is known of a host: of the service in the VirtualService's own namespace before others.
    fn destination_facts(&self, host: &str, namespace: &str) -> DestinationFacts<'a> {
        let same = self.mesh.services_of_host(host).iter();
        let mut same = same.filter(|s| *s.namespace == *namespace && self.is_visible(s));
        let service = same.next().or_else(|| self.scope.find_service(host));
        DestinationFacts {
            alias_of: service.and_then(|service| service.external_name.as_ref()),
            default_port: service.and_then(|service| only_port(service)),
            ports: service.map(|service| PortNumbers(&service.ports)),
            rule: relevant_rule(self.scope, host),
        }
    }

    fn is_visible(&self, service: &Service) -> bool {
        let viewer = &self.scope.group.namespace;
        if !service.export_to.is_empty() {
            return Visibility::is_visible(&service.export_to, &service.namespace, viewer);
        }
        Visibility::is_visible(&self.default_visibility, &service.namespace, viewer)
    }
}

impl<'a> Bindings<'a> {
    fn new(scope: &'a ProxyScope) -> Self {
        let precedence = Precedence::new(scope);
        let mut virtual_services = Vec::new();
        let mut by_gateway = ByHash::with_capacity(scope.gateways.routes.len());
        let mut n_gateways = 0;
        let mut bindings: Vec<(usize, u8, usize)> = Vec::new();
        for virtual_service in scope.egress.iter().flat_map(|e| &e.virtual_services) {
            let rank = precedence.rank(virtual_service);
            for gateway in &virtual_service.spec.gateways {
                let gateway = *by_gateway.of(hash_text(gateway), n_gateways);
                n_gateways = n_gateways.max(gateway + 1);
                bindings.push((gateway, rank, virtual_services.len()));
            }
            virtual_services.push(Bound {
                virtual_service,
                destinations: OnceCell::new(),
            });
        }
        bindings.sort_unstable();
        let start = |gateway| bindings.partition_point(|(g, _, _)| *g < gateway);
        Self {
            virtual_services,
            by_gateway,
            starts: (0..=n_gateways).map(start).collect(),
            all: bindings.into_iter().map(|(_, _, bound)| bound).collect(),
        }
    }

    /// Those of a Gateway (`namespace/name`), each with its number.
    fn of(&self, gateway: &str) -> impl Iterator<Item = (usize, &Bound<'a>)> {
        let gateway = self.by_gateway.find(hash_text(gateway));
        let range = gateway.map_or(0..0, |at| self.starts[at]..self.starts[at + 1]);
        range.map(|binding| (binding, &self.virtual_services[self.all[binding]]))
    }
}

impl<'a> Drafts<'a> {
    /// With room for so many hosts.
    fn with_capacity(n_hosts: usize) -> Self {
        Self {
            all: Vec::with_capacity(n_hosts),
            by_host: ByHash::with_capacity(n_hosts),
        }
    }

    /// The draft of a host.
    fn of(&mut self, host: &'a str, port: u32) -> &mut Draft<'a> {
        let host = lower(host);
        let at = *self.by_host.of(hash_text(&*host), self.all.len());
        if at == self.all.len() {
            self.all.push(Draft {
                host: (host, port),
                bindings: None,
                is_https_only: false,
            });
        }
        &mut self.all[at]
    }

    /// Join those with the same routes (istio gateway.go `collapseDuplicateRoutes`).
    fn join(self) -> Vec<Joined<'a>> {
        // Rules have a few hosts each.
        let mut all: Vec<Joined<'a>> = Vec::with_capacity(self.all.len() / 2 + 1);
        let mut by_routes = ByHash::with_capacity(self.all.len() / 2 + 1);
        let mut key = Vec::new();
        for draft in self.all {
            key.clear();
            key.push(u8::from(draft.is_https_only));
            for binding in draft.bindings.iter().flat_map(Indexes::iter) {
                key.extend_from_slice(&binding.to_le_bytes());
            }
            let at = *by_routes.of(hash_text(&key), all.len());
            if at == all.len() {
                all.push(Joined {
                    hosts: Vec::with_capacity(4),
                    bindings: draft.bindings,
                    is_https_only: draft.is_https_only,
                });
            }
            all[at].hosts.push(draft.host);
        }
        all
    }
}

/// The hosts that a server and a VirtualService have in common: of two that meet, the narrower.
fn common_hosts<'a>(
    server_hosts: &'a [String],
    virtual_service: &'a VirtualService,
) -> Vec<&'a str> {
    let namespace = virtual_service.metadata.namespace.as_str();
    let open = server_hosts.iter().filter_map(|host| {
        let (owner, host) = host.split_once('/').unwrap_or((namespace, host));
        (owner == namespace).then_some(host)
    });
    let mut common = Vec::with_capacity(virtual_service.spec.hosts.len());
    for host in open {
        for other in &virtual_service.spec.hosts {
            if let Some(narrower) = narrower(host, other)
                && !common.contains(&narrower)
            {
                common.push(narrower);
            }
        }
    }
    common
}

/// The narrower of two hosts that meet.
fn narrower<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if a == b {
        return Some(a);
    }
    if !a.starts_with('*') && !b.starts_with('*') {
        return None;
    }
    if Hostname::is_subset(a, b) {
        return Some(a);
    }
    Hostname::is_subset(b, a).then_some(b)
}

/// The answer of servers without any host: 404 for everything.
fn black_hole(port: u32) -> VirtualHostInputs<'static> {
    let mut names = HostNames::new(&host_and_port("blackhole", &Decimal::new(port)), 3);
    names.push(&["*"]);
    VirtualHostInputs {
        names,
        routes: RouteSource::VirtualServices(Vec::new()),
        has_attempt_count: false,
        is_https_only: false,
        is_sorted: true,
    }
}

fn lower(host: &str) -> Cow<'_, str> {
    if has_uppercase(host.as_bytes()) {
        return host.to_ascii_lowercase().into();
    }
    host.into()
}

#[cfg(test)]
mod tests {
    use navarch_model::VirtualService;

    use super::common_hosts;

    #[test]
    fn the_narrower_of_two_hosts_is_common() {
        let mut virtual_service = VirtualService::default();
        virtual_service.metadata.namespace = "shop".to_owned();
        for (server, own, want) in [
            (
                &["*.b.com"][..],
                &["a.b.com", "c.com"][..],
                &["a.b.com"][..],
            ),
            (&["shop/a.b.com", "x/c.b.com"], &["*.b.com"], &["a.b.com"]),
            (&["*"], &["*"], &["*"]),
            (&["a.com"], &["b.com"], &[]),
        ] {
            virtual_service.spec.hosts = own.iter().map(|h| (*h).to_owned()).collect();
            let server: Vec<String> = server.iter().map(|h| (*h).to_owned()).collect();
            let common = common_hosts(&server, &virtual_service);
            assert_eq!(common, want);
        }
    }
}
