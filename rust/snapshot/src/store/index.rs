//! Rebuilding the parts of a snapshot from the objects as they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{
    Alias, Endpoint, Hostname, KubernetesService, Registry as RegistryKind, Resolution, Service,
    ServiceEndpoints, ServiceEntry, Shared, TrafficDistribution,
};

use crate::destination_rule::DestinationRuleIndex;
use crate::mesh::{AddressOwner, MeshSnapshot, PersistentMap, RuleIndex, ServiceIndex};
use crate::mutual_tls::PeerAuthenticationIndex;
use crate::policy::PolicyIndex;
use crate::registry::kubernetes::service_of_slice;
use crate::registry::service_entry::convert_service_entry;
use crate::registry::{LABEL_NETWORK, auto_allocate, sort_endpoints};
use crate::sidecar::SidecarIndex;
use crate::virtual_service::{MergeOptions, merge_virtual_services};
use crate::{ChangeSet, ServiceKey};

use super::cluster_address::services_of_clusters;
use super::dirty::Dirty;
use super::made_rule::gateway_label_keys;
use super::{MeshStore, Name, kubernetes_key};

/// Services made of platforms' objects, kept until the object changes.
#[derive(Debug, Default)]
pub(super) struct Converted {
    kubernetes: BTreeMap<Name, Shared<Service>>,
    entries: BTreeMap<Name, Vec<Shared<Service>>>,
    /// Which entries make a host, for its endpoints.
    entries_of_host: BTreeMap<ServiceKey, BTreeSet<Name>>,
}

impl MeshStore {
    pub(super) fn refresh_services(&mut self, dirty: &Dirty, next: &mut MeshSnapshot) {
        let names: Vec<Name> = if dirty.is_everything() {
            self.registry
                .clusters()
                .flat_map(|cluster| cluster.services.keys())
                .chain(self.converted.kubernetes.keys())
                .cloned()
                .collect()
        } else {
            dirty.kubernetes_services.iter().cloned().collect()
        };
        let root = &self.mesh_config.root_namespace;
        for name in names {
            // A Service of several clusters is this one's, of remote clusters that of the first by name.
            let mut clusters = self.registry.clusters();
            let service = clusters.find_map(|cluster| {
                let service = cluster.services.get(&name)?;
                cluster
                    .is_discovered(&name.0, root)
                    .then(|| cluster.convert_kubernetes_service(service))
            });
            match service {
                Some(mut service) => {
                    let own = &service.addresses;
                    service.addresses_of_clusters =
                        self.registry.addresses_of_clusters(&name, own, root);
                    self.converted.kubernetes.insert(name, Shared::new(service));
                }
                None => {
                    self.converted.kubernetes.remove(&name);
                }
            }
        }
        if dirty.has_entries() {
            self.refresh_entries();
        }
        next.services = Arc::new(self.index_services());
        next.remote_gateways = Arc::new(self.collect_remote_gateways());
    }

    fn collect_remote_gateways(&self) -> Vec<(Arc<str>, Shared<Service>)> {
        let is_gateway = |service: &KubernetesService| {
            let network = service.metadata.labels.get(LABEL_NETWORK);
            network.is_some_and(|network| !network.is_empty())
        };
        let remotes = self.registry.remotes.iter();
        let gateways = remotes.flat_map(|(cluster, registry)| {
            let services = registry.services.values().filter(|s| is_gateway(s));
            services.map(|service| {
                let service = registry.convert_kubernetes_service(service);
                (cluster.clone(), Shared::new(service))
            })
        });
        gateways.collect()
    }

    fn refresh_entries(&mut self) {
        let entries = &self.registry.service_entries;
        let allocated = auto_allocate::allocate(entries);
        let with_address = |entry: &ServiceEntry, mut service: Service| {
            let key = (service.namespace.clone(), service.hostname.to_string());
            if auto_allocate::is_wanted(entry, service.hostname.as_str())
                && let Some(pair) = allocated.get(&key)
            {
                service.auto_allocated_addresses = pair.to_vec();
            }
            Shared::new(service)
        };
        let converted = |(name, entry): (&Name, &Shared<ServiceEntry>)| {
            let allowed = self.registry.entry_visibility(&name.0);
            let of_namespace = self.registry.namespace_annotations(&name.0);
            let services = convert_service_entry(entry, allowed, of_namespace).into_iter();
            let services = services.map(|service| with_address(entry, service));
            (name.clone(), services.collect())
        };
        self.converted.entries = entries.iter().map(converted).collect();
        self.converted.entries_of_host.clear();
        for (name, services) in &self.converted.entries {
            for service in services {
                let key = ServiceKey::of(service);
                self.converted
                    .entries_of_host
                    .entry(key)
                    .or_default()
                    .insert(name.clone());
            }
        }
    }

    /// All services, those of one host and namespace merged, with the names that stand for them.
    fn index_services(&self) -> ServiceIndex {
        let mut by_key: BTreeMap<ServiceKey, Shared<Service>> = self
            .converted
            .kubernetes
            .values()
            .map(|service| (ServiceKey::of(service), service.clone()))
            .collect();
        let mut entries: Vec<&Shared<Service>> =
            self.converted.entries.values().flatten().collect();
        entries.sort_by(|a, b| a.age().cmp(&b.age()));
        for service in entries {
            by_key
                .entry(ServiceKey::of(service))
                .and_modify(|older| merge_service(older, service))
                .or_insert_with(|| service.clone());
        }
        add_aliases(&mut by_key);
        let mut services: Vec<Shared<Service>> = by_key.into_values().collect();
        services.sort_by(|a, b| a.age().cmp(&b.age()));
        let mut by_host: BTreeMap<Hostname, Vec<Shared<Service>>> = BTreeMap::new();
        for service in &services {
            by_host
                .entry(service.hostname.clone())
                .or_default()
                .push(service.clone());
        }
        let mut selecting: BTreeMap<Arc<str>, Vec<Shared<Service>>> = BTreeMap::new();
        let is_selecting =
            |s: &&Shared<Service>| s.registry == RegistryKind::Kubernetes && !s.selector.is_empty();
        for service in services.iter().filter(is_selecting) {
            let of_namespace = selecting.entry(service.namespace.clone());
            of_namespace.or_default().push(service.clone());
        }
        let has_node_preference = services.iter().any(|service| {
            service.is_node_local
                || service.traffic_distribution == TrafficDistribution::PreferSameNode
        });
        let is_gateway = |s: &&Shared<Service>| s.labels.contains_key(LABEL_NETWORK);
        ServiceIndex {
            with_network: services.iter().filter(is_gateway).cloned().collect(),
            of_clusters: services_of_clusters(&services),
            services,
            by_host,
            selecting,
            has_node_preference,
        }
    }

    pub(super) fn refresh_endpoints(
        &mut self,
        dirty: &Dirty,
        next: &mut MeshSnapshot,
        changes: &mut ChangeSet,
    ) {
        let keys = self.stale_endpoints(dirty);
        if keys.is_empty() {
            return;
        }
        for key in keys {
            let new = self.endpoints_of(&key);
            let old = next.endpoints.get(&key).cloned();
            if old
                .as_deref()
                .map_or(new.is_empty(), |old| old.endpoints == new)
            {
                continue;
            }
            for endpoint in old.iter().flat_map(|old| &old.endpoints) {
                remove_addresses(&mut next.services_by_address, endpoint, &key);
            }
            for address in new.iter().flat_map(|endpoint| &endpoint.addresses) {
                add_address(&mut next.services_by_address, address, &key);
            }
            let service = next.find_service(&key);
            if service.is_some_and(|service| is_shaping(service, old.as_deref(), &new)) {
                changes.is_configuration = true;
                changes.configuration.services.insert(key.clone());
            }
            if new.is_empty() {
                next.endpoints.remove_mut(&key);
            } else {
                let new = Shared::new(ServiceEndpoints { endpoints: new });
                next.endpoints.insert_mut(key.clone(), new);
            }
            changes.endpoints.insert(key);
        }
    }

    /// The services whose endpoints may be others than published.
    fn stale_endpoints(&self, dirty: &Dirty) -> BTreeSet<ServiceKey> {
        let registry = &self.registry;
        let mut keys: BTreeSet<ServiceKey> = if dirty.is_everything() {
            registry
                .clusters()
                .flat_map(|cluster| cluster.services.keys())
                .map(|name| kubernetes_key(registry, name))
                .collect()
        } else {
            dirty
                .kubernetes_services
                .iter()
                .map(|name| kubernetes_key(registry, name))
                .collect()
        };
        if dirty.has_entries() {
            keys.extend(self.current.endpoints.keys().cloned());
            keys.extend(self.converted.entries_of_host.keys().cloned());
            keys.extend(
                registry
                    .clusters()
                    .flat_map(|cluster| cluster.services.keys())
                    .map(|name| kubernetes_key(registry, name)),
            );
        }
        if !dirty.pods.is_empty() {
            let namespaces: BTreeSet<&Arc<str>> = dirty.pods.iter().map(|name| &name.0).collect();
            for cluster in registry.clusters() {
                let places = &cluster.places_of_slices;
                let of_pods = dirty.pods.iter().flat_map(|name| places.of_pod(name));
                let at = dirty.addresses.iter();
                let at = at.flat_map(|address| places.at_address(address));
                let slices = of_pods.chain(at).filter_map(|name| {
                    let slice = cluster.slices.get(name)?;
                    let service = service_of_slice(slice)?;
                    Some((name.0.clone(), Arc::from(service)))
                });
                keys.extend(slices.map(|name| kubernetes_key(registry, &name)));
            }
            for (name, entry) in &registry.service_entries {
                if entry.spec.workload_selector.is_some() && namespaces.contains(&name.0) {
                    let services = self.converted.entries.get(name).into_iter().flatten();
                    keys.extend(services.map(|service| ServiceKey::of(service)));
                }
            }
        }
        keys
    }

    fn endpoints_of(&self, key: &ServiceKey) -> Vec<Endpoint> {
        let registry = &self.registry;
        let root = &self.mesh_config.root_namespace;
        let suffix = format!(".{}.svc.{}", key.namespace, registry.options.domain_suffix);
        let mut endpoints = Vec::new();
        if let Some(name) = key.hostname.as_str().strip_suffix(suffix.as_str()) {
            let name: Name = (key.namespace.clone(), name.into());
            for cluster in registry.clusters() {
                if let Some(service) = cluster.services.get(&name) {
                    endpoints.extend(cluster.kubernetes_endpoints(service, root));
                }
            }
        }
        for name in self
            .converted
            .entries_of_host
            .get(key)
            .into_iter()
            .flatten()
        {
            if let Some(entry) = registry.service_entries.get(name) {
                endpoints.extend(registry.service_entry_endpoints(entry, &key.hostname, root));
            }
        }
        sort_endpoints(&mut endpoints);
        endpoints
    }

    pub(super) fn refresh_addresses(
        &self,
        dirty: &Dirty,
        next: &mut MeshSnapshot,
        changes: &mut ChangeSet,
    ) {
        let addresses = &mut next.addresses;
        let stale: BTreeSet<Arc<str>> = if dirty.is_everything() {
            addresses
                .keys()
                .chain(
                    self.registry
                        .clusters()
                        .flat_map(|cluster| cluster.pods_by_address.keys()),
                )
                .cloned()
                .collect()
        } else {
            dirty.addresses.clone()
        };
        for address in stale {
            let owner = self
                .registry
                .pod_anywhere(&address)
                .map(|indexed| AddressOwner {
                    workload: indexed.workload.clone(),
                    labels: Shared::new(indexed.pod.metadata.common.labels.clone()),
                    ports: Shared::new(named_ports(&indexed.pod)),
                });
            let old = addresses.get(&address);
            let is_same = match (old, &owner) {
                (None, None) => true,
                (Some(old), Some(new)) => {
                    old.workload == new.workload
                        && old.labels == new.labels
                        && old.ports == new.ports
                }
                _ => false,
            };
            if is_same {
                continue;
            }
            changes.addresses.insert(address.clone());
            match owner {
                Some(owner) => addresses.insert_mut(address, owner),
                None => {
                    addresses.remove_mut(&address);
                }
            }
        }
    }

    pub(super) fn refresh_rules(&mut self, next: &mut MeshSnapshot) {
        let all = self.collect_rules(next);
        let mesh = &self.mesh_config;
        let domain_suffix = &self.registry.options.domain_suffix;
        let options = MergeOptions {
            default_export_to: &mesh.default_virtual_service_export_to,
            domain_suffix,
        };
        let (virtual_services, diagnostics) =
            merge_virtual_services(&all.virtual_services, &options);
        self.rule_diagnostics.extend(diagnostics);
        let destination_rules = DestinationRuleIndex::new(
            &all.destination_rules,
            &mesh.default_destination_rule_export_to,
            domain_suffix,
        );
        let sidecars = SidecarIndex::new(self.rules.sidecars.values());
        let peer_authentications =
            PeerAuthenticationIndex::new(self.rules.peer_authentications.values());
        let policies = PolicyIndex::new(
            self.rules.authorization_policies.values(),
            self.rules.request_authentications.values(),
            self.rules
                .key_sets
                .iter()
                .map(|((_, name), keys)| (name, keys)),
        );
        let mut rules = RuleIndex {
            virtual_services,
            destination_rules,
            gateways: all.gateways,
            sidecars,
            peer_authentications,
            policy_label_keys: policies.label_keys().map(str::to_owned).collect(),
            policies,
            label_keys: BTreeSet::new(),
        };
        rules.label_keys = label_keys(&rules, mesh);
        let of_gateways = gateway_label_keys(&rules.gateways, next);
        rules.label_keys.extend(of_gateways);
        next.rules = Arc::new(rules);
        next.analysis.made = Arc::new(std::mem::take(&mut self.rule_diagnostics));
    }
}

/// Whether endpoints shape more than their own load assignment: listeners, clusters, identities, name tables.
fn is_shaping(service: &Service, old: Option<&ServiceEndpoints>, new: &[Endpoint]) -> bool {
    if service.resolution != Resolution::ClientSide {
        return true;
    }
    let identities = |endpoints: &[Endpoint]| -> BTreeSet<(Arc<str>, bool)> {
        endpoints
            .iter()
            .map(|e| {
                (
                    e.workload.service_account.clone(),
                    e.workload.has_mutual_tls,
                )
            })
            .collect()
    };
    let old = old.map_or(&[][..], |old| &old.endpoints);
    !old.is_empty() && !new.is_empty() && identities(old) != identities(new)
        || old.is_empty() != new.is_empty()
}

type ServicesByAddress = PersistentMap<Arc<str>, BTreeSet<ServiceKey>>;

fn add_address(by_address: &mut ServicesByAddress, address: &Arc<str>, key: &ServiceKey) {
    match by_address.get_mut(address) {
        Some(services) => drop(services.insert(key.clone())),
        None => by_address.insert_mut(address.clone(), BTreeSet::from([key.clone()])),
    }
}

fn remove_addresses(by_address: &mut ServicesByAddress, endpoint: &Endpoint, key: &ServiceKey) {
    for address in &endpoint.addresses {
        if let Some(services) = by_address.get_mut(address) {
            services.remove(key);
            if services.is_empty() {
                by_address.remove_mut(address);
            }
        }
    }
}

/// A younger service of the same host and namespace adds addresses, and ports if it is of the same kind; a
/// Kubernetes Service stays as it is (istio `canMergeServices`).
fn merge_service(older: &mut Shared<Service>, younger: &Shared<Service>) {
    if older.registry == RegistryKind::Kubernetes {
        return;
    }
    let mut merged = (**older).clone();
    let is_alike = older.resolution == younger.resolution
        && older.labels == younger.labels
        && older.selector == younger.selector
        && older.export_to == younger.export_to;
    for port in younger.ports.iter().filter(|_| is_alike) {
        if merged.find_port(port.number).is_none() {
            merged.ports.push(port.clone());
        }
    }
    for address in &younger.addresses {
        if !merged.addresses.contains(address) {
            merged.addresses.push(address.clone());
        }
    }
    *older = Shared::new(merged);
}

/// Tell each service the ExternalName services that lead to it, also over several steps.
fn add_aliases(by_key: &mut BTreeMap<ServiceKey, Shared<Service>>) {
    /// Aliases of aliases are followed so far (a cycle ends here, too).
    const MAX_STEPS: usize = 10;
    let targets: BTreeMap<Hostname, Hostname> = by_key
        .values()
        .filter_map(|service| Some((service.hostname.clone(), service.external_name.clone()?)))
        .collect();
    if targets.is_empty() {
        return;
    }
    let mut aliases: BTreeMap<Hostname, BTreeSet<Alias>> = BTreeMap::new();
    for service in by_key
        .values()
        .filter(|service| service.external_name.is_some())
    {
        let mut host = &service.hostname;
        let mut n_steps = 0;
        while let Some(target) = targets.get(host).filter(|_| n_steps < MAX_STEPS) {
            host = target;
            n_steps += 1;
        }
        if n_steps < MAX_STEPS {
            let alias = Alias {
                hostname: service.hostname.clone(),
                namespace: service.namespace.clone(),
            };
            aliases.entry(host.clone()).or_default().insert(alias);
        }
    }
    for service in by_key.values_mut() {
        if let Some(names) = aliases.get(&service.hostname)
            && service.resolution != Resolution::Alias
        {
            let mut with_aliases = (**service).clone();
            with_aliases.aliases = names.iter().cloned().collect();
            *service = Shared::new(with_aliases);
        }
    }
}

fn named_ports(pod: &navarch_model::KubernetesPod) -> BTreeMap<String, u32> {
    let ports = pod
        .spec
        .containers
        .iter()
        .flat_map(|container| &container.ports);
    let mut named = BTreeMap::new();
    for port in ports.filter(|port| !port.name.is_empty()) {
        named
            .entry(port.name.clone())
            .or_insert(port.container_port);
    }
    named
}

/// Label keys of proxies that any rule looks at: proxies that agree on them may share resources.
fn label_keys(rules: &RuleIndex, mesh: &navarch_model::MeshConfig) -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = rules
        .destination_rules
        .selector_keys()
        .chain(rules.sidecars.selector_keys())
        .cloned()
        .collect();
    for gateway in &rules.gateways {
        keys.extend(gateway.spec.selector.keys().cloned());
    }
    for rule in &rules.virtual_services {
        let http = rule
            .spec
            .http
            .iter()
            .flat_map(|route| &route.matches)
            .map(|m| &m.source_labels);
        let tls = rule
            .spec
            .tls
            .iter()
            .flat_map(|route| &route.matches)
            .map(|m| &m.source_labels);
        let tcp = rule
            .spec
            .tcp
            .iter()
            .flat_map(|route| &route.matches)
            .map(|m| &m.source_labels);
        keys.extend(
            http.chain(tls)
                .chain(tcp)
                .flat_map(|labels| labels.keys().cloned()),
        );
    }
    let of_mesh = mesh
        .locality_lb_setting
        .iter()
        .flat_map(|setting| &setting.failover_priority);
    let of_rules = rules
        .destination_rules
        .rules()
        .flat_map(|rule| failover_labels(rule));
    for label in of_mesh.chain(of_rules) {
        keys.insert(label.split('=').next().unwrap_or(label).to_owned());
    }
    keys
}

/// Every failoverPriority label of a rule, wherever in it.
fn failover_labels(rule: &navarch_model::DestinationRule) -> Vec<&String> {
    let policies = rule.spec.traffic_policy.iter().chain(
        rule.spec
            .subsets
            .iter()
            .filter_map(|subset| subset.traffic_policy.as_ref()),
    );
    policies
        .flat_map(|policy| {
            policy.load_balancer.iter().chain(
                policy
                    .port_level_settings
                    .iter()
                    .filter_map(|port| port.load_balancer.as_ref()),
            )
        })
        .flat_map(|load_balancer| {
            let locality = load_balancer
                .locality_lb_setting
                .iter()
                .flat_map(|s| &s.failover_priority);
            let zone = load_balancer
                .zone_aware_lb_setting
                .iter()
                .flat_map(|s| &s.failover_priority);
            locality.chain(zone)
        })
        .collect()
}
