//! What a change set means for one scope: whether it is touched at all, and what differs in it then.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{Hostname, ProxyKind, Service, Shared, VirtualService, Visibility};

use crate::scope::{EgressScope, is_rule_visible, is_service_visible, parse_tokens};
use crate::store::differing;
use crate::{ConfigurationChanges, MeshSnapshot, ProxyScope, ServiceKey};

/// What differs between two scopes of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeDifference {
    /// Something that all of it may depend on.
    pub is_whole: bool,
    /// Hosts whose visible service came, went or is another.
    pub services: BTreeSet<Hostname>,
    /// Visible hosts whose DestinationRule came, went or is another.
    pub rules: BTreeSet<Hostname>,
    /// VirtualServices as they were and as they are, of those that differ.
    pub virtual_services: Vec<Shared<VirtualService>>,
}

/// Whether workloads of a namespace may have other policies than before.
fn is_policed(namespace: &str, root: &str, changes: &ConfigurationChanges) -> bool {
    let namespaces = &changes.policy_namespaces;
    namespaces.contains(namespace) || namespaces.contains(root)
}

impl ProxyScope {
    /// Whether something of a mesh's changes may be seen from here; it errs on the side of yes.
    pub fn is_touched(&self, mesh: &MeshSnapshot, changes: &ConfigurationChanges) -> bool {
        let group = &self.group;
        let is_router = group.kind == ProxyKind::Router;
        let root = &mesh.mesh_config.root_namespace;
        changes.is_whole
            || (is_router && changes.has_gateways)
            || (is_router && is_policed(&group.namespace, root, changes))
            || changes.sidecar_namespaces.contains(&group.namespace)
            || changes.sidecar_namespaces.contains(root.as_str())
            || self.is_touched_by_services(mesh, changes)
            || self.is_touched_by_rules(mesh, changes)
    }

    fn is_touched_by_services(&self, mesh: &MeshSnapshot, changes: &ConfigurationChanges) -> bool {
        if changes.services.is_empty() {
            return false;
        }
        let default = parse_tokens(&mesh.mesh_config.default_service_export_to);
        changes.services.iter().any(|key| {
            self.find_service(key.hostname.as_str()).is_some()
                || mesh
                    .find_service(key)
                    .is_some_and(|service| self.would_see(service, &default))
        })
    }

    fn would_see(&self, service: &Service, default: &[Visibility]) -> bool {
        let is_imported = self.imports.as_ref().is_none_or(|imports| {
            let mut hosts = imports.hosts.iter();
            imports.destinations.contains(service.hostname.as_str())
                || hosts.any(|hosts| hosts.has_service(&service.hostname, &service.namespace))
        });
        is_imported && is_service_visible(service, default, &self.group.namespace)
    }

    fn is_touched_by_rules(&self, mesh: &MeshSnapshot, changes: &ConfigurationChanges) -> bool {
        let has_host = |host: &Hostname| {
            if host.is_wildcard() {
                let mut services = self.services.iter();
                services.any(|service| service.hostname.is_subset_of(host))
            } else {
                self.find_service(host.as_str()).is_some()
            }
        };
        if changes.rule_hosts.iter().any(has_host) {
            return true;
        }
        if changes.virtual_services.is_empty() {
            return false;
        }
        let default = parse_tokens(&mesh.mesh_config.default_virtual_service_export_to);
        changes.virtual_services.iter().any(|rule| {
            let is_imported = self.imports.as_ref().is_none_or(|imports| {
                let mut hosts = imports.hosts.iter();
                hosts.any(|hosts| hosts.has_virtual_service(rule))
            });
            is_imported && is_rule_visible(rule, &default, &self.group.namespace)
        })
    }

    /// Whether that very service is visible from here.
    pub fn has_service(&self, key: &ServiceKey) -> bool {
        self.find_service(key.hostname.as_str())
            .is_some_and(|service| service.namespace == key.namespace)
    }

    /// What differs in a newer scope of the same group.
    pub fn difference(&self, newer: &Self) -> ScopeDifference {
        let is_whole = self.mesh_config != newer.mesh_config
            || self.sidecar != newer.sidecar
            || self.outbound_traffic_policy != newer.outbound_traffic_policy
            || self.group != newer.group
            || self.group.kind == ProxyKind::Router
            || self.egress.len() != newer.egress.len();
        if is_whole {
            return ScopeDifference {
                is_whole,
                ..ScopeDifference::default()
            };
        }
        let mut difference = ScopeDifference::default();
        difference.add_services(&self.services, &newer.services);
        for (old, new) in self.egress.iter().zip(&newer.egress) {
            difference.add_egress(old, new);
        }
        let (old, new) = (&self.destination_rules, &newer.destination_rules);
        let hosts = old.keys().chain(new.keys());
        let is_other = |host: &&Hostname| old.get(*host) != new.get(*host);
        difference.rules = hosts.filter(is_other).cloned().collect();
        difference
    }
}

impl ScopeDifference {
    /// Whether the scopes are equal.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add_egress(&mut self, old: &EgressScope, new: &EgressScope) {
        self.add_services(&old.services, &new.services);
        self.add_services(&old.destinations, &new.destinations);
        let (old, new) = differing(&old.virtual_services, &new.virtual_services);
        let hashes = |rules: &[Shared<VirtualService>]| -> BTreeSet<u128> {
            rules.iter().map(Shared::hash128).collect()
        };
        let (before, after) = (hashes(old), hashes(new));
        let gone = old.iter().filter(|rule| !after.contains(&rule.hash128()));
        let came = new.iter().filter(|rule| !before.contains(&rule.hash128()));
        self.virtual_services.extend(gone.chain(came).cloned());
    }

    fn add_services(&mut self, old: &[Shared<Service>], new: &[Shared<Service>]) {
        let (old, new) = differing(old, new);
        let by_key = |services: &[Shared<Service>]| -> BTreeMap<ServiceKey, u128> {
            let pairs = services.iter();
            pairs
                .map(|service| (ServiceKey::of(service), service.hash128()))
                .collect()
        };
        let (old, new) = (by_key(old), by_key(new));
        let keys = old.keys().chain(new.keys());
        let changed = keys.filter(|key| old.get(key) != new.get(key));
        self.services
            .extend(changed.map(|key| key.hostname.clone()));
    }
}
