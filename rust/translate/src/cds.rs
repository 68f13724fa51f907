//! Clusters: those of services for a group of proxies, the fixed ones, and the inbound ones of one proxy.

mod fixed;
pub mod inbound;
mod load_balancer;
mod mesh_tls;
mod metadata;
mod outbound;
mod outbound_inputs;
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
use self::outbound::build_outbound;
use self::outbound_inputs::OutboundContext;
pub use self::outbound_inputs::OutboundInputs;
use self::service_cluster::{ClusterMode, has_auto_passthrough, service_clusters};
use crate::encoded::{Encoded, References};

/// Everything that one cluster depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClusterInputs<'a> {
    /// Of a service port.
    Outbound(OutboundInputs<'a>),
    /// One that every proxy of a kind has.
    Fixed(FixedInputs),
    /// Of the proxy's own workload.
    Inbound(Box<InboundInputs>),
}

impl ClusterInputs<'_> {
    /// The cluster's name.
    pub fn name(&self) -> String {
        match self {
            Self::Outbound(inputs) => inputs.name.to_string(),
            Self::Fixed(inputs) => inputs.cluster.name().to_owned(),
            Self::Inbound(inputs) => inputs.name(),
        }
    }
}

/// The inputs of all clusters that the proxies of a group share, without duplicates.
pub fn cluster_inputs<'a>(mesh: &'a MeshSnapshot, scope: &'a ProxyScope) -> Vec<ClusterInputs<'a>> {
    let context = OutboundContext::new(mesh, scope);
    let fixed = fixed_clusters(scope).iter().map(|cluster| {
        ClusterInputs::Fixed(FixedInputs {
            cluster: *cluster,
            client: context.client.clone(),
            settings: context.settings.clone(),
        })
    });
    fixed
        .chain(outbound_inputs(&context, scope.services.iter()))
        .collect()
}

/// The inputs of the clusters of some services of a scope, without duplicates.
pub fn service_cluster_inputs<'a>(
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    services: impl Iterator<Item = &'a Shared<Service>>,
) -> Vec<ClusterInputs<'a>> {
    outbound_inputs(&OutboundContext::new(mesh, scope), services)
}

/// The names of a service's clusters in a sidecar's scope.
pub fn cluster_names(scope: &ProxyScope, service: &Shared<Service>) -> Vec<String> {
    let clusters = service_clusters(scope, service, ClusterMode::Default);
    clusters.map(|cluster| cluster.name()).collect()
}

fn outbound_inputs<'a>(
    context: &OutboundContext<'a>,
    services: impl Iterator<Item = &'a Shared<Service>>,
) -> Vec<ClusterInputs<'a>> {
    let is_passed_through = has_auto_passthrough(context.mesh, &context.scope.group);
    let mut outbound: Vec<OutboundInputs<'a>> = Vec::with_capacity(services.size_hint().0);
    for service in services {
        context.add_service(service, ClusterMode::Default, &mut outbound);
        if is_passed_through && !service.is_mesh_external {
            context.add_service(service, ClusterMode::SniDnat, &mut outbound);
        }
    }
    let outbound = outbound.into_iter();
    outbound.map(ClusterInputs::Outbound).collect()
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
) -> Vec<ClusterInputs<'static>> {
    let inputs = inbound::inbound_cluster_inputs(mesh, scope, proxy);
    inputs
        .into_iter()
        .map(|inputs| ClusterInputs::Inbound(inputs.into()))
        .collect()
}

/// Build a cluster; `None` where it would have nothing to connect to.
pub fn build_cluster(inputs: &ClusterInputs<'_>) -> (Option<Encoded<Cluster>>, Vec<Diagnostic>) {
    let whole = match inputs {
        ClusterInputs::Outbound(inputs) => return build_outbound(inputs),
        ClusterInputs::Fixed(inputs) => build_fixed(inputs),
        ClusterInputs::Inbound(inputs) => build_inbound(inputs),
    };
    let encoded = Encoded::of(&whole.name, &whole, References::Nothing);
    (Some(encoded), Vec::new())
}
