//! What of configuration differs between two snapshots, found by comparing hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_model::{Service, Shared, VirtualService};

use crate::mesh::{MeshSnapshot, ServiceIndex};
use crate::mutual_tls::services_secured_otherwise;
use crate::registry::LABEL_NETWORK;
use crate::{ConfigurationChanges, ServiceKey};

use super::dirty::Dirty;

/// What differs between the published snapshot and the next.
pub(super) fn of(dirty: &Dirty, old: &MeshSnapshot, next: &MeshSnapshot) -> ConfigurationChanges {
    let mut changes = ConfigurationChanges {
        is_whole: dirty.has_mesh_wide_kind(),
        ..ConfigurationChanges::default()
    };
    if !Arc::ptr_eq(&old.services, &next.services) {
        changes.services = changed_services(&old.services, &next.services);
        let versions = changes.services.iter();
        let mut versions = versions.flat_map(|key| [old.find_service(key), next.find_service(key)]);
        // Gateways between networks shape the endpoints of all services.
        changes.is_whole |= old.services.has_node_preference != next.services.has_node_preference
            || old.remote_gateways != next.remote_gateways
            || versions.any(|service| service.is_some_and(|s| is_network_gateway(s, next)));
        // A provider's service shapes the listeners of workloads that need not see it.
        if !changes.services.is_empty() {
            let namespaces = next.rules.policies.namespaces_with_providers();
            changes.policy_namespaces.extend(namespaces);
        }
    }
    if !Arc::ptr_eq(&old.rules, &next.rules) {
        let (before, after) = (&old.rules, &next.rules);
        changes.has_label_keys = before.label_keys != after.label_keys
            || before.policy_label_keys != after.policy_label_keys;
        changes.mutual_tls_namespaces = after
            .peer_authentications
            .namespaces_changed_since(&before.peer_authentications);
        let secured = services_secured_otherwise(&changes.mutual_tls_namespaces, old, next);
        changes.services.extend(secured);
        let policed = after.policies.namespaces_changed_since(&before.policies);
        changes.policy_namespaces.extend(policed);
        changes.has_gateways = before.gateways != after.gateways;
        changes.virtual_services =
            changed_virtual_services(&before.virtual_services, &after.virtual_services);
        changes.rule_hosts = after
            .destination_rules
            .hosts_changed_since(&before.destination_rules);
        changes.sidecar_namespaces = after.sidecars.namespaces_changed_since(&before.sidecars);
    }
    changes
}

fn changed_services(old: &ServiceIndex, next: &ServiceIndex) -> BTreeSet<ServiceKey> {
    let by_key = |services: &[Shared<Service>]| -> BTreeMap<ServiceKey, u128> {
        let pairs = services.iter();
        pairs
            .map(|service| (ServiceKey::of(service), service.hash128()))
            .collect()
    };
    let (old, next) = differing(&old.services, &next.services);
    let (old, next) = (by_key(old), by_key(next));
    let keys = old.keys().chain(next.keys());
    keys.filter(|key| old.get(key) != next.get(key))
        .cloned()
        .collect()
}

/// The values of both that are not in the other.
fn changed_virtual_services(
    old: &[Shared<VirtualService>],
    next: &[Shared<VirtualService>],
) -> Vec<Shared<VirtualService>> {
    let (old, next) = differing(old, next);
    let hashes = |rules: &[Shared<VirtualService>]| -> BTreeSet<u128> {
        rules.iter().map(Shared::hash128).collect()
    };
    let (before, after) = (hashes(old), hashes(next));
    let gone = old.iter().filter(|rule| !after.contains(&rule.hash128()));
    let new = next.iter().filter(|rule| !before.contains(&rule.hash128()));
    gone.chain(new).cloned().collect()
}

/// Two lists without what they have in common at both ends.
pub(crate) fn differing<'a, T>(
    old: &'a [Shared<T>],
    new: &'a [Shared<T>],
) -> (&'a [Shared<T>], &'a [Shared<T>]) {
    let pairs = old.iter().zip(new);
    let n_first = pairs.take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[n_first..], &new[n_first..]);
    let pairs = old.iter().rev().zip(new.iter().rev());
    let n_last = pairs.take_while(|(a, b)| a == b).count();
    (&old[..old.len() - n_last], &new[..new.len() - n_last])
}

fn is_network_gateway(service: &Service, mesh: &MeshSnapshot) -> bool {
    let mut gateways = mesh.networks.networks.values().flat_map(|n| &n.gateways);
    service.labels.contains_key(LABEL_NETWORK)
        || gateways.any(|gateway| {
            gateway.registry_service_name.as_deref() == Some(service.hostname.as_str())
        })
}

#[cfg(test)]
mod tests {
    use navarch_model::Shared;

    use super::differing;

    #[test]
    fn what_both_ends_have_in_common_is_left_out() {
        let list =
            |items: &[u8]| -> Vec<Shared<u8>> { items.iter().copied().map(Shared::new).collect() };
        for (old, new, want) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], (&[][..], &[][..])),
            (&[1, 3], &[1, 2, 3], (&[], &[2])),
            (&[1, 1], &[1], (&[1], &[])),
            (&[1, 2, 3], &[1, 4, 3], (&[2], &[4])),
        ] {
            let (old, new) = (list(old), list(new));
            let (gone, came) = differing(&old, &new);
            let values = |items: &[Shared<u8>]| items.iter().map(|v| **v).collect::<Vec<_>>();
            assert_eq!(
                (values(gone), values(came)),
                (want.0.to_vec(), want.1.to_vec())
            );
        }
    }
}
