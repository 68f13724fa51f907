//! Which mutual-TLS mode PeerAuthentication gives a workload.
//!
//! Source: istio `pilot/pkg/security/authn/policy_applier.go` `ComposePeerAuthentication`.

use std::collections::BTreeMap;

use navarch_model::{Labels, MutualTlsMode, PeerAuthentication, Shared, is_selected};

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
