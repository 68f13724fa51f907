//! Which mutual-TLS mode PeerAuthentication gives a workload.
//!
//! Source: istio `pilot/pkg/security/authn/policy_applier.go` `ComposePeerAuthentication`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Labels, MutualTlsMode, PeerAuthentication, ServiceEndpoints, Shared, is_selected,
};

use crate::policy::add_changed;
use crate::{MeshSnapshot, ServiceKey};

/// The modes in force for one workload; none is `Unset`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MutualTlsModes {
    /// For ports without one of their own.
    pub mode: MutualTlsMode,
    /// By the workload's port.
    pub ports: BTreeMap<u32, MutualTlsMode>,
}

impl MutualTlsModes {
    /// The mode of one port of the workload.
    pub fn of_port(&self, port: u32) -> MutualTlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

/// The policies, by namespace and by age.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerAuthenticationIndex {
    by_namespace: BTreeMap<String, Vec<Shared<PeerAuthentication>>>,
}

impl PeerAuthenticationIndex {
    pub(crate) fn new<'a>(policies: impl Iterator<Item = &'a Shared<PeerAuthentication>>) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<Shared<PeerAuthentication>>> = BTreeMap::new();
        for policy in policies {
            by_namespace
                .entry(policy.metadata.namespace.clone())
                .or_default()
                .push(policy.clone());
        }
        for policies in by_namespace.values_mut() {
            policies.sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
        }
        Self { by_namespace }
    }

    /// Namespaces whose policies are others.
    pub(crate) fn namespaces_changed_since(&self, old: &Self) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        add_changed(&old.by_namespace, &self.by_namespace, &mut changed);
        changed
    }

    /// Whether any policy keeps clients from mutual TLS.
    fn is_disabling(&self) -> bool {
        let is_off = |mode: MutualTlsMode| mode == MutualTlsMode::Disable;
        self.by_namespace.values().flatten().any(|policy| {
            let mut ports = policy.spec.port_level_mtls.values();
            mode_of(policy).is_some_and(is_off) || ports.any(|port| is_off(port.mode))
        })
    }

    fn of_namespace(&self, namespace: &str) -> &[Shared<PeerAuthentication>] {
        self.by_namespace.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// The mode of the oldest policy of a namespace without a selector, if it sets one.
    fn namespace_mode(&self, namespace: &str) -> Option<MutualTlsMode> {
        self.of_namespace(namespace)
            .iter()
            .find(|policy| !has_selector(policy))
            .and_then(|policy| mode_of(policy))
    }

    /// The mode of a namespace as a whole: its own, the mesh's, or PERMISSIVE.
    pub(crate) fn namespace_mutual_tls(&self, root: &str, namespace: &str) -> MutualTlsMode {
        let own = if namespace == root {
            None
        } else {
            self.namespace_mode(namespace)
        };
        own.or_else(|| self.namespace_mode(root))
            .unwrap_or(MutualTlsMode::Permissive)
    }

    /// The modes of a workload of `namespace` with `labels`.
    pub(crate) fn mutual_tls(
        &self,
        root: &str,
        namespace: &str,
        labels: &Labels,
    ) -> MutualTlsModes {
        let inherited = self.namespace_mutual_tls(root, namespace);
        // Selectors in the root namespace don't reach out of it, nor do they act within it.
        let workload = (namespace != root)
            .then(|| {
                self.of_namespace(namespace).iter().find(|policy| {
                    has_selector(policy)
                        && policy
                            .spec
                            .selector
                            .as_ref()
                            .is_some_and(|selector| is_selected(&selector.match_labels, labels))
                })
            })
            .flatten();
        let Some(workload) = workload else {
            return MutualTlsModes {
                mode: inherited,
                ports: BTreeMap::new(),
            };
        };
        let mode = mode_of(workload).unwrap_or(inherited);
        let ports = workload
            .spec
            .port_level_mtls
            .iter()
            .filter_map(|(port, mtls)| {
                let own = if mtls.mode == MutualTlsMode::Unset {
                    mode
                } else {
                    mtls.mode
                };
                Some((port.parse().ok()?, own))
            })
            .collect();
        MutualTlsModes { mode, ports }
    }
}

/// Services whose clients use mutual TLS where they did not before, or the other way round, by the `PeerAuthentication`s
/// of some namespaces. STRICT and PERMISSIVE are the same to clients.
pub(crate) fn services_secured_otherwise(
    namespaces: &BTreeSet<Arc<str>>,
    old: &MeshSnapshot,
    next: &MeshSnapshot,
) -> BTreeSet<ServiceKey> {
    let indexes = [old, next].map(|mesh| &mesh.rules.peer_authentications);
    if namespaces.is_empty() || !indexes.iter().any(|index| index.is_disabling()) {
        return BTreeSet::new();
    }
    let is_everywhere = namespaces.contains(next.mesh_config.root_namespace.as_str());
    let is_meant = |namespace: &str| is_everywhere || namespaces.contains(namespace);
    let is_other_namespace = |namespace: &str| {
        let [before, after] =
            [old, next].map(|mesh| mesh.namespace_mutual_tls(namespace) == MutualTlsMode::Disable);
        before != after
    };
    let mut known: BTreeMap<(u128, u32), bool> = BTreeMap::new();
    let mut has_other = |endpoints: &ServiceEndpoints| {
        endpoints.endpoints.iter().any(|endpoint| {
            let workload = &endpoint.workload;
            let is_other = || {
                let [before, after] = [old, next].map(|mesh| {
                    let modes = mesh.mutual_tls(&workload.namespace, &workload.labels);
                    modes.of_port(endpoint.port) == MutualTlsMode::Disable
                });
                before != after
            };
            let key = (workload.hash128(), endpoint.port);
            is_meant(&workload.namespace) && *known.entry(key).or_insert_with(is_other)
        })
    };
    let services = next.services().iter().filter(|service| {
        is_meant(&service.namespace) && is_other_namespace(&service.namespace)
            || has_other(&next.endpoints(service))
    });
    services.map(|service| ServiceKey::of(service)).collect()
}

fn has_selector(policy: &PeerAuthentication) -> bool {
    policy
        .spec
        .selector
        .as_ref()
        .is_some_and(|selector| !selector.match_labels.is_empty())
}

fn mode_of(policy: &PeerAuthentication) -> Option<MutualTlsMode> {
    policy
        .spec
        .mtls
        .map(|mtls| mtls.mode)
        .filter(|mode| *mode != MutualTlsMode::Unset)
}
