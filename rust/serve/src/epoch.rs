//! The mesh behind the streams: batches in, each proxy's resources of the newest epoch out.
//!
//! Resources are built on the push thread, group by group, when a proxy of the group is led to them.
//! A batch of endpoints only rebuilds load assignments in what the groups have (decision 5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use navarch_encode::{
    Assembled, ResourceCache, ResourcePart, ResourceSnapshot, assemble_endpoints, assemble_group,
    assemble_local_cluster, assemble_own,
};
use navarch_model::{ConfigKey, Diagnostic, Proxy, hash128};
use navarch_snapshot::{Batch, ChangeSet, MeshOptions, MeshSnapshot, MeshStore, ProxyScope};

use crate::push::{ResourceSource, Trigger};
use crate::registry::lock;

/// What the proxies of one group share, with the scope it was built for.
struct Group {
    scope: Arc<ProxyScope>,
    made: Assembled,
}

/// What is one proxy's own, and which group it is in.
struct Member {
    group: u128,
    own: Assembled,
    /// It is told of its own kind's endpoints, which are its own part.
    has_self_discovery: bool,
}

/// What was built of one epoch.
struct Built {
    mesh: Arc<MeshSnapshot>,
    groups: BTreeMap<u128, Group>,
    /// By the hash of all that the node told.
    members: BTreeMap<u128, Member>,
}

/// The store's newest snapshot and what changed since the last push.
struct Applied {
    store: MeshStore,
    unpushed: ChangeSet,
}

/// A mesh whose newest epoch is always what is served.
pub struct MeshEpochs {
    applied: Mutex<Applied>,
    built: Mutex<Built>,
    cache: ResourceCache,
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
            built: Mutex::new(Built {
                mesh,
                groups: BTreeMap::new(),
                members: BTreeMap::new(),
            }),
            cache: ResourceCache::new(),
        }
    }

    /// Apply a batch; whether anything changed, and what in the batch could not be decoded.
    pub fn apply(&self, batch: Batch) -> (bool, Vec<Diagnostic>) {
        let keys: BTreeSet<ConfigKey> = batch.iter().map(|change| change.key.clone()).collect();
        let mut applied = lock(&self.applied);
        let changes = applied.store.apply(batch);
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
        let scope = mesh.scope_of(&mesh.group_of(proxy));
        let shared = assemble_group(&self.cache, &mesh, &scope);
        let own = assemble_own(&self.cache, &mesh, &scope, proxy);
        let mut diagnostics = shared.diagnostics;
        diagnostics.extend(own.diagnostics);
        diagnostics.extend(mesh.rule_diagnostics());
        (
            ResourceSnapshot::new(&shared.part, &own.part),
            diagnostics.into_iter().collect(),
        )
    }

    /// What is wrong with objects as seen by the proxies that are served, and with the names they use; in order.
    ///
    /// What could not be decoded is told by [`Self::apply`] alone.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all: BTreeSet<Diagnostic> = self.mesh().rule_diagnostics().into_iter().collect();
        let built = lock(&self.built);
        for group in built.groups.values() {
            all.extend(group.made.diagnostics.iter().cloned());
        }
        for member in built.members.values() {
            all.extend(member.own.diagnostics.iter().cloned());
        }
        all.into_iter().collect()
    }

    /// How many node groups are served.
    pub fn n_groups(&self) -> usize {
        lock(&self.built).groups.len()
    }
}

impl ResourceSource for MeshEpochs {
    fn begin_push(&self) -> Option<Trigger> {
        let (mesh, changes) = {
            let mut applied = lock(&self.applied);
            (
                applied.store.snapshot(),
                std::mem::take(&mut applied.unpushed),
            )
        };
        let mut built = lock(&self.built);
        let trigger = if changes.is_configuration {
            built.groups.clear();
            built.members.clear();
            Some(Trigger::Config)
        } else {
            built.take_endpoints(&self.cache, &mesh, &changes);
            (!changes.is_empty()).then_some(Trigger::Endpoint)
        };
        built.mesh = mesh;
        trigger
    }

    fn take_endpoints(&self) -> bool {
        let (mesh, changes) = {
            let mut applied = lock(&self.applied);
            if applied.unpushed.is_empty() || applied.unpushed.is_configuration {
                return false;
            }
            (
                applied.store.snapshot(),
                std::mem::take(&mut applied.unpushed),
            )
        };
        let mut built = lock(&self.built);
        built.take_endpoints(&self.cache, &mesh, &changes);
        built.mesh = mesh;
        true
    }

    fn forget(&self, proxies: &[Arc<Proxy>]) {
        let mut built = lock(&self.built);
        for proxy in proxies {
            built.members.remove(&hash128(&**proxy));
        }
        let members = built.members.values();
        let used: BTreeSet<u128> = members.map(|member| member.group).collect();
        built.groups.retain(|group, _| used.contains(group));
    }

    fn snapshot_for(&self, proxy: &Proxy) -> Arc<ResourceSnapshot> {
        Arc::new(lock(&self.built).snapshot_for(&self.cache, proxy))
    }
}

impl Built {
    /// Bring what is built to a mesh in which only endpoints, or who is at an address, changed.
    fn take_endpoints(&mut self, cache: &ResourceCache, mesh: &MeshSnapshot, changes: &ChangeSet) {
        for group in self.groups.values_mut() {
            group.made.part = assemble_endpoints(
                cache,
                mesh,
                &group.scope,
                &group.made.part,
                &changes.endpoints,
            );
        }
        // A service without a selector is served by whoever has its endpoints' addresses.
        let is_by_address = |key: &_| {
            mesh.find_service(key)
                .is_none_or(|service| service.selector.is_empty())
        };
        if !changes.addresses.is_empty() || changes.endpoints.iter().any(is_by_address) {
            self.members.clear();
        } else if !changes.endpoints.is_empty() {
            self.members.retain(|_, member| !member.has_self_discovery);
        }
    }

    fn snapshot_for(&mut self, cache: &ResourceCache, proxy: &Proxy) -> ResourceSnapshot {
        let mesh = Arc::clone(&self.mesh);
        let key = hash128(proxy);
        if !self.members.contains_key(&key) {
            let name = mesh.group_of(proxy);
            let group = self.groups.entry(name.hash128()).or_insert_with(|| {
                let scope = Arc::new(mesh.scope_of(&name));
                let made = assemble_group(cache, &mesh, &scope);
                Group { scope, made }
            });
            let mut own = assemble_own(cache, &mesh, &group.scope, proxy);
            assemble_local_cluster(cache, &mesh, proxy, &mut own);
            self.members.insert(
                key,
                Member {
                    group: name.hash128(),
                    own,
                    has_self_discovery: proxy.metadata.enable_self_discovery,
                },
            );
        }
        let own = &self.members[&key];
        let empty = ResourcePart::default();
        let shared = self
            .groups
            .get(&own.group)
            .map_or(&empty, |group| &group.made.part);
        ResourceSnapshot::new(shared, &own.own.part)
    }
}
