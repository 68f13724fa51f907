//! Agents' words on the health of their workloads, and the entries that they count for.
//!
//! Source: istio `pilot/pkg/autoregistration` (`ensureProxyCanControlEntry`, `internal/health`).

use std::sync::Arc;

use navarch_model::{ConfigKey, Diagnostic, Kind, Object, Proxy, Severity, Shared, WorkloadEntry};

use super::dirty::Dirty;
use super::{MeshStore, Name, replace};
use crate::ChangeSet;
use crate::registry::reported::Word;
use crate::registry::service_entry::{HEALTH_CHECKS, health_of_entry};

/// What a workload says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedHealth {
    /// The WorkloadEntry that stands for it.
    pub key: ConfigKey,
    /// Why it is not healthy, if it is not.
    pub health: Result<(), Arc<str>>,
}

impl MeshStore {
    /// Take what the agent of a proxy says of its workload on a stream. It counts for the WorkloadEntry that the node
    /// names, in its namespace, if that has no other service account; at once, or when the entry comes.
    pub fn report_health(
        &mut self,
        stream: u64,
        proxy: &Proxy,
        health: Result<(), Arc<str>>,
    ) -> ChangeSet {
        let Some(entry_name) = proxy.workload_entry() else {
            return ChangeSet::default();
        };
        let name: Name = (proxy.namespace.clone(), entry_name.as_ref().into());
        let word = Word {
            node: proxy.id.clone(),
            account: proxy.metadata.service_account.as_str().into(),
            health,
        };
        let reports = &mut self.registry.reports;
        reports.heard.insert((name.clone(), stream), word);
        let Some(entry) = self.registry.workload_entries.get(&name) else {
            return ChangeSet::default();
        };
        let before = reports.health(&name, entry);
        reports.judge(&name, entry);
        let mut dirty = Dirty::default();
        if reports.health(&name, entry) != before {
            dirty.add_object(&key_of(&name));
        }
        self.refresh(&dirty).unwrap_or_default()
    }

    /// A stream of a proxy has ended: what was said on it is the last that was heard.
    pub fn end_reports(&mut self, stream: u64, proxy: &Proxy) {
        let Some(entry_name) = proxy.workload_entry() else {
            return;
        };
        let name: Name = (proxy.namespace.clone(), entry_name.as_ref().into());
        let reports = &mut self.registry.reports;
        if let Some(report) = reports.of_entry.get_mut(&name)
            && report.stream == Some(stream)
        {
            report.stream = None;
            reports.revision += 1;
        }
        reports.heard.remove(&(name, stream));
    }

    /// What workloads say on open streams, by their entries, in order; with a number that turns whenever it may be
    /// another.
    pub fn reported_health(&self) -> (u64, Vec<ReportedHealth>) {
        let reports = &self.registry.reports;
        let open = reports.of_entry.iter().filter(|(_, r)| r.stream.is_some());
        let rows = open.map(|(name, report)| ReportedHealth {
            key: key_of(name),
            health: report.health.clone(),
        });
        (reports.revision, rows.collect())
    }

    /// What agents say of entries that are not there or not theirs, in order.
    pub fn refused_reports(&self) -> Vec<Diagnostic> {
        let heard = self.registry.reports.heard.iter();
        heard
            .filter_map(|((name, _), word)| self.refuse(name, word))
            .collect()
    }

    fn refuse(&self, name: &Name, word: &Word) -> Option<Diagnostic> {
        let (field_path, message) = match self.registry.workload_entries.get(name) {
            None => (
                "",
                format!(
                    "the agent of `{}` tells of the health of this WorkloadEntry, which is not there: create it, or \
                     correct WORKLOAD_ENTRY or AUTO_REGISTER_GROUP in the node's metadata",
                    word.node
                ),
            ),
            Some(entry) if !word.is_of_account(entry) => (
                "spec.serviceAccount",
                format!(
                    "the agent of `{}` tells of the health of this WorkloadEntry, but runs as service account `{}`: \
                     its word does not count; correct WORKLOAD_ENTRY in the node's metadata, or the account",
                    word.node, word.account
                ),
            ),
            Some(entry) if !word.may_speak_for(entry) => (
                "metadata.annotations",
                format!(
                    "the agent of `{}` tells of the health of this WorkloadEntry, which does not want it: annotate it \
                     with `{HEALTH_CHECKS}: \"true\"`, or take the probe out of the agent's ProxyConfig",
                    word.node
                ),
            ),
            Some(_) => return None,
        };
        Some(Diagnostic {
            key: key_of(name),
            code: "refused-health",
            severity: Severity::Warning,
            field_path: field_path.to_owned(),
            message,
        })
    }

    /// Put or remove a WorkloadEntry; whether anything is another than before.
    ///
    /// A status that turns is the word of another replica, which counts over that of a stream which has ended here.
    pub(super) fn put_workload_entry(&mut self, name: Name, object: Option<Object>) -> bool {
        let entry = match object {
            Some(Object::WorkloadEntry(entry)) => Some(Shared::new(entry)),
            _ => None,
        };
        let status = |entry: &Shared<WorkloadEntry>| health_of_entry(entry);
        let entries = &self.registry.workload_entries;
        let has_turned = entry.as_ref().map(status) != entries.get(&name).map(status);
        let reports = &mut self.registry.reports;
        let former = reports.of_entry.get(&name);
        let may_speak = |entry: &Shared<WorkloadEntry>| {
            let stream = former.and_then(|report| report.stream);
            let word = stream.and_then(|stream| reports.heard.get(&(name.clone(), stream)));
            word.is_some_and(|word| word.may_speak_for(entry))
        };
        let is_heard = entry.as_ref().is_some_and(may_speak);
        if entry.is_none()
            || (!is_heard && (has_turned || former.is_some_and(|r| r.stream.is_some())))
        {
            reports.forget(&name);
        }
        if let Some(entry) = &entry
            && !is_heard
        {
            reports.judge(&name, entry);
        }
        replace(&mut self.registry.workload_entries, name, entry)
    }
}

fn key_of(name: &Name) -> ConfigKey {
    ConfigKey {
        kind: Kind::WorkloadEntry,
        namespace: name.0.clone(),
        name: name.1.clone(),
    }
}
