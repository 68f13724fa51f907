//! What a batch made stale.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{ConfigKey, Kind};

type Name = (Arc<str>, Arc<str>);

/// What must be rebuilt before the next snapshot.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Objects whose value is another.
    pub(super) objects: BTreeSet<ConfigKey>,
    /// Kubernetes Services whose endpoints may be others.
    pub(super) kubernetes_services: BTreeSet<Name>,
    /// Pods that changed.
    pub(super) pods: BTreeSet<Name>,
    /// Addresses whose owner changed.
    pub(super) addresses: BTreeSet<Arc<str>>,
    kinds: BTreeSet<Kind>,
}

impl Dirty {
    pub(super) fn add_object(&mut self, key: &ConfigKey) {
        self.kinds.insert(key.kind);
        if key.kind == Kind::Service {
            self.kubernetes_services
                .insert((key.namespace.clone(), key.name.clone()));
        }
        self.objects.insert(key.clone());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn has_any(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.kinds.contains(kind))
    }

    /// Whether something changed that all workloads inherit from.
    pub(super) fn is_everything(&self) -> bool {
        self.has_any(&[
            Kind::MeshConfig,
            Kind::MeshNetworks,
            Kind::Namespace,
            Kind::Node,
        ])
    }

    /// Whether the list of services may be another.
    pub(super) fn has_services(&self) -> bool {
        self.is_everything() || self.has_any(&[Kind::Service, Kind::ServiceEntry])
    }

    /// Whether endpoints of ServiceEntries, or those that WorkloadEntries add, may be others.
    pub(super) fn has_entries(&self) -> bool {
        self.is_everything() || self.has_any(&[Kind::ServiceEntry, Kind::WorkloadEntry])
    }

    /// Whether a kind changed of which it is not known who depends on it.
    ///
    /// What other kinds change is found by comparing services, endpoints, addresses and rules.
    pub(super) fn has_mesh_wide_kind(&self) -> bool {
        let is_compared = |kind: &Kind| {
            matches!(
                kind,
                Kind::Service
                    | Kind::EndpointSlice
                    | Kind::Pod
                    | Kind::Node
                    | Kind::Namespace
                    | Kind::ServiceEntry
                    | Kind::WorkloadEntry
                    | Kind::VirtualService
                    | Kind::DestinationRule
                    | Kind::Gateway
                    | Kind::Sidecar
                    | Kind::PeerAuthentication
                    | Kind::AuthorizationPolicy
                    | Kind::RequestAuthentication
                    | Kind::JsonWebKeySet
                    | Kind::Ingress
                    | Kind::IngressClass
                    | Kind::GatewayClass
                    | Kind::KubernetesGateway
                    | Kind::ListenerSet
                    | Kind::HTTPRoute
                    | Kind::GRPCRoute
                    | Kind::TCPRoute
                    | Kind::TLSRoute
                    | Kind::ReferenceGrant
                    | Kind::BackendTLSPolicy
                    | Kind::Secret
                    | Kind::ConfigMap
                    | Kind::ServiceAccount
            )
        };
        !self.kinds.iter().all(is_compared)
    }

    /// Whether the indexes of rules are stale.
    pub(super) fn has_rules(&self) -> bool {
        self.has_any(&[
            Kind::MeshConfig,
            Kind::VirtualService,
            Kind::DestinationRule,
            Kind::Gateway,
            Kind::Sidecar,
            Kind::PeerAuthentication,
            Kind::RequestAuthentication,
            Kind::AuthorizationPolicy,
            Kind::JsonWebKeySet,
            Kind::Ingress,
            Kind::IngressClass,
            Kind::GatewayClass,
            Kind::KubernetesGateway,
            Kind::ListenerSet,
            Kind::HTTPRoute,
            Kind::GRPCRoute,
            Kind::TCPRoute,
            Kind::TLSRoute,
            Kind::ReferenceGrant,
            Kind::BackendTLSPolicy,
        ])
    }

    /// Whether something changed that rules are made from, though it is none itself.
    pub(super) fn has_rule_inputs(&self) -> bool {
        self.has_any(&[
            Kind::Namespace,
            Kind::Service,
            Kind::ServiceEntry,
            Kind::Secret,
            Kind::ConfigMap,
        ])
    }

    /// Whether anything but endpoints is known to change.
    pub(super) fn is_configuration(&self) -> bool {
        self.has_services() || self.has_rules()
    }
}
