//! The mesh behind the streams: batches in, each proxy's resources of the newest epoch out.
//!
//! Resources are built on the push thread, group by group, when a proxy of the group is led to them. A change
//! marks the groups and proxies that it may touch; no other is looked at. A batch of endpoints only rebuilds load
//! assignments in what the groups have (decision 5).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use navarch_encode::{GroupResources, ResourceCache, ResourceSnapshot, assemble_own};
use navarch_model::{ConfigKey, Diagnostic, Proxy, Shared};
use navarch_snapshot::{
    Batch, Change, ChangeSet, MeshOptions, MeshSnapshot, MeshStore, ObjectStatus, ReportedHealth,
};

use crate::built::Built;
use crate::health::HealthNews;
use crate::push::{Push, ResourceSource, Touched, Trigger};
use crate::registry::lock;

/// The store's newest snapshot and what changed since the last push.
struct Applied {
    store: MeshStore,
    unpushed: ChangeSet,
}

impl Applied {
    fn take_health(&mut self, health: &HealthNews) {
        for (stream, news) in health.take() {
            if let Some(told) = news.told {
                let changes = self.store.report_health(stream, &news.proxy, told);
                self.unpushed.merge(changes);
            }
            if news.has_ended {
                self.store.end_reports(stream, &news.proxy);
            }
        }
    }
}

/// A mesh whose newest epoch is always what is served.
pub struct MeshEpochs {
    applied: Mutex<Applied>,
    built: Mutex<Built>,
    cache: ResourceCache,
    health: Arc<HealthNews>,
}

impl MeshEpochs {
    /// An empty mesh.
    pub fn new(options: MeshOptions) -> Self {
        let store = MeshStore::new(options);
        let mesh = store.snapshot();
        Self {
            applied: Mutex::new(Applied {
                store,
                unpushed: ChangeSet::default(),
            }),
            built: Mutex::new(Built::new(mesh)),
            cache: ResourceCache::new(),
            health: Arc::default(),
        }
    }

    /// The same mesh, which takes in what agents say of their workloads.
    #[must_use]
    pub fn hearing(self, health: &Arc<HealthNews>) -> Self {
        Self {
            health: Arc::clone(health),
            ..self
        }
    }

    /// Apply a batch; whether anything changed, and what in the batch could not be decoded.
    pub fn apply(&self, batch: Batch) -> (bool, Vec<Diagnostic>) {
        self.apply_clusters(batch, Vec::new())
    }

    /// As [`Self::apply`], with changes of objects of remote clusters, by the cluster's name.
    pub fn apply_clusters(
        &self,
        batch: Batch,
        remote: Vec<(Arc<str>, Change)>,
    ) -> (bool, Vec<Diagnostic>) {
        let keys: BTreeSet<ConfigKey> = batch.iter().map(|change| change.key.clone()).collect();
        let mut applied = lock(&self.applied);
        let changes = applied.store.apply_clusters(batch, remote);
        let is_changed = !changes.is_empty();
        applied.unpushed.merge(changes);
        let diagnostics = applied.store.undecodable();
        (
            is_changed,
            diagnostics
                .filter(|fault| keys.contains(&fault.key))
                .cloned()
                .collect(),
        )
    }

    /// The newest mesh.
    pub fn mesh(&self) -> Arc<MeshSnapshot> {
        lock(&self.applied).store.snapshot()
    }

    /// The resources of a proxy that need not be connected, with what there is to say of the objects behind them.
    ///
    /// All that a proxy asks for because of what it is told; what it asks for because of its bootstrap
    /// (the endpoints of its own kind) is not among them.
    pub fn translate(&self, proxy: &Proxy) -> (ResourceSnapshot, Vec<Diagnostic>) {
        let mesh = self.mesh();
        let scope = Arc::new(mesh.scope_of(&mesh.group_of(proxy)));
        let shared = GroupResources::new(&self.cache, &mesh, Arc::clone(&scope));
        let own = assemble_own(&self.cache, &mesh, &scope, proxy);
        let mut diagnostics = shared.diagnostics();
        diagnostics.extend(own.diagnostics);
        diagnostics.extend(mesh.rule_diagnostics());
        (
            ResourceSnapshot::new(shared.part(), &own.part),
            diagnostics.into_iter().collect(),
        )
    }

    /// What is wrong with objects as seen by the proxies that are served, and with the names they use; in order.
    ///
    /// What could not be decoded is told by [`Self::apply`] alone.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all: BTreeSet<Diagnostic> = self.mesh().rule_diagnostics().into_iter().collect();
        all.extend(lock(&self.applied).store.refused_reports());
        lock(&self.built).visit_diagnostics(|told| {
            all.insert(told.clone());
        });
        all.into_iter().collect()
    }

    /// The statuses of objects of Gateway API and of Ingresses, and the epoch that they are of.
    pub fn statuses(&self) -> (u64, Vec<ObjectStatus>) {
        let applied = lock(&self.applied);
        let epoch = applied.store.snapshot().epoch;
        (epoch, applied.store.statuses().to_vec())
    }

    /// What workloads say of their health: by their WorkloadEntries, a fault or none, and a number that turns whenever
    /// it may be another.
    pub fn reported_health(&self) -> (u64, Vec<ReportedHealth>) {
        let mut applied = lock(&self.applied);
        applied.take_health(&self.health);
        applied.store.reported_health()
    }

    /// How many node groups are served.
    pub fn n_groups(&self) -> usize {
        lock(&self.built).n_groups()
    }

    /// How many groups were brought up to date, and how many proxies' own parts were made, since the start.
    pub fn work(&self) -> (u64, u64) {
        lock(&self.built).work()
    }

    /// The newest mesh with all that changed since it was last taken; `None` if `is_wanted` says no.
    fn take(
        &self,
        is_wanted: impl FnOnce(&ChangeSet) -> bool,
    ) -> Option<(Arc<MeshSnapshot>, ChangeSet)> {
        let mut applied = lock(&self.applied);
        applied.take_health(&self.health);
        if !is_wanted(&applied.unpushed) {
            return None;
        }
        let changes = std::mem::take(&mut applied.unpushed);
        Some((applied.store.snapshot(), changes))
    }
}

impl ResourceSource for MeshEpochs {
    fn begin_push(&self) -> Option<Push> {
        let (mesh, changes) = self.take(|changes| !changes.is_empty())?;
        let trigger = if changes.is_configuration {
            Trigger::Config
        } else {
            Trigger::Endpoint
        };
        let touched = lock(&self.built).take(mesh, &changes);
        Some(Push { trigger, touched })
    }

    fn take_endpoints(&self) -> Option<Touched> {
        let is_endpoints = |changes: &ChangeSet| !changes.is_empty() && !changes.is_configuration;
        let (mesh, changes) = self.take(is_endpoints)?;
        Some(lock(&self.built).take(mesh, &changes))
    }

    fn forget(&self, proxies: &[Shared<Proxy>]) {
        lock(&self.built).forget(proxies);
    }

    fn snapshot_for(&self, proxy: &Shared<Proxy>) -> Arc<ResourceSnapshot> {
        Arc::new(lock(&self.built).snapshot_for(&self.cache, proxy))
    }
}
