//! Endpoints: one `ClusterLoadAssignment` for each cluster that gets its endpoints by EDS.
//!
//! Source: istio `pilot/pkg/xds/endpoints/endpoint_builder.go`.

mod endpoint;
pub mod local_cluster;
pub mod locality;
mod mutual_tls;
pub mod network;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_envoy::envoy::config::core::v3::Locality as EnvoyLocality;
use navarch_envoy::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use navarch_model::{
    Endpoint, Health, Hostname, Labels, Locality, MeshConfig, Service, ServiceEndpoints, Shared,
    is_selected,
};
use navarch_snapshot::{MeshSnapshot, NodeGroup, ProxyScope};

use self::endpoint::{build_lb_endpoint, is_mutual_tls};
use self::locality::{
    LABEL_CLUSTER, LABEL_HOSTNAME, LABEL_NETWORK, LABEL_REGION, LABEL_SUBZONE, LABEL_ZONE,
    LocalityGroup, LocalityInputs, LocalityPolicy, Member, weight_of,
};
use self::mutual_tls::EndpointTls;
use self::network::{NetworkGateways, NetworkInputs};
use crate::address::is_ip;
use crate::cds::service_cluster::{
    ClusterMode, Discovery, ServiceCluster, has_auto_passthrough, service_clusters,
};
use crate::cds::settings::ClusterSettings;

/// Which endpoints of a service port a cluster takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EndpointFilter {
    /// Labels of the subset.
    pub labels: Labels,
    /// Only endpoints of this Node (internalTrafficPolicy Local).
    pub node_name: Option<Arc<str>>,
    /// Only endpoints of this cluster.
    pub cluster_id: Option<Arc<str>>,
    /// Only endpoints of these networks; empty for all.
    pub networks: BTreeSet<String>,
    /// Whether unready endpoints are told of, as such.
    pub is_unhealthy_kept: bool,
    /// Whether endpoints that only keep their sessions are told of.
    pub is_draining_kept: bool,
    /// Whether endpoints may be names, which Envoy resolves.
    pub is_name_kept: bool,
    /// Only endpoints that take mutual TLS: an `AUTO_PASSTHROUGH` gateway must not lead plaintext on.
    pub is_mutual_tls_wanted: bool,
}

/// Everything that one cluster's endpoints depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointInputs {
    /// The cluster.
    pub cluster_name: String,
    /// The service port's name.
    pub port_name: Arc<str>,
    /// All endpoints of the service.
    pub endpoints: Shared<ServiceEndpoints>,
    /// Which of them it takes.
    pub filter: EndpointFilter,
    /// Which of them take mutual TLS.
    pub tls: EndpointTls,
    /// Other networks and their gateways, where there are any.
    pub networks: Option<NetworkInputs>,
    /// The client's place, where it matters.
    pub locality: Option<LocalityInputs>,
}

/// What all endpoint inputs of one scope have in common.
pub(crate) struct EndpointContext<'a> {
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    settings: Shared<ClusterSettings>,
    gateways: Shared<NetworkGateways>,
    networks: BTreeSet<String>,
}

impl<'a> EndpointContext<'a> {
    pub(crate) fn new(
        mesh: &'a MeshSnapshot,
        scope: &'a ProxyScope,
        settings: Shared<ClusterSettings>,
    ) -> Self {
        let view = &scope.group.metadata.requested_network_view;
        let networks = view.split(',').filter(|network| !network.is_empty());
        Self {
            networks: networks.map(str::to_owned).collect(),
            gateways: NetworkGateways::of(mesh),
            mesh,
            scope,
            settings,
        }
    }

    /// The inputs of one cluster's endpoints.
    pub(crate) fn inputs(&self, cluster: &ServiceCluster<'_>) -> EndpointInputs {
        let group = &*self.scope.group;
        let service = cluster.service;
        let endpoints = self.mesh.endpoints(service);
        let policy = cluster.policy(self.settings.default_traffic_policy.as_ref());
        let outlier = policy.outlier_detection;
        let is_name_kept = cluster.discovery(group.kind).is_dns();
        let is_local = is_cluster_local(&self.scope.mesh_config, self.mesh, &service.hostname);
        let filter = EndpointFilter {
            labels: cluster
                .subset
                .map(|subset| subset.labels.clone())
                .unwrap_or_default(),
            node_name: service.is_node_local.then(|| group.node_name.clone()),
            cluster_id: is_local.then(|| group.cluster_id.clone()),
            networks: self.networks.clone(),
            // Envoy needs them to know the share of healthy ones, unless a bound on that share is set.
            is_unhealthy_kept: outlier.is_none_or(|outlier| outlier.min_health_percent <= 0),
            is_draining_kept: service.is_persistent_session,
            is_name_kept,
            is_mutual_tls_wanted: cluster.mode == ClusterMode::SniDnat,
        };
        let locality = LocalityPolicy::of(
            service,
            policy.load_balancer,
            outlier.is_some(),
            &self.settings,
        );
        EndpointInputs {
            cluster_name: cluster.name(),
            port_name: cluster.port.name.clone(),
            tls: EndpointTls::of(self.mesh, cluster, &endpoints),
            endpoints,
            filter,
            networks: (!self.gateways.is_empty()).then(|| NetworkInputs {
                gateways: self.gateways.clone(),
                network: group.network.clone(),
                cluster_id: group.cluster_id.clone(),
                has_ipv4: group.has_ipv4,
                has_ipv6: group.has_ipv6,
                is_name_allowed: is_name_kept,
            }),
            locality: LocalityInputs::new(locality, &group.locality, |key| label_of(group, key)),
        }
    }
}

/// A label of a group's proxies; those of its place count before the Pod's own.
fn label_of(group: &NodeGroup, key: &str) -> Option<String> {
    let place: &str = match key {
        LABEL_REGION => &group.locality.region,
        LABEL_ZONE => &group.locality.zone,
        LABEL_SUBZONE => &group.locality.subzone,
        LABEL_NETWORK => &group.network,
        LABEL_CLUSTER => &group.cluster_id,
        LABEL_HOSTNAME => &group.node_name,
        _ => "",
    };
    if place.is_empty() {
        group.labels.get(key).cloned()
    } else {
        Some(place.to_owned())
    }
}

/// Whether a service stays within its cluster (istio `pilot/pkg/model/cluster_local.go`).
fn is_cluster_local(config: &MeshConfig, mesh: &MeshSnapshot, host: &Hostname) -> bool {
    let is_of = |pattern: &str| host.is_subset_of(&pattern.into());
    let mut told = config
        .service_settings
        .iter()
        .flat_map(|settings| {
            settings
                .hosts
                .iter()
                .map(|host| (host.as_str(), settings.settings.cluster_local))
        })
        .filter(|(pattern, _)| is_of(pattern));
    if let Some((_, is_local)) = told.next() {
        return is_local;
    }
    let domain = &mesh.domain_suffix;
    let text = host.as_str();
    text.strip_suffix(&**domain)
        .and_then(|rest| rest.strip_suffix(".svc."))
        .is_some_and(|name| {
            name.ends_with(".kube-system")
                || name == "kubernetes.default"
                || name == "istiod.istio-system"
        })
}

/// The endpoint inputs of a scope, one for each cluster that gets its endpoints by EDS, by cluster name.
pub fn endpoint_inputs(mesh: &MeshSnapshot, scope: &ProxyScope) -> Vec<EndpointInputs> {
    service_endpoint_inputs(mesh, scope, scope.services.iter())
}

/// The endpoint inputs of some services of a scope, by cluster name: all that a change of their endpoints touches.
pub fn service_endpoint_inputs<'a>(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    services: impl Iterator<Item = &'a Shared<Service>>,
) -> Vec<EndpointInputs> {
    let context = EndpointContext::new(mesh, scope, ClusterSettings::of(&scope.mesh_config));
    let is_passed_through = has_auto_passthrough(mesh, &scope.group);
    let mut inputs: Vec<EndpointInputs> = services
        .flat_map(|service| inputs_of_service(&context, service, is_passed_through))
        .collect();
    inputs.sort_by(|a, b| a.cluster_name.cmp(&b.cluster_name));
    inputs.dedup_by(|a, b| a.cluster_name == b.cluster_name);
    inputs
}

fn inputs_of_service(
    context: &EndpointContext<'_>,
    service: &Shared<Service>,
    is_passed_through: bool,
) -> Vec<EndpointInputs> {
    let kind = context.scope.group.kind;
    let modes: &[ClusterMode] = if is_passed_through && !service.is_mesh_external {
        &[ClusterMode::Default, ClusterMode::SniDnat]
    } else {
        &[ClusterMode::Default]
    };
    modes
        .iter()
        .flat_map(|mode| service_clusters(context.scope, service, *mode))
        .filter(|cluster| cluster.discovery(kind) == Discovery::Eds)
        .map(|cluster| context.inputs(&cluster))
        .collect()
}

/// Build the load assignment of a cluster.
pub fn build_load_assignment(inputs: &EndpointInputs) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: inputs.cluster_name.clone(),
        endpoints: build_localities(inputs),
        ..ClusterLoadAssignment::default()
    }
}

/// The endpoints by locality; empty when no endpoint is left at all.
pub(crate) fn build_localities(inputs: &EndpointInputs) -> Vec<LocalityLbEndpoints> {
    let mut groups = group_by_locality(inputs);
    if let Some(networks) = &inputs.networks {
        groups = networks.apply(groups);
    }
    if inputs.filter.is_mutual_tls_wanted {
        for group in &mut groups {
            group
                .members
                .retain(|member| is_mutual_tls(&member.endpoint));
            group.weight = (!group.members.is_empty()).then(|| weight_of(&group.members));
        }
    }
    if let Some(locality) = &inputs.locality {
        groups = locality.apply(groups, !inputs.filter.is_name_kept);
    }
    groups.into_iter().map(build_locality).collect()
}

fn group_by_locality(inputs: &EndpointInputs) -> Vec<LocalityGroup<'_>> {
    let mut groups: BTreeMap<&Locality, Vec<Member<'_>>> = BTreeMap::new();
    for (i, endpoint) in inputs.endpoints.endpoints.iter().enumerate() {
        if endpoint.service_port_name != inputs.port_name || !inputs.is_taken(endpoint) {
            continue;
        }
        let has_mutual_tls = inputs.tls.has_mutual_tls(i, endpoint);
        // Istio's dual-stack mode is off by default: each address is an endpoint for everybody.
        for address in &endpoint.addresses {
            if inputs.is_address_taken(address, endpoint) {
                let members = groups.entry(&endpoint.workload.locality).or_default();
                members.push(Member {
                    workload: Some(&endpoint.workload),
                    labels: Cow::Borrowed(&endpoint.workload.labels),
                    endpoint: build_lb_endpoint(endpoint, address, has_mutual_tls),
                });
            }
        }
    }
    groups
        .into_iter()
        .map(|(locality, members)| LocalityGroup {
            locality: locality.clone(),
            weight: Some(weight_of(&members)),
            priority: 0,
            members,
        })
        .collect()
}

impl EndpointInputs {
    fn is_taken(&self, endpoint: &Endpoint) -> bool {
        let filter = &self.filter;
        let workload = &*endpoint.workload;
        let is_health_taken = match endpoint.health {
            Health::Healthy | Health::Unknown => true,
            Health::Unhealthy => filter.is_unhealthy_kept,
            Health::Draining => filter.is_draining_kept,
            Health::Terminating => false,
        };
        is_health_taken
            && filter
                .node_name
                .as_ref()
                .is_none_or(|node| *node == workload.node_name)
            && filter
                .cluster_id
                .as_ref()
                .is_none_or(|id| *id == workload.cluster_id)
            && (filter.networks.is_empty()
                || workload.network.is_empty()
                || filter.networks.contains(&*workload.network))
            && is_selected(&filter.labels, &workload.labels)
    }

    fn is_address_taken(&self, address: &str, endpoint: &Endpoint) -> bool {
        if address.is_empty() {
            // Only a gateway of its network can stand for it.
            let networks = self.networks.as_ref();
            return networks.is_some_and(|n| !n.is_local(&endpoint.workload.network));
        }
        self.filter.is_name_kept || endpoint.port == 0 || is_ip(address)
    }
}

fn build_locality(group: LocalityGroup<'_>) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(EnvoyLocality {
            region: group.locality.region.to_string(),
            zone: group.locality.zone.to_string(),
            sub_zone: group.locality.subzone.to_string(),
        }),
        lb_endpoints: group
            .members
            .into_iter()
            .map(|member| member.endpoint)
            .collect(),
        load_balancing_weight: group.weight,
        priority: group.priority,
        ..LocalityLbEndpoints::default()
    }
}
