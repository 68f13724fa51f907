//! Clusters: those of services for a group of proxies, the fixed ones, and the inbound ones of one proxy.

mod fixed;
pub mod inbound;
mod load_balancer;
mod mesh_tls;
mod metadata;
pub mod outbound;
mod outlier;
pub mod policy;
mod pool;
pub(crate) mod protobuf;
pub mod service_cluster;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
mod tls;

use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_model::{Diagnostic, OutboundTrafficPolicyMode, Proxy, ProxyKind, Service, Shared};
use navarch_snapshot::{MeshSnapshot, ProxyScope};

use self::fixed::{FixedCluster, FixedInputs, build_fixed};
use self::inbound::{InboundInputs, build_inbound};
use self::outbound::{OutboundContext, OutboundInputs, build_outbound};
use self::service_cluster::{ClusterMode, ServiceCluster, has_auto_passthrough, service_clusters};
use self::settings::{ClusterClient, ClusterSettings};
use crate::eds::EndpointContext;

/// Everything that one cluster depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClusterInputs {
    /// Of a service port.
    Outbound(Box<OutboundInputs>),
    /// One that every proxy of a kind has.
    Fixed(FixedInputs),
    /// Of the proxy's own workload.
    Inbound(Box<InboundInputs>),
}

impl ClusterInputs {
    /// The cluster's name.
    pub fn name(&self) -> String {
        match self {
            Self::Outbound(inputs) => inputs.name.clone(),
            Self::Fixed(inputs) => inputs.cluster.name().to_owned(),
            Self::Inbound(inputs) => inputs.name(),
        }
    }
}

/// The inputs of all clusters that the proxies of a group share, by name and without duplicates.
pub fn cluster_inputs(mesh: &MeshSnapshot, scope: &ProxyScope) -> Vec<ClusterInputs> {
    let context = outbound_context(mesh, scope);
    let outbound = outbound_inputs(&context, scope.services.iter());
    let fixed = fixed_clusters(scope).iter().map(|cluster| {
        ClusterInputs::Fixed(FixedInputs {
            cluster: *cluster,
            client: context.client.clone(),
            settings: context.settings.clone(),
        })
    });
    fixed.chain(outbound).collect()
}

/// The inputs of the clusters of some services of a scope, by name and without duplicates.
pub fn service_cluster_inputs<'a>(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    services: impl Iterator<Item = &'a Shared<Service>>,
) -> Vec<ClusterInputs> {
    outbound_inputs(&outbound_context(mesh, scope), services).collect()
}

/// The names of a service's clusters in a sidecar's scope.
pub fn cluster_names(scope: &ProxyScope, service: &Shared<Service>) -> Vec<String> {
    let clusters = service_clusters(scope, service, ClusterMode::Default);
    clusters.iter().map(ServiceCluster::name).collect()
}

fn outbound_context<'a>(mesh: &'a MeshSnapshot, scope: &'a ProxyScope) -> OutboundContext<'a> {
    let settings = ClusterSettings::of(&mesh.mesh_config);
    OutboundContext {
        mesh,
        scope,
        endpoints: EndpointContext::new(mesh, scope, settings.clone()),
        client: ClusterClient::of(&mesh.mesh_config, &scope.group),
        settings,
        no_identities: Shared::new(Vec::new()),
    }
}

fn outbound_inputs<'a>(
    context: &OutboundContext<'_>,
    services: impl Iterator<Item = &'a Shared<Service>>,
) -> impl Iterator<Item = ClusterInputs> {
    let is_passed_through = has_auto_passthrough(context.mesh, &context.scope.group);
    let mut outbound: Vec<OutboundInputs> = Vec::new();
    for service in services {
        outbound.extend(context.service_inputs(service, ClusterMode::Default));
        if is_passed_through && !service.is_mesh_external {
            outbound.extend(context.service_inputs(service, ClusterMode::SniDnat));
        }
    }
    outbound.sort_by(|a, b| a.name.cmp(&b.name));
    outbound.dedup_by(|a, b| a.name == b.name);
    let outbound = outbound.into_iter();
    outbound.map(|inputs| ClusterInputs::Outbound(inputs.into()))
}

fn fixed_clusters(scope: &ProxyScope) -> &'static [FixedCluster] {
    use FixedCluster::{AllowAnyDynamicDns, BlackHole, InboundPassthrough, Passthrough};
    if scope.group.kind == ProxyKind::Router {
        // A router has no original destination.
        return &[BlackHole];
    }
    if scope.outbound_traffic_policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns {
        return &[
            AllowAnyDynamicDns,
            BlackHole,
            InboundPassthrough,
            Passthrough,
        ];
    }
    &[BlackHole, InboundPassthrough, Passthrough]
}

/// The inputs of the clusters of one proxy's own workload, by port.
pub fn inbound_cluster_inputs(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    proxy: &Proxy,
) -> Vec<ClusterInputs> {
    let inputs = inbound::inbound_cluster_inputs(mesh, scope, proxy);
    inputs
        .into_iter()
        .map(|inputs| ClusterInputs::Inbound(inputs.into()))
        .collect()
}

/// Build a cluster; `None` where it would have nothing to connect to.
pub fn build_cluster(inputs: &ClusterInputs) -> (Option<Cluster>, Vec<Diagnostic>) {
    match inputs {
        ClusterInputs::Outbound(inputs) => build_outbound(inputs),
        ClusterInputs::Fixed(inputs) => (Some(build_fixed(inputs)), Vec::new()),
        ClusterInputs::Inbound(inputs) => (Some(build_inbound(inputs)), Vec::new()),
    }
}
