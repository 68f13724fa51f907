//! Everything that the builders of routes may see.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    ConsistentHash, DestinationRule, Hostname, HttpRetry, Labels, Shared, VirtualService,
};

/// All that a route configuration is made from; one virtual host's inputs are shared and hashed once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteConfigurationInputs {
    /// The name that listeners refer to: `80`, `reviews.shop.svc.cluster.local:8080`, `http.8080`, …
    pub name: Arc<str>,
    /// In the order of the answer.
    pub virtual_hosts: Vec<Shared<VirtualHostInputs>>,
    /// Whether nothing listens there any more: an empty answer, as Envoy may still ask while it drains.
    pub is_unknown: bool,
}

/// All that one virtual host is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualHostInputs {
    /// `host:port`, or one of the fixed names.
    pub name: Arc<str>,
    /// What it answers to; unique in the route configuration.
    pub domains: Vec<Arc<str>>,
    /// Where its routes come from, one after the other.
    pub routes: Vec<RouteSource>,
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
    /// The routes of a VirtualService.
    VirtualService(Shared<VirtualServiceRoutes>),
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
    pub client: Shared<RouteClient>,
    /// What is known of the hosts that the rules send to; absent are unknown.
    pub destinations: BTreeMap<Hostname, DestinationFacts>,
}

/// Who sends requests through routes, and where they enter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteClient {
    /// The proxy's namespace.
    pub namespace: Arc<str>,
    /// The labels that any rule asks for.
    pub labels: Labels,
    /// `mesh`, or `namespace/name` of a Gateway.
    pub gateway: Arc<str>,
    /// The port of the listener; 0 where requests for all ports come together.
    pub port: u32,
    /// Whether TLS ends there.
    pub is_tls: bool,
    /// The mesh's policy; `None` is Istio's default.
    pub default_retry: Option<Arc<HttpRetry>>,
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
    },
    /// They get 502.
    Block,
}
