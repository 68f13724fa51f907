//! What clusters of service ports depend on.
//!
//! Source: istio pilot/pkg/networking/core/cluster.go `buildOutboundClusters`, `pilot/pkg/model/push_context.go`
//! `ServiceAccountsForService`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{
    ClientTlsMode, DestinationRule, Protocol, Registry, Resolution, Service, ServicePort, Shared,
    TrafficDistribution,
};
use navarch_snapshot::{MeshSnapshot, ProxyScope};

use super::outbound::CommonParts;
use super::service_cluster::{ClusterMode, Discovery, ServiceCluster, service_clusters};
use super::settings::{ClusterClient, ClusterSettings};
use super::tls::TlsFault;
use crate::eds::{EndpointContext, EndpointInputs};
use crate::memo::Memo;

/// The parts that clusters of one [`Shape`] share.
type CommonMemo = Memo<Result<CommonParts, TlsFault>>;

/// Everything that a service's cluster depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboundInputs<'a> {
    /// The cluster's name.
    pub name: Arc<str>,
    pub(super) service: &'a Shared<Service>,
    pub(super) port: &'a ServicePort,
    pub(super) rule: Option<&'a Shared<DestinationRule>>,
    pub(super) subset: &'a str,
    pub(super) mode: ClusterMode,
    pub(super) client: Shared<ClusterClient>,
    pub(super) settings: Shared<ClusterSettings>,
    /// Whether mutual TLS is inferred.
    pub(super) is_automatic_tls: bool,
    /// SPIFFE names of the endpoints and alternative names of the entry, sorted; none where no TLS checks them.
    pub(super) identities: Shared<Vec<Arc<str>>>,
    /// Endpoints that stand in the cluster itself, as Envoy resolves them.
    pub(super) local_endpoints: Option<Box<EndpointInputs>>,
    /// What it has in common with others of its [`Shape`], if it may.
    pub(super) common: Option<CommonMemo>,
}

/// What the clusters of services without rules differ by, but for names, identities and endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    discovery: Discovery,
    protocol: Protocol,
    mode: ClusterMode,
    traffic_distribution: TrafficDistribution,
    is_happy_eyeballs: bool,
    is_persistent_session: bool,
    is_automatic_tls: bool,
}

/// The common parts of a scope's clusters.
#[derive(Default)]
struct Shapes(RefCell<Vec<(Shape, CommonMemo)>>);

impl Shapes {
    fn of(&self, shape: Shape) -> CommonMemo {
        let mut known = self.0.borrow_mut();
        if let Some((_, common)) = known.iter().find(|(other, _)| *other == shape) {
            return common.clone();
        }
        let common = Memo::default();
        known.push((shape, common.clone()));
        common
    }
}

/// What the inputs of one scope's clusters have in common.
pub(super) struct OutboundContext<'a> {
    pub(super) mesh: &'a MeshSnapshot,
    pub(super) scope: &'a ProxyScope,
    pub(super) client: Shared<ClusterClient>,
    pub(super) settings: Shared<ClusterSettings>,
    endpoints: EndpointContext<'a>,
    no_identities: Shared<Vec<Arc<str>>>,
    shapes: Shapes,
}

impl<'a> OutboundContext<'a> {
    pub(super) fn new(mesh: &'a MeshSnapshot, scope: &'a ProxyScope) -> Self {
        let settings = ClusterSettings::of(&mesh.mesh_config);
        Self {
            mesh,
            scope,
            endpoints: EndpointContext::new(mesh, scope, settings.clone()),
            client: ClusterClient::of(&mesh.mesh_config, &scope.group),
            settings,
            no_identities: Shared::new(Vec::new()),
            shapes: Shapes::default(),
        }
    }

    /// Add the inputs of all clusters of one service for one mode; of two with the same port and subset the first counts.
    pub(super) fn add_service(
        &self,
        service: &'a Shared<Service>,
        mode: ClusterMode,
        inputs: &mut Vec<OutboundInputs<'a>>,
    ) {
        let first = inputs.len();
        let mut identities = None;
        for cluster in service_clusters(self.scope, service, mode) {
            let is_known = inputs[first..].iter().any(|known| {
                known.port.number == cluster.port.number && known.subset == cluster.subset_name()
            });
            if !is_known {
                inputs.push(self.inputs(&cluster, &mut identities));
            }
        }
    }

    fn inputs(
        &self,
        cluster: &ServiceCluster<'a>,
        identities: &mut Option<Shared<Vec<Arc<str>>>>,
    ) -> OutboundInputs<'a> {
        let ServiceCluster { service, mode, .. } = *cluster;
        let tls = cluster.policy(None).tls.map(|tls| tls.mode);
        let is_automatic_tls = tls.is_none()
            && mode == ClusterMode::Default
            && self.client.has_workload_certificate
            && cluster.is_mutual_tls_inferred(self.mesh);
        let is_checked = is_automatic_tls
            || tls == Some(ClientTlsMode::IstioMutual)
            || (tls.is_some() && service.registry == Registry::External);
        let of_service = || Shared::new(identities_of(self.mesh, service));
        let discovery = cluster.discovery(self.scope.group.kind);
        OutboundInputs {
            name: cluster.name().into(),
            service,
            port: cluster.port,
            rule: cluster.rule,
            subset: cluster.subset_name(),
            mode,
            client: self.client.clone(),
            settings: self.settings.clone(),
            is_automatic_tls,
            identities: if is_checked && mode == ClusterMode::Default {
                identities.get_or_insert_with(of_service).clone()
            } else {
                self.no_identities.clone()
            },
            local_endpoints: discovery
                .is_dns()
                .then(|| Box::new(self.endpoints.inputs(cluster))),
            common: self.common(cluster, discovery, is_automatic_tls),
        }
    }

    /// What a cluster has in common with others; `None` where a rule or the service itself shapes it.
    fn common(
        &self,
        cluster: &ServiceCluster<'_>,
        discovery: Discovery,
        is_automatic_tls: bool,
    ) -> Option<CommonMemo> {
        let service = cluster.service;
        let is_own = cluster.rule.is_some()
            || self.client.certificates.is_some()
            || discovery == Discovery::DynamicForwardProxy
            || port_override(service, cluster.port).is_some();
        (!is_own).then(|| {
            self.shapes.of(Shape {
                discovery,
                protocol: cluster.port.protocol,
                mode: cluster.mode,
                traffic_distribution: service.traffic_distribution,
                is_happy_eyeballs: service.is_happy_eyeballs,
                is_persistent_session: service.is_persistent_session,
                is_automatic_tls,
            })
        })
    }
}

/// Identities of a service: those of its endpoints and its own, in all trust domains of the mesh.
fn identities_of(mesh: &MeshSnapshot, service: &Service) -> Vec<Arc<str>> {
    let endpoints = mesh.endpoints(service);
    let mut names: BTreeSet<Arc<str>> = endpoints
        .endpoints
        .iter()
        .map(|endpoint| &endpoint.workload.service_account)
        .filter(|account| !account.is_empty())
        .chain(&service.service_accounts)
        .chain(&service.subject_alt_names)
        .cloned()
        .collect();
    let config = &mesh.mesh_config;
    if !config.trust_domain_aliases.is_empty() {
        let mut expanded = BTreeSet::new();
        for name in &names {
            let Some((_, rest)) = name
                .strip_prefix("spiffe://")
                .and_then(|n| n.split_once('/'))
            else {
                continue;
            };
            let domains = config
                .trust_domain_aliases
                .iter()
                .chain([&config.trust_domain]);
            expanded.extend(domains.map(|domain| Arc::from(format!("spiffe://{domain}/{rest}"))));
        }
        names.extend(expanded);
    }
    names.into_iter().collect()
}

/// The targetPort of an entry without resolution: the original destination's port gives way to it.
pub(super) fn port_override(service: &Service, port: &ServicePort) -> Option<u32> {
    let is_own =
        service.registry == Registry::External && service.resolution == Resolution::Passthrough;
    let target = port.target_port.filter(|_| is_own)?;
    (target != port.number).then_some(target)
}
