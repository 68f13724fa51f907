//! Everything that the builders of routes may see.

use std::sync::Arc;

use navarch_model::{
    ConsistentHash, Destination, DestinationRule, Hostname, HttpRetry, HttpRoute, Labels, Shared,
    VirtualService,
};
use navarch_snapshot::ProxyScope;

use super::text_list::TextList;

/// All that a route configuration is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteConfigurationInputs {
    /// The name that listeners refer to: `80`, `reviews.shop.svc.cluster.local:8080`, `http.8080`, …
    pub name: Arc<str>,
    /// In the order of the answer.
    pub virtual_hosts: Vec<Arc<VirtualHostInputs>>,
    /// Whether nothing listens there any more: an empty answer, as Envoy may still ask while it drains.
    pub is_unknown: bool,
}

/// All that one virtual host is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualHostInputs {
    /// `host:port`, or one of the fixed names.
    pub name: Arc<str>,
    /// What it answers to; unique in the route configuration.
    pub domains: TextList,
    /// Where its routes come from.
    pub routes: RouteSource,
    /// Whether upstreams are told how often a request was tried.
    pub has_attempt_count: bool,
    /// Whether plaintext is answered by a redirect to HTTPS.
    pub is_https_only: bool,
    /// Whether routes that catch everything go behind all others (gateways, where VirtualServices are joined).
    pub is_sorted: bool,
}

/// Where routes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// The one route of a service without a VirtualService.
    Service(ServiceRoute),
    /// The routes of VirtualServices, one after the other.
    VirtualServices(Vec<Arc<VirtualServiceRoutes>>),
    /// To hosts that are not known.
    Unknown(UnknownHosts),
}

/// The one route of a service without a VirtualService.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceRoute {
    /// The service.
    pub hostname: Hostname,
    /// Its port.
    pub port: u32,
    /// What its DestinationRule hashes by.
    pub consistent_hash: Option<Box<ConsistentHash>>,
    /// The mesh's policy; `None` is Istio's default.
    pub default_retry: Option<Arc<HttpRetry>>,
}

/// The routes of a VirtualService for one listener port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualServiceRoutes {
    /// The rules, with hosts and gateways resolved.
    pub virtual_service: Shared<VirtualService>,
    /// For whom.
    pub client: RouteClient,
    /// What is known of the hosts that the rules send to, in their order, each once; absent are unknown.
    pub destinations: Vec<(Hostname, DestinationFacts)>,
}

impl VirtualServiceRoutes {
    /// The facts of all hosts that rules send to.
    pub(super) fn facts_of(
        virtual_service: &VirtualService,
        facts: impl Fn(&Hostname) -> DestinationFacts,
    ) -> Vec<(Hostname, DestinationFacts)> {
        let rules = virtual_service.spec.http.iter();
        let hosts = rules.flat_map(destinations_of).map(|d| d.host.as_str());
        let mut hosts: Vec<&str> = hosts.collect();
        hosts.sort_unstable();
        hosts.dedup();
        let hosts = hosts.into_iter().map(Hostname::from);
        hosts
            .map(|host| {
                let facts = facts(&host);
                (host, facts)
            })
            .collect()
    }

    /// What is known of a host, if anything is.
    pub(super) fn find_destination(&self, host: &str) -> Option<&DestinationFacts> {
        let known = &self.destinations;
        let at = known.binary_search_by(|(other, _)| other.as_str().cmp(host));
        at.ok().map(|at| &known[at].1)
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
pub struct RouteClient {
    /// The proxy.
    pub viewer: Shared<RouteViewer>,
    /// `mesh`, or `namespace/name` of a Gateway.
    pub gateway: Arc<str>,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DestinationFacts {
    /// What an `ExternalName` service stands for.
    pub alias_of: Option<Hostname>,
    /// The port that is meant where none is named; `None` for the listener's own.
    pub default_port: Option<u32>,
    /// The service's ports; `None` if the client can see no such service.
    pub ports: Option<Vec<u32>>,
    /// The rule of the host, where it has subsets or hashes consistently.
    pub rule: Option<Shared<DestinationRule>>,
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
