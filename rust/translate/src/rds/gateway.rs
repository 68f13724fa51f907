//! The route configurations of routers: servers' hosts met with VirtualServices'.
//!
//! Source: istio pilot/pkg/networking/core/gateway.go `buildGatewayHTTPRouteConfig`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Hostname, Service, Shared, VirtualService, Visibility};
use navarch_snapshot::{GatewayServer, MeshSnapshot, ProxyScope};

use super::domain::host_and_port;
use super::inputs::{
    DestinationFacts, RouteClient, RouteConfigurationInputs, RouteSource, RouteViewer,
    VirtualHostInputs, VirtualServiceRoutes,
};
use super::route::has_routes;
use super::selection::Precedence;
use super::sidecar::{only_port, port_numbers, relevant_rule};
use super::text_list::TextList;

/// Finds the inputs of a router's route configurations.
pub(super) struct GatewayRoutes<'a> {
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    /// Visible VirtualServices by Gateway, in Istio's order.
    by_gateway: BTreeMap<&'a str, Vec<&'a Shared<VirtualService>>>,
    /// Of services that do not say who may see them.
    default_visibility: Vec<Visibility>,
    has_attempt_count: bool,
    viewer: Shared<RouteViewer>,
}

/// One host's virtual host, while servers and VirtualServices add to it.
#[derive(Debug, Clone)]
struct Draft {
    name: String,
    domains: TextList,
    routes: Vec<Arc<VirtualServiceRoutes>>,
    is_https_only: bool,
}

/// Virtual hosts on their way into a route configuration, by host in lower case.
type Drafts<'a> = BTreeMap<Cow<'a, str>, Draft>;

/// Routes of one VirtualService (by its hash) for one Gateway; all servers of a route configuration share the first one's
/// port.
type RouteCache<'a> = BTreeMap<(&'a str, u128), Option<Arc<VirtualServiceRoutes>>>;

impl<'a> GatewayRoutes<'a> {
    pub(super) fn new(mesh: &'a MeshSnapshot, scope: &'a ProxyScope) -> Self {
        let default = scope.mesh_config.default_service_export_to.iter();
        Self {
            mesh,
            scope,
            by_gateway: by_gateway(scope),
            default_visibility: default.map(|token| Visibility::parse(token)).collect(),
            has_attempt_count: super::has_attempt_count(scope),
            viewer: Shared::new(RouteViewer::new(scope)),
        }
    }

    /// Inputs of one name.
    pub(super) fn of(&self, name: &str) -> RouteConfigurationInputs {
        let Some((name, servers)) = self.scope.gateways.routes.get_key_value(name) else {
            return super::unknown(name);
        };
        let mut drafts = Drafts::new();
        let mut cache = RouteCache::new();
        for server in servers {
            self.add_server(server, &mut drafts, &mut cache);
        }
        let mut virtual_hosts: Vec<Arc<VirtualHostInputs>> = if drafts.is_empty() {
            let port = servers.first().map_or(0, |s| s.server.port.number);
            vec![Arc::new(black_hole(port))]
        } else {
            let drafts = collapse(drafts).into_iter();
            drafts.map(|draft| Arc::new(self.finish(draft))).collect()
        };
        virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
        RouteConfigurationInputs {
            name: name.clone(),
            virtual_hosts,
            is_unknown: false,
        }
    }

    fn finish(&self, draft: Draft) -> VirtualHostInputs {
        VirtualHostInputs {
            name: draft.name.into(),
            domains: draft.domains,
            routes: RouteSource::VirtualServices(draft.routes),
            has_attempt_count: self.has_attempt_count,
            is_https_only: draft.is_https_only,
            is_sorted: true,
        }
    }

    fn add_server(
        &self,
        entry: &'a GatewayServer,
        drafts: &mut Drafts<'a>,
        cache: &mut RouteCache<'a>,
    ) {
        let server = &entry.server;
        let is_https_only = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        let bound = self.by_gateway.get(&*entry.gateway);
        for virtual_service in bound.into_iter().flatten() {
            let hosts = common_hosts(&server.hosts, virtual_service);
            if hosts.is_empty() {
                continue;
            }
            let Some(routes) = self.routes_of(virtual_service, entry, cache) else {
                continue;
            };
            for host in hosts {
                let draft = draft_of(host, server.port.number, drafts);
                draft.routes.push(routes.clone());
                draft.is_https_only |= is_https_only;
            }
        }
        if !is_https_only {
            return;
        }
        for host in &server.hosts {
            draft_of(host, server.port.number, drafts).is_https_only = true;
        }
    }

    fn routes_of(
        &self,
        virtual_service: &Shared<VirtualService>,
        entry: &'a GatewayServer,
        cache: &mut RouteCache<'a>,
    ) -> Option<Arc<VirtualServiceRoutes>> {
        cache
            .entry((&*entry.gateway, virtual_service.hash128()))
            .or_insert_with(|| self.build_routes(virtual_service, entry))
            .clone()
    }

    fn build_routes(
        &self,
        virtual_service: &Shared<VirtualService>,
        entry: &GatewayServer,
    ) -> Option<Arc<VirtualServiceRoutes>> {
        let client = RouteClient {
            viewer: self.viewer.clone(),
            gateway: entry.gateway.clone(),
            port: entry.server.port.number,
            is_tls: entry.server.tls.is_some(),
        };
        if !has_routes(virtual_service, &client) {
            return None;
        }
        let namespace = &virtual_service.metadata.namespace;
        let facts = |host: &Hostname| self.destination_facts(host, namespace);
        Some(Arc::new(VirtualServiceRoutes {
            virtual_service: virtual_service.clone(),
            destinations: VirtualServiceRoutes::facts_of(virtual_service, facts),
            client,
        }))
    }

    /// What is known of a host: of the service in the VirtualService's own namespace before others.
    fn destination_facts(&self, host: &Hostname, namespace: &str) -> DestinationFacts {
        let same = self.mesh.services_of_host(host.as_str()).iter();
        let mut same = same.filter(|s| *s.namespace == *namespace && self.is_visible(s));
        let service = same
            .next()
            .or_else(|| self.scope.find_service(host.as_str()));
        DestinationFacts {
            alias_of: service.and_then(|service| service.external_name.clone()),
            default_port: service.and_then(|service| only_port(service)),
            ports: service.map(|service| port_numbers(service)),
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

/// The draft of a host.
fn draft_of<'d, 'a>(host: &'a str, port: u32, drafts: &'d mut Drafts<'a>) -> &'d mut Draft {
    drafts.entry(lower(host)).or_insert_with_key(|host| Draft {
        name: host_and_port(host, port),
        domains: TextList::of(host),
        routes: Vec::new(),
        is_https_only: false,
    })
}

/// Visible VirtualServices by Gateway, in order of precedence.
fn by_gateway(scope: &ProxyScope) -> BTreeMap<&str, Vec<&Shared<VirtualService>>> {
    let precedence = Precedence::new(scope);
    let mut by_gateway: BTreeMap<&str, Vec<&Shared<VirtualService>>> = BTreeMap::new();
    let egress = scope.egress.iter();
    for virtual_service in egress.flat_map(|egress| &egress.virtual_services) {
        for gateway in &virtual_service.spec.gateways {
            let bound = by_gateway.entry(gateway).or_default();
            bound.push(virtual_service);
        }
    }
    for bound in by_gateway.values_mut() {
        bound.sort_by_key(|virtual_service| precedence.rank(virtual_service));
    }
    by_gateway
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
    let mut common = Vec::new();
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

/// Join virtual hosts with the same routes under the name of the most specific host
/// (istio gateway.go `collapseDuplicateRoutes`): routes are large, and hosts may be many.
fn collapse(drafts: Drafts<'_>) -> Vec<Draft> {
    let mut drafts: Vec<(Cow<'_, str>, Draft)> = drafts.into_iter().collect();
    drafts.sort_by(|(a, _), (b, _)| {
        let order = |host: &str| (host.starts_with('*'), std::cmp::Reverse(host.len()));
        order(a).cmp(&order(b)).then_with(|| a.cmp(b))
    });
    let mut joined: Vec<Draft> = Vec::with_capacity(drafts.len());
    // Routes of one VirtualService and Gateway are one allocation.
    let mut known: BTreeMap<(Vec<*const VirtualServiceRoutes>, bool), usize> = BTreeMap::new();
    for (_, draft) in drafts {
        let routes = draft.routes.iter().map(Arc::as_ptr).collect();
        let first = *known
            .entry((routes, draft.is_https_only))
            .or_insert(joined.len());
        match joined.get_mut(first) {
            Some(into) => into.domains.extend(&draft.domains),
            None => joined.push(draft),
        }
    }
    joined
}

/// The answer of servers without any host: 404 for everything.
fn black_hole(port: u32) -> VirtualHostInputs {
    VirtualHostInputs {
        name: host_and_port("blackhole", port).into(),
        domains: TextList::of("*"),
        routes: RouteSource::VirtualServices(Vec::new()),
        has_attempt_count: false,
        is_https_only: false,
        is_sorted: true,
    }
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
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
