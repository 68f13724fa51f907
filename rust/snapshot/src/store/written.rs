//! What is analysed of a mesh, anew when it is another.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Metadata, Shared};

use crate::ChangeSet;
use crate::analysis::{Analysis, WrittenRules};

use super::dirty::Dirty;
use super::{MeshStore, Name};

impl MeshStore {
    /// Hand over what is to be analysed, and forget what was found in what is another now.
    pub(super) fn refresh_analysis(
        &self,
        dirty: &Dirty,
        changes: &ChangeSet,
        analysis: &mut Analysis,
    ) {
        let is_rule_stale = self.is_rule_stale(dirty) || dirty.has_services();
        if is_rule_stale {
            analysis.written = Arc::new(self.written_rules());
            analysis.of_rules = Arc::default();
        }
        if is_rule_stale || !dirty.pods.is_empty() {
            analysis.pods = self.registry.pods.clone();
            analysis.of_workloads = Arc::default();
        }
        if !changes.endpoints.is_empty() {
            analysis.of_workloads = Arc::default();
        }
    }

    fn written_rules(&self) -> WrittenRules {
        let rules = &self.rules;
        WrittenRules {
            virtual_services: by_age(&rules.virtual_services, |rule| &rule.metadata),
            destination_rules: by_age(&rules.destination_rules, |rule| &rule.metadata),
            service_entries: by_age(&self.registry.service_entries, |entry| &entry.metadata),
            sidecars: by_age(&rules.sidecars, |sidecar| &sidecar.metadata),
            peer_authentications: by_age(&rules.peer_authentications, |policy| &policy.metadata),
        }
    }
}

fn by_age<T>(
    objects: &BTreeMap<Name, Shared<T>>,
    metadata: impl Fn(&T) -> &Metadata,
) -> Vec<Shared<T>> {
    let mut sorted: Vec<Shared<T>> = objects.values().cloned().collect();
    sorted.sort_by(|a, b| metadata(a).age().cmp(&metadata(b).age()));
    sorted
}
