//! What was built of the newest epoch, and what of it is stale.
//!
//! Reverse indexes lead from a change to the groups and proxies that it may touch: groups by what their scopes see,
//! proxies by their namespace and addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_encode::{
    Assembled, GroupResources, ResourceCache, ResourcePart, ResourceSnapshot,
    assemble_local_cluster, assemble_own,
};
use navarch_model::{Diagnostic, Hostname, Proxy, Shared, is_selected};
use navarch_snapshot::{ChangeSet, ConfigurationChanges, MeshSnapshot, ServiceKey};

use crate::push::Touched;

/// By the hash of all that the node told.
type ProxyKey = u128;
type GroupKey = u128;

/// What the proxies of one group share, and what it has not taken in yet.
struct Group {
    resources: GroupResources,
    members: BTreeSet<ProxyKey>,
    pending: ChangeSet,
}

/// What is one proxy's own, and which group it is in.
struct Member {
    proxy: Shared<Proxy>,
    group: GroupKey,
    own: Assembled,
    is_stale: bool,
}

/// What was built of one epoch.
pub(crate) struct Built {
    mesh: Arc<MeshSnapshot>,
    groups: BTreeMap<GroupKey, Group>,
    members: BTreeMap<ProxyKey, Member>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<ProxyKey>>,
    by_address: BTreeMap<Arc<str>, BTreeSet<ProxyKey>>,
    /// Those that are told of their own kind's endpoints, which are their own part.
    self_discovering: BTreeSet<ProxyKey>,
    n_updates: u64,
    n_own: u64,
    /// A change was being taken in when a panic ended that: nothing that is built can be trusted.
    is_torn: bool,
}

impl Built {
    pub(crate) fn new(mesh: Arc<MeshSnapshot>) -> Self {
        Self {
            mesh,
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            by_address: BTreeMap::new(),
            self_discovering: BTreeSet::new(),
            n_updates: 0,
            n_own: 0,
            is_torn: false,
        }
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn work(&self) -> (u64, u64) {
        (self.n_updates, self.n_own)
    }

    pub(crate) fn visit_diagnostics(&self, mut visit: impl FnMut(&Diagnostic)) {
        for group in self.groups.values() {
            group.resources.diagnostics().iter().for_each(&mut visit);
        }
        for member in self.members.values() {
            member.own.diagnostics.iter().for_each(&mut visit);
        }
    }

    /// Take over a mesh, and mark what its changes may touch.
    pub(crate) fn take(&mut self, mesh: Arc<MeshSnapshot>, changes: &ChangeSet) -> Touched {
        let is_torn = std::mem::replace(&mut self.is_torn, true);
        let touched = if changes.configuration.is_whole || is_torn {
            self.clear();
            Touched::All
        } else {
            let stale = self.stale_members(&mesh, changes);
            let touched = self.mark(&mesh, changes, &stale);
            Touched::Proxies(touched)
        };
        self.mesh = mesh;
        self.is_torn = false;
        touched
    }

    fn clear(&mut self) {
        *self = Self {
            n_updates: self.n_updates,
            n_own: self.n_own,
            ..Self::new(Arc::clone(&self.mesh))
        };
    }

    /// Mark groups that see the change, and proxies of which it is; all proxies touched, group by group.
    fn mark(
        &mut self,
        mesh: &MeshSnapshot,
        changes: &ChangeSet,
        stale: &BTreeSet<ProxyKey>,
    ) -> Vec<ProxyKey> {
        let mut touched = Vec::new();
        let configuration = &changes.configuration;
        // A router with megabytes does not hold up the many that have less.
        let mut groups: Vec<&mut Group> = self.groups.values_mut().collect();
        groups.sort_by_key(|group| group.resources.part().len());
        for group in groups {
            let scope = group.resources.scope();
            let mut endpoints = changes.endpoints.iter();
            let is_touched = endpoints.any(|key| scope.has_service(key))
                || (!configuration.is_empty() && scope.is_touched(mesh, configuration));
            // What a group has not taken in yet may show it more of the mesh by then.
            if is_touched || !group.pending.is_empty() {
                group.pending.merge(changes.clone());
                touched.extend(&group.members);
            } else {
                touched.extend(group.members.intersection(stale));
            }
        }
        self.mark_members(stale, |_| true);
        touched
    }

    /// Proxies whose own part or whose group may be another.
    fn stale_members(&self, mesh: &MeshSnapshot, changes: &ChangeSet) -> BTreeSet<ProxyKey> {
        let mut stale = BTreeSet::new();
        if !changes.is_empty() {
            stale.extend(&self.self_discovering);
        }
        for address in &changes.addresses {
            stale.extend(self.by_address.get(address).into_iter().flatten());
        }
        // A proxy serves what has an endpoint at its address, and knows the headless services there.
        for key in &changes.endpoints {
            self.add_at_endpoints(mesh, key, &mut stale);
        }
        let configuration = &changes.configuration;
        let of_rules = Self::services_of_rules(mesh, configuration);
        for key in configuration.services.iter().chain(&of_rules) {
            self.add_serving(mesh, key, &mut stale);
        }
        let namespaces = configuration.sidecar_namespaces.iter();
        for namespace in namespaces.chain(&configuration.policy_namespaces) {
            if **namespace == *mesh.mesh_config.root_namespace {
                stale.extend(self.members.keys());
            }
            stale.extend(self.by_namespace.get(namespace).into_iter().flatten());
        }
        if configuration.has_label_keys {
            stale.extend(self.members.keys());
        }
        self.add_secured_otherwise(mesh, configuration, &mut stale);
        stale
    }

    /// Proxies whose workloads take mutual TLS otherwise than before.
    fn add_secured_otherwise(
        &self,
        mesh: &MeshSnapshot,
        changes: &ConfigurationChanges,
        found: &mut BTreeSet<ProxyKey>,
    ) {
        let namespaces = &changes.mutual_tls_namespaces;
        if namespaces.is_empty() {
            return;
        }
        let is_everywhere = namespaces.contains(mesh.mesh_config.root_namespace.as_str());
        let modes = |mesh: &MeshSnapshot, proxy: &Proxy| {
            mesh.mutual_tls(&proxy.namespace, &mesh.proxy_labels(proxy))
        };
        let others = self.members.iter().filter(|(_, member)| {
            let proxy = &member.proxy;
            (is_everywhere || namespaces.contains(&proxy.namespace))
                && modes(&self.mesh, proxy) != modes(mesh, proxy)
        });
        found.extend(others.map(|(key, _)| key));
    }

    /// The services of which DestinationRules changed.
    fn services_of_rules(
        mesh: &MeshSnapshot,
        changes: &ConfigurationChanges,
    ) -> BTreeSet<ServiceKey> {
        let (wildcards, exact): (Vec<&Hostname>, Vec<_>) = changes
            .rule_hosts
            .iter()
            .partition(|host| host.is_wildcard());
        let of_exact = exact
            .iter()
            .flat_map(|host| mesh.services_of_host(host.as_str()));
        let mut found: BTreeSet<ServiceKey> = of_exact.map(|s| ServiceKey::of(s)).collect();
        if !wildcards.is_empty() {
            let services = mesh.services().iter();
            let meant = services.filter(|service| {
                let mut wildcards = wildcards.iter();
                wildcards.any(|host| service.hostname.is_subset_of(host))
            });
            found.extend(meant.map(|service| ServiceKey::of(service)));
        }
        found
    }

    /// Proxies whose workload serves a service, as it was or as it is.
    fn add_serving(&self, mesh: &MeshSnapshot, key: &ServiceKey, found: &mut BTreeSet<ProxyKey>) {
        self.add_at_endpoints(mesh, key, found);
        let versions = [&*self.mesh, mesh];
        for service in versions.iter().filter_map(|mesh| mesh.find_service(key)) {
            let of_namespace = self.by_namespace.get(&service.namespace);
            found.extend(of_namespace.into_iter().flatten().filter(|key| {
                self.members.get(key).is_some_and(|member| {
                    let labels = mesh.proxy_labels(&member.proxy);
                    is_selected(&service.selector, &labels)
                })
            }));
        }
    }

    /// Proxies at the addresses of a service's endpoints, as they were and as they are.
    fn add_at_endpoints(
        &self,
        mesh: &MeshSnapshot,
        key: &ServiceKey,
        found: &mut BTreeSet<ProxyKey>,
    ) {
        for endpoints in [self.mesh.endpoints_of(key), mesh.endpoints_of(key)] {
            for address in endpoints.endpoints.iter().flat_map(|e| &e.addresses) {
                found.extend(self.by_address.get(address).into_iter().flatten());
            }
        }
    }

    pub(crate) fn forget(&mut self, proxies: &[Shared<Proxy>]) {
        for proxy in proxies {
            let key = proxy.hash128();
            if let Some(member) = self.members.remove(&key) {
                self.remove_from_group(member.group, key);
                self.remove_from_indexes(proxy, key);
            }
        }
    }

    fn remove_from_group(&mut self, group: GroupKey, key: ProxyKey) {
        if let Some(known) = self.groups.get_mut(&group) {
            known.members.remove(&key);
            if known.members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    fn remove_from_indexes(&mut self, proxy: &Proxy, key: ProxyKey) {
        remove(&mut self.by_namespace, &proxy.namespace, key);
        for address in &proxy.ip_addresses {
            remove(&mut self.by_address, address, key);
        }
        self.self_discovering.remove(&key);
    }

    fn add_to_indexes(&mut self, proxy: &Proxy, key: ProxyKey) {
        let of_namespace = self.by_namespace.entry(proxy.namespace.clone());
        of_namespace.or_default().insert(key);
        for address in &proxy.ip_addresses {
            let at_address = self.by_address.entry(address.clone());
            at_address.or_default().insert(key);
        }
        if proxy.metadata.enable_self_discovery {
            self.self_discovering.insert(key);
        }
    }

    /// A proxy's resources; what is stale of them is made anew.
    pub(crate) fn snapshot_for(
        &mut self,
        cache: &ResourceCache,
        proxy: &Shared<Proxy>,
    ) -> ResourceSnapshot {
        if self.is_torn {
            self.clear();
        }
        let key = proxy.hash128();
        if let Some(group) = self.members.get(&key).map(|member| member.group) {
            self.update_group(cache, group);
        }
        if self.members.get(&key).is_none_or(|member| member.is_stale) {
            self.make_own(cache, proxy, key);
        }
        let empty = ResourcePart::default();
        let member = self.members.get(&key);
        let own = member.map_or(&empty, |member| &member.own.part);
        let group = member.and_then(|member| self.groups.get(&member.group));
        let shared = group.map_or(&empty, |group| group.resources.part());
        ResourceSnapshot::new(shared, own)
    }

    /// Bring a group up to date, and mark its proxies of whose own services it sees other rules.
    fn update_group(&mut self, cache: &ResourceCache, key: GroupKey) {
        let Some(group) = self.groups.get_mut(&key) else {
            return;
        };
        if group.pending.is_empty() {
            return;
        }
        let mut torn = ChangeSet::default();
        torn.configuration.is_whole = true;
        torn.is_configuration = true;
        // A panic on the way leaves that behind, so that the next attempt begins from nothing.
        let changes = std::mem::replace(&mut group.pending, torn);
        let difference = group.resources.update(cache, &self.mesh, &changes);
        group.pending = ChangeSet::default();
        self.n_updates += 1;
        let mut stale = BTreeSet::new();
        if difference.is_whole {
            stale.extend(&group.members);
        } else {
            let mesh = Arc::clone(&self.mesh);
            let hosts = difference.rules.iter();
            for service in hosts.flat_map(|host| mesh.services_of_host(host.as_str())) {
                self.add_serving(&mesh, &ServiceKey::of(service), &mut stale);
            }
        }
        self.mark_members(&stale, |member| member.group == key);
    }

    fn mark_members(&mut self, stale: &BTreeSet<ProxyKey>, is_meant: impl Fn(&Member) -> bool) {
        for key in stale {
            if let Some(member) = self.members.get_mut(key).filter(|member| is_meant(member)) {
                member.is_stale = true;
            }
        }
    }

    fn make_own(&mut self, cache: &ResourceCache, proxy: &Shared<Proxy>, key: ProxyKey) {
        let mesh = Arc::clone(&self.mesh);
        let name = mesh.group_of(proxy);
        let group_key = name.hash128();
        let former = self.members.get(&key).map(|member| member.group);
        self.update_group(cache, group_key);
        let n_updates = &mut self.n_updates;
        let group = self.groups.entry(group_key).or_insert_with(|| {
            *n_updates += 1;
            let scope = Arc::new(mesh.scope_of(&name));
            Group {
                resources: GroupResources::new(cache, &mesh, scope),
                members: BTreeSet::new(),
                pending: ChangeSet::default(),
            }
        });
        let scope = Arc::clone(group.resources.scope());
        let mut own = assemble_own(cache, &mesh, &scope, proxy);
        assemble_local_cluster(cache, &mesh, proxy, &mut own);
        self.n_own += 1;
        let member = Member {
            proxy: proxy.clone(),
            group: group_key,
            own,
            is_stale: false,
        };
        self.members.insert(key, member);
        self.add_to_indexes(proxy, key);
        if let Some(group) = self.groups.get_mut(&group_key) {
            group.members.insert(key);
        }
        if let Some(former) = former.filter(|former| *former != group_key) {
            self.remove_from_group(former, key);
        }
    }
}

fn remove(index: &mut BTreeMap<Arc<str>, BTreeSet<ProxyKey>>, at: &Arc<str>, key: ProxyKey) {
    if let Some(known) = index.get_mut(at) {
        known.remove(&key);
        if known.is_empty() {
            index.remove(at);
        }
    }
}
