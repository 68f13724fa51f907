//! The one mutable state: objects as they stand, and the parts of the next snapshot.

pub(crate) mod cluster_address;
mod difference;
mod dirty;
mod health;
mod index;
mod made_rule;
mod platform;
mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    ConfigKey, Diagnostic, Kind, MeshConfig, Object, ServiceEndpoints, Shared, decode_object,
};

use crate::analysis::Analysis;
use crate::gateway_api::{GatewayApiObjects, ObjectStatus};
use crate::ingress::IngressObjects;
use crate::mesh::{MeshOptions, MeshSnapshot, PersistentMap, RuleIndex, ServiceIndex};
use crate::registry::Registry;
use crate::{Batch, Change, ChangeSet, ServiceKey};

pub(crate) use difference::differing;
use dirty::Dirty;
pub use health::ReportedHealth;
use index::Converted;

type Name = (Arc<str>, Arc<str>);

/// Objects of kinds that only hold rules.
#[derive(Debug, Default)]
struct Rules {
    virtual_services: BTreeMap<Name, Shared<navarch_model::VirtualService>>,
    destination_rules: BTreeMap<Name, Shared<navarch_model::DestinationRule>>,
    gateways: BTreeMap<Name, Shared<navarch_model::Gateway>>,
    sidecars: BTreeMap<Name, Shared<navarch_model::Sidecar>>,
    peer_authentications: BTreeMap<Name, Shared<navarch_model::PeerAuthentication>>,
    request_authentications: BTreeMap<Name, Shared<navarch_model::RequestAuthentication>>,
    authorization_policies: BTreeMap<Name, Shared<navarch_model::AuthorizationPolicy>>,
    key_sets: BTreeMap<Name, Shared<navarch_model::JsonWebKeySet>>,
}

/// Holds every object; one writer applies batches, readers take snapshots.
#[derive(Debug)]
pub struct MeshStore {
    mesh_config: Shared<MeshConfig>,
    registry: Registry,
    rules: Rules,
    gateway_api: GatewayApiObjects,
    ingresses: IngressObjects,
    statuses: Vec<ObjectStatus>,
    converted: Converted,
    /// Faults of objects that could not be decoded; their last valid value stays.
    undecodable: BTreeMap<ConfigKey, Diagnostic>,
    /// Found while rules are made, until they are published.
    rule_diagnostics: Vec<Diagnostic>,
    current: Arc<MeshSnapshot>,
}

impl MeshStore {
    /// An empty mesh.
    pub fn new(options: MeshOptions) -> Self {
        let mesh_config = Shared::new(MeshConfig::default());
        let trust_domain = mesh_config.trust_domain.as_str().into();
        let current = Arc::new(MeshSnapshot {
            epoch: 0,
            mesh_config: mesh_config.clone(),
            domain_suffix: options.domain_suffix.clone(),
            cluster_id: options.cluster_id.clone(),
            networks: Shared::default(),
            services: Arc::new(ServiceIndex::default()),
            remote_gateways: Arc::default(),
            endpoints: PersistentMap::default(),
            addresses: PersistentMap::default(),
            services_by_address: PersistentMap::default(),
            rules: Arc::new(RuleIndex::default()),
            no_endpoints: Shared::new(ServiceEndpoints::default()),
            analysis: Analysis::default(),
        });
        Self {
            mesh_config,
            registry: Registry {
                options,
                trust_domain,
                ..Registry::default()
            },
            rules: Rules::default(),
            gateway_api: GatewayApiObjects::default(),
            ingresses: IngressObjects::default(),
            statuses: Vec::new(),
            converted: Converted::default(),
            undecodable: BTreeMap::new(),
            rule_diagnostics: Vec::new(),
            current,
        }
    }

    /// Apply changes that take effect together, and say what they changed.
    ///
    /// An object that can't be decoded keeps its last valid value; the rest of the batch is applied.
    pub fn apply(&mut self, batch: Batch) -> ChangeSet {
        self.apply_clusters(batch, Vec::new())
    }

    /// As [`Self::apply`], with changes of objects of remote clusters, by the cluster's name.
    pub fn apply_clusters(&mut self, batch: Batch, remote: Vec<(Arc<str>, Change)>) -> ChangeSet {
        let mut dirty = Dirty::default();
        for change in batch {
            self.apply_one(change, &mut dirty);
        }
        for (cluster, change) in remote {
            self.apply_remote(&cluster, change, &mut dirty);
        }
        let changes = self.refresh(&dirty);
        changes.unwrap_or_default()
    }

    /// The mesh as the last batch left it.
    pub fn snapshot(&self) -> Arc<MeshSnapshot> {
        Arc::clone(&self.current)
    }

    /// Faults of objects that could not be decoded and keep their last valid value, in key order.
    pub fn undecodable(&self) -> impl Iterator<Item = &Diagnostic> {
        self.undecodable.values()
    }

    /// What is wrong with the names that objects use for each other, and between objects of one kind.
    pub fn rule_diagnostics(&self) -> Vec<Diagnostic> {
        self.current.rule_diagnostics()
    }

    fn apply_one(&mut self, change: Change, dirty: &mut Dirty) {
        let key = change.key;
        let object = match change
            .payload
            .as_deref()
            .map(|payload| decode_object(&key, payload))
        {
            None => None,
            Some(Ok(object)) => Some(object),
            Some(Err(diagnostic)) => {
                self.undecodable.insert(key, diagnostic);
                return;
            }
        };
        self.undecodable.remove(&key);
        self.put(&key, object, dirty);
    }

    fn put(&mut self, key: &ConfigKey, object: Option<Object>, dirty: &mut Dirty) {
        let name: Name = (key.namespace.clone(), key.name.clone());
        macro_rules! put {
            ($map:expr, $variant:ident) => {{
                let value = match object {
                    Some(Object::$variant(value)) => Some(Shared::new(value)),
                    _ => None,
                };
                replace(&mut $map, name, value)
            }};
        }
        let is_changed = match key.kind {
            Kind::ServiceAccount => false,
            Kind::MeshConfig | Kind::MeshNetworks => self.put_settings(key.kind, object),
            Kind::Namespace | Kind::Node | Kind::Pod | Kind::Service | Kind::EndpointSlice => {
                let root = self.mesh_config.root_namespace.clone();
                return self.registry.put(key, object, &root, dirty);
            }
            Kind::ServiceEntry => put!(self.registry.service_entries, ServiceEntry),
            Kind::WorkloadEntry => self.put_workload_entry(name, object),
            Kind::Secret => put!(self.gateway_api.secrets, Secret),
            Kind::ConfigMap => put!(self.gateway_api.config_maps, ConfigMap),
            Kind::GatewayClass => put!(self.gateway_api.classes, GatewayClass),
            Kind::KubernetesGateway => put!(self.gateway_api.gateways, KubernetesGateway),
            Kind::ListenerSet => put!(self.gateway_api.listener_sets, ListenerSet),
            Kind::HTTPRoute => put!(self.gateway_api.http_routes, HTTPRoute),
            Kind::GRPCRoute => put!(self.gateway_api.grpc_routes, GRPCRoute),
            Kind::TCPRoute => put!(self.gateway_api.tcp_routes, TCPRoute),
            Kind::TLSRoute => put!(self.gateway_api.tls_routes, TLSRoute),
            Kind::ReferenceGrant => put!(self.gateway_api.grants, ReferenceGrant),
            Kind::BackendTLSPolicy => {
                put!(self.gateway_api.backend_tls_policies, BackendTLSPolicy)
            }
            Kind::Ingress => put!(self.ingresses.ingresses, Ingress),
            Kind::IngressClass => put!(self.ingresses.classes, IngressClass),
            Kind::VirtualService => put!(self.rules.virtual_services, VirtualService),
            Kind::DestinationRule => put!(self.rules.destination_rules, DestinationRule),
            Kind::Gateway => put!(self.rules.gateways, Gateway),
            Kind::Sidecar => put!(self.rules.sidecars, Sidecar),
            Kind::PeerAuthentication => put!(self.rules.peer_authentications, PeerAuthentication),
            Kind::RequestAuthentication => {
                put!(self.rules.request_authentications, RequestAuthentication)
            }
            Kind::AuthorizationPolicy => {
                put!(self.rules.authorization_policies, AuthorizationPolicy)
            }
            Kind::JsonWebKeySet => put!(self.rules.key_sets, JsonWebKeySet),
        };
        if is_changed {
            dirty.add_object(key);
        }
    }

    /// Settings of the whole mesh; without an object the defaults hold.
    fn put_settings(&mut self, kind: Kind, object: Option<Object>) -> bool {
        if kind == Kind::MeshNetworks {
            let networks = match object {
                Some(Object::MeshNetworks(networks)) => Shared::new(networks),
                _ => Shared::default(),
            };
            let before = std::mem::replace(&mut self.registry.networks, networks);
            return before != self.registry.networks;
        }
        let config = match object {
            Some(Object::MeshConfig(config)) => *config,
            _ => MeshConfig::default(),
        };
        let before = std::mem::replace(&mut self.mesh_config, Shared::new(config));
        before != self.mesh_config
    }

    /// Rebuild what is dirty and publish it; `None` when nothing is.
    fn refresh(&mut self, dirty: &Dirty) -> Option<ChangeSet> {
        if dirty.is_empty() {
            return None;
        }
        let mut next = (*self.current).clone();
        next.epoch += 1;
        next.mesh_config = self.mesh_config.clone();
        next.networks = self.registry.networks.clone();
        let mut changes = ChangeSet {
            objects: dirty.objects.clone(),
            is_configuration: dirty.is_configuration() || self.is_rule_stale(dirty),
            ..ChangeSet::default()
        };
        if dirty.is_everything() {
            self.refresh_workloads();
        }
        if dirty.is_everything() || !dirty.addresses.is_empty() {
            self.refresh_addresses(dirty, &mut next, &mut changes);
        }
        if dirty.has_services() {
            self.refresh_services(dirty, &mut next);
        }
        self.refresh_endpoints(dirty, &mut next, &mut changes);
        if self.is_rule_stale(dirty) {
            self.refresh_rules(&mut next);
        }
        changes
            .configuration
            .merge(difference::of(dirty, &self.current, &next));
        self.refresh_analysis(dirty, &changes, &mut next.analysis);
        if changes.is_empty() {
            return None;
        }
        self.current = Arc::new(next);
        Some(changes)
    }

    /// Whether rules are others than published: their own objects changed, or what made ones are made from.
    fn is_rule_stale(&self, dirty: &Dirty) -> bool {
        dirty.has_rules() || (dirty.has_rule_inputs() && self.has_made_rules())
    }

    /// Workloads anew, after what they inherit from the mesh, namespaces and Nodes changed.
    fn refresh_workloads(&mut self) {
        let mesh = &self.mesh_config;
        self.registry.trust_domain = mesh.trust_domain.as_str().into();
        self.registry
            .discovery_selectors
            .clone_from(&mesh.discovery_selectors);
        let visibility = mesh.service_entry_visibility.as_ref();
        self.registry.entry_visibility = visibility.filter(|v| v.apply_to_sidecars).cloned();
        self.refresh_all_workloads();
    }
}

/// Put or remove; whether the value is another than before.
fn replace<T>(map: &mut BTreeMap<Name, Shared<T>>, name: Name, value: Option<Shared<T>>) -> bool {
    match value {
        Some(value) => map
            .insert(name, value.clone())
            .is_none_or(|old| old != value),
        None => map.remove(&name).is_some(),
    }
}

/// The key of a service of the Kubernetes registry.
fn kubernetes_key(registry: &Registry, name: &Name) -> ServiceKey {
    ServiceKey {
        hostname: registry.service_hostname(&name.1, &name.0),
        namespace: name.0.clone(),
    }
}
