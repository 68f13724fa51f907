//! What workloads' agents say of their health over streams, beside what their WorkloadEntries say.
//!
//! The word of an open stream counts over the entry's status. When the stream has ended its last word stays until the
//! entry's status turns: by then another replica may know better.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Health, WorkloadEntry};

use super::Name;
use super::service_entry::{HEALTH_CHECKS, health_of_entry, health_where_checked};

/// What an agent says of its workload on a stream that is open.
#[derive(Debug)]
pub(crate) struct Word {
    /// The agent's node.
    pub(crate) node: Arc<str>,
    /// As which service account the agent runs.
    pub(crate) account: Arc<str>,
    /// Why the workload is not healthy, if it is not.
    pub(crate) health: Result<(), Arc<str>>,
}

/// The last word on a workload that has an entry.
#[derive(Debug)]
pub(crate) struct Report {
    /// The stream that it came on, while that is open.
    pub(crate) stream: Option<u64>,
    pub(crate) health: Result<(), Arc<str>>,
}

/// What agents say, and what of it counts.
#[derive(Debug, Default)]
pub(crate) struct HealthReports {
    /// By the entry that an agent says is its workload's, be it there or not, and the stream.
    pub(crate) heard: BTreeMap<(Name, u64), Word>,
    /// What counts: of entries that are there, by agents that may speak for them.
    pub(crate) of_entry: BTreeMap<Name, Report>,
    /// Turns whenever `of_entry` may be another.
    pub(crate) revision: u64,
}

impl HealthReports {
    /// Whether a workload is down, by its own word or by its entry.
    pub(crate) fn health(&self, name: &Name, entry: &WorkloadEntry) -> Health {
        match self.of_entry.get(name) {
            Some(report) if report.health.is_err() => {
                health_where_checked(entry, Health::Unhealthy)
            }
            Some(_) => Health::Unknown,
            None => health_of_entry(entry),
        }
    }

    /// Note what of that which was heard on an entry counts: the newest stream's word, of those that may speak for it.
    ///
    /// What was said on a stream that has ended stays, if nothing else was heard.
    pub(crate) fn judge(&mut self, name: &Name, entry: &WorkloadEntry) {
        let heard = self
            .heard
            .range((name.clone(), 0)..=(name.clone(), u64::MAX));
        let counted = heard.rev().find(|(_, word)| word.may_speak_for(entry));
        if let Some(((_, stream), word)) = counted {
            let report = Report {
                stream: Some(*stream),
                health: word.health.clone(),
            };
            self.of_entry.insert(name.clone(), report);
            self.revision += 1;
        }
    }

    /// Forget what was said on an entry.
    pub(crate) fn forget(&mut self, name: &Name) {
        if self.of_entry.remove(name).is_some() {
            self.revision += 1;
        }
    }
}

impl Word {
    /// Whether the agent's word on an entry counts.
    pub(crate) fn may_speak_for(&self, entry: &WorkloadEntry) -> bool {
        self.is_of_account(entry) && entry.metadata.annotations.contains_key(HEALTH_CHECKS)
    }

    /// Whether the agent runs as the entry's service account, if that names one.
    pub(crate) fn is_of_account(&self, entry: &WorkloadEntry) -> bool {
        let wanted = entry.spec.service_account.as_str();
        wanted.is_empty() || *wanted == *self.account
    }
}
