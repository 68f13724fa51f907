//! Everything that the builders of routes may see.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use navarch_model::{
    ConsistentHash, Destination, DestinationRule, Hostname, HttpRetry, HttpRoute, Labels,
    ServicePort, Shared, VirtualService,
};
use navarch_snapshot::ProxyScope;

use super::host_names::HostNames;

/// All that a route configuration is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteConfigurationInputs<'a> {
    /// The name that listeners refer to: `80`, `reviews.shop.svc.cluster.local:8080`, `http.8080`, …
    pub name: Arc<str>,
    /// In the order of the answer.
    pub virtual_hosts: Vec<Arc<VirtualHostInputs<'a>>>,
    /// Whether nothing listens there any more: an empty answer, as Envoy may still ask while it drains.
    pub is_unknown: bool,
}

/// All that one virtual host is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualHostInputs<'a> {
    /// `host:port`, or one of the fixed names; and what it answers to, unique in the route configuration.
    pub names: HostNames,
    /// Where its routes come from.
    pub routes: RouteSource<'a>,
    /// Whether upstreams are told how often a request was tried.
    pub has_attempt_count: bool,
    /// Whether plaintext is answered by a redirect to HTTPS.
    pub is_https_only: bool,
    /// Whether routes that catch everything go behind all others (gateways, where VirtualServices are joined).
    pub is_sorted: bool,
}

/// Where routes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteSource<'a> {
    /// The one route of a service without a VirtualService.
    Service(ServiceRoute<'a>),
    /// The routes of VirtualServices, one after the other.
    VirtualServices(Vec<Arc<VirtualServiceRoutes<'a>>>),
    /// To hosts that are not known.
    Unknown(UnknownHosts),
}

/// The one route of a service without a VirtualService.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRoute<'a> {
    /// The service.
    pub hostname: &'a Hostname,
    /// Its port.
    pub port: u32,
    /// What its DestinationRule hashes by.
    pub consistent_hash: Option<&'a ConsistentHash>,
    /// The mesh's policy; `None` is Istio's default.
    pub default_retry: Option<&'a HttpRetry>,
}

/// The routes of a VirtualService for one listener port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualServiceRoutes<'a> {
    /// The rules, with hosts and gateways resolved.
    pub virtual_service: &'a Shared<VirtualService>,
    /// For whom.
    pub client: RouteClient<'a>,
    /// What is known of the hosts that the rules send to.
    pub destinations: Arc<Destinations<'a>>,
}

/// What is known of hosts that rules send to, in their order, each once; absent are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Destinations<'a>(Vec<(&'a str, DestinationFacts<'a>)>);

impl<'a> Destinations<'a> {
    /// Of all hosts that a VirtualService sends to.
    pub(super) fn of(
        virtual_service: &'a VirtualService,
        facts: impl Fn(&str) -> DestinationFacts<'a>,
    ) -> Self {
        let rules = virtual_service.spec.http.iter();
        let hosts = rules.flat_map(destinations_of).map(|d| d.host.as_str());
        let mut all: Vec<_> = hosts.map(|h| (h, DestinationFacts::default())).collect();
        all.sort_unstable_by_key(|(host, _)| *host);
        all.dedup_by_key(|(host, _)| *host);
        for (host, known) in &mut all {
            *known = facts(host);
        }
        Self(all)
    }

    /// What is known of a host, if anything is.
    pub(super) fn find(&self, host: &str) -> Option<&DestinationFacts<'a>> {
        let at = self.0.binary_search_by(|(other, _)| (*other).cmp(host));
        at.ok().map(|at| &self.0[at].1)
    }
}

/// All hosts that an HTTP rule sends requests to.
fn destinations_of(http: &HttpRoute) -> impl Iterator<Item = &Destination> {
    let mirrors = http.mirrors.iter().filter_map(|m| m.destination.as_ref());
    let routes = http.route.iter().map(|route| &route.destination);
    routes.chain(&http.mirror).chain(mirrors)
}

/// Who sends requests through routes, and where they enter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteClient<'a> {
    /// The proxy.
    pub viewer: Shared<RouteViewer>,
    /// `mesh`, or `namespace/name` of a Gateway.
    pub gateway: &'a str,
    /// The port of the listener; 0 where requests for all ports come together.
    pub port: u32,
    /// Whether TLS ends there.
    pub is_tls: bool,
}

/// What rules may ask of a proxy, and what it does where they say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteViewer {
    /// The proxy's namespace.
    pub namespace: Arc<str>,
    /// The labels that any rule asks for.
    pub labels: Labels,
    /// Whether a rewritten host is told in `x-forwarded-host`.
    pub has_forwarded_host: bool,
    /// The mesh's policy; `None` is Istio's default.
    pub default_retry: Option<Arc<HttpRetry>>,
}

impl RouteViewer {
    /// The proxies of a scope.
    pub(super) fn new(scope: &ProxyScope) -> Self {
        let default_retry = scope.mesh_config.default_http_retry_policy.clone();
        Self {
            namespace: scope.group.namespace.clone(),
            labels: scope.group.labels.clone(),
            has_forwarded_host: super::has_forwarded_host(scope),
            default_retry: default_retry.map(Arc::new),
        }
    }
}

/// What routes need of a destination's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DestinationFacts<'a> {
    /// What an `ExternalName` service stands for.
    pub alias_of: Option<&'a Hostname>,
    /// The port that is meant where none is named; `None` for the listener's own.
    pub default_port: Option<u32>,
    /// The service's ports; `None` if the client can see no such service.
    pub ports: Option<PortNumbers<'a>>,
    /// The rule of the host, where it has subsets or hashes consistently.
    pub rule: Option<&'a Shared<DestinationRule>>,
}

/// The numbers of a service's ports, which are all that counts of them.
#[derive(Debug, Clone, Copy)]
pub struct PortNumbers<'a>(pub &'a [ServicePort]);

impl PortNumbers<'_> {
    /// The numbers, in the order of the ports.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|port| port.number)
    }
}

impl PartialEq for PortNumbers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for PortNumbers<'_> {}

impl Hash for PortNumbers<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0.len());
        self.iter().for_each(|number| number.hash(state));
    }
}

/// What happens to requests for hosts that are not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnknownHosts {
    /// They pass to a cluster, by the route `name`.
    Pass {
        /// The route and virtual host.
        name: &'static str,
        /// Where to.
        cluster: Arc<str>,
        /// Whether a rewritten host is told in `x-forwarded-host`.
        has_forwarded_host: bool,
    },
    /// They get 502.
    Block,
}
