//! Which clusters a service makes: one for each port and subset, each with its policy and its way to endpoints.
//!
//! Source: istio `pilot/pkg/networking/core/cluster.go` `convertResolution`, `pilot/pkg/model/push_context.go`.

use navarch_model::{
    DefaultTrafficPolicy, DestinationRule, MutualTlsMode, Protocol, ProxyKind, Resolution,
    ServerTlsMode, Service, ServicePort, Shared, Subset,
};
use navarch_snapshot::{MeshSnapshot, NodeGroup, ProxyScope};

use super::policy::{EffectivePolicy, is_passthrough};
use crate::name::{outbound_cluster, sni_dnat_cluster};

/// What a service's cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClusterMode {
    /// Traffic of the proxy's own routes.
    Default,
    /// TLS that an `AUTO_PASSTHROUGH` gateway passes on by its SNI.
    SniDnat,
}

/// How Envoy finds a cluster's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discovery {
    /// By EDS.
    Eds,
    /// By DNS, all addresses.
    StrictDns,
    /// By DNS, one address at a time.
    LogicalDns,
    /// Where the connection was going.
    OriginalDst,
    /// By the name in each request.
    DynamicForwardProxy,
}

impl Discovery {
    /// How endpoints of a service are found; a router has no original destination.
    pub fn of_service(kind: ProxyKind, service: &Service) -> Self {
        match service.resolution {
            Resolution::Dns if service.is_happy_eyeballs => Self::LogicalDns,
            Resolution::Dns => Self::StrictDns,
            Resolution::DnsRoundRobin => Self::LogicalDns,
            Resolution::Passthrough if kind == ProxyKind::Sidecar => Self::OriginalDst,
            Resolution::DynamicDns => Self::DynamicForwardProxy,
            Resolution::Passthrough | Resolution::ClientSide | Resolution::Alias => Self::Eds,
        }
    }

    /// Whether Envoy resolves names.
    pub const fn is_dns(self) -> bool {
        matches!(self, Self::StrictDns | Self::LogicalDns)
    }
}

/// One cluster of a service, borrowed from a scope.
#[derive(Debug, Clone, Copy)]
pub struct ServiceCluster<'a> {
    /// The service.
    pub service: &'a Shared<Service>,
    /// Its port.
    pub port: &'a ServicePort,
    /// The merged rule in force for the client.
    pub rule: Option<&'a Shared<DestinationRule>>,
    /// The subset; `None` for the whole service.
    pub subset: Option<&'a Subset>,
    /// What it is for.
    pub mode: ClusterMode,
}

impl<'a> ServiceCluster<'a> {
    pub(crate) fn subset_name(&self) -> &'a str {
        self.subset.map_or("", |subset| &subset.name)
    }

    /// The cluster's name.
    pub fn name(&self) -> String {
        let (port, subset, host) = (
            self.port.number,
            self.subset_name(),
            self.service.hostname.as_str(),
        );
        match self.mode {
            ClusterMode::Default => outbound_cluster(port, subset, host),
            ClusterMode::SniDnat => sni_dnat_cluster(port, subset, host),
        }
    }

    /// The policy in force, over the mesh's baseline.
    pub fn policy(&self, default: Option<&'a DefaultTrafficPolicy>) -> EffectivePolicy<'a> {
        let of_rule = |rule: &'a Shared<DestinationRule>| {
            EffectivePolicy::of_rule(rule, self.port.number, self.subset)
        };
        self.rule
            .map(of_rule)
            .unwrap_or_default()
            .with_mesh_default(default)
    }

    /// How its endpoints are found: a load balancer `PASSTHROUGH` makes it the original destination, and the whole
    /// service's makes it so for the subsets, too.
    pub fn discovery(&self, kind: ProxyKind) -> Discovery {
        let of_service = Discovery::of_service(kind, self.service);
        if of_service == Discovery::DynamicForwardProxy {
            return of_service;
        }
        let whole = Self {
            subset: None,
            ..*self
        };
        let is_passed = whole.policy(None).is_passthrough()
            || self.policy(None).is_passthrough()
            || self.subset_balancer_is_passthrough();
        if is_passed {
            Discovery::OriginalDst
        } else {
            of_service
        }
    }

    fn subset_balancer_is_passthrough(&self) -> bool {
        let policy = self
            .subset
            .and_then(|subset| subset.traffic_policy.as_ref());
        policy
            .and_then(|policy| policy.load_balancer.as_ref())
            .is_some_and(is_passthrough)
    }

    /// Whether mutual TLS is inferred, where no rule says otherwise (istio `pilot/pkg/model/push_context.go`
    /// `BestEffortInferServiceMTLSMode`).
    pub(crate) fn is_mutual_tls_inferred(&self, mesh: &MeshSnapshot) -> bool {
        if self.service.is_mesh_external || !mesh.mesh_config.enable_auto_mtls {
            return false;
        }
        let policy = match self.subset {
            Some(subset) => subset.traffic_policy.as_ref(),
            None => self.rule.and_then(|rule| rule.spec.traffic_policy.as_ref()),
        };
        let is_passed = self.service.resolution == Resolution::Passthrough
            || policy
                .and_then(|p| p.load_balancer.as_ref())
                .is_some_and(is_passthrough);
        if is_passed {
            // There is one socket for all endpoints: it can be mutual TLS only if every one takes it.
            let endpoints = mesh.endpoints(self.service);
            let mut own = endpoints.of_port(&self.port.name).peekable();
            if own.peek().is_none() || own.any(|endpoint| !endpoint.workload.has_mutual_tls) {
                return false;
            }
        }
        mesh.namespace_mutual_tls(&self.service.namespace) != MutualTlsMode::Disable
    }
}

/// The clusters of a service in a scope: for every port the whole, then its subsets.
pub fn service_clusters<'a>(
    scope: &'a ProxyScope,
    service: &'a Shared<Service>,
    mode: ClusterMode,
) -> impl Iterator<Item = ServiceCluster<'a>> + use<'a> {
    let rule = scope.destination_rule(&service.hostname);
    let is_alias = service.resolution == Resolution::Alias;
    let ports = service.ports.iter();
    ports
        .filter(move |port| !is_alias && port.protocol != Protocol::Udp)
        .flat_map(move |port| {
            let whole = ServiceCluster {
                service,
                port,
                rule,
                subset: None,
                mode,
            };
            let subsets = rule.into_iter().flat_map(|rule| &rule.spec.subsets);
            let subsets = subsets.map(move |s| ServiceCluster {
                subset: Some(s),
                ..whole
            });
            std::iter::once(whole).chain(subsets)
        })
}

/// Whether a router of the group has a server that passes TLS on by SNI.
pub fn has_auto_passthrough(mesh: &MeshSnapshot, group: &NodeGroup) -> bool {
    group.kind == ProxyKind::Router
        && mesh
            .gateways_of(&group.labels)
            .iter()
            .flat_map(|gateway| &gateway.spec.servers)
            .any(|server| {
                let mode = server.tls.as_ref().map(|tls| tls.mode);
                mode == Some(ServerTlsMode::AutoPassthrough)
            })
}
