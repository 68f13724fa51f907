use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_encode::{ResourceCache, ResourceList};
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use proptest::prelude::*;
use prost::Message;

type World = BTreeMap<String, u8>;

fn worlds() -> impl Strategy<Value = World> {
    prop::collection::btree_map("[a-f]{1,2}", 0..3_u8, 0..12)
}

fn list(world: &World, cache: &ResourceCache) -> Arc<ResourceList> {
    let cluster = |(name, stat): (&String, &u8)| {
        cache.encode(&Cluster {
            name: name.clone(),
            alt_stat_name: stat.to_string(),
            ..Cluster::default()
        })
    };
    ResourceList::new(world.iter().rev().map(cluster).collect())
}

proptest! {
    /// An old list with a difference applied is the new list, interned or not.
    #[test]
    fn a_difference_leads_from_old_to_new(old in worlds(), new in worlds(), is_interned: bool) {
        let cache = ResourceCache::new();
        let other = if is_interned { &cache } else { &ResourceCache::new() };
        let (before, after) = (list(&old, &cache), list(&new, other));
        let diff = after.diff_from(&before);

        let mut state: BTreeMap<_, _> =
            before.items().iter().map(|r| (r.name.clone(), r.version)).collect();
        for name in &diff.removed {
            prop_assert!(state.remove(name).is_some(), "removed what was not there");
        }
        for resource in &diff.changed {
            let previous = state.insert(resource.name.clone(), resource.version);
            prop_assert_ne!(previous, Some(resource.version), "sent what did not change");
        }
        let expected: BTreeMap<_, _> =
            after.items().iter().map(|r| (r.name.clone(), r.version)).collect();
        prop_assert_eq!(state, expected);
        prop_assert_eq!(diff.is_empty(), old == new);
        prop_assert_eq!(before.version() == after.version(), old == new);
    }

    /// The bodies of a list and of a difference from nothing hold the same resources.
    #[test]
    fn bodies_hold_the_resources(world in worlds()) {
        let after = list(&world, &ResourceCache::new());
        let diff = after.diff_from(&ResourceList::empty());
        let sotw = DiscoveryResponse::decode(after.sotw_body()).unwrap();
        let delta = DeltaDiscoveryResponse::decode(diff.delta_body()).unwrap();
        prop_assert_eq!(sotw.resources.len(), world.len());
        prop_assert_eq!(DiscoveryResponse::decode(diff.sotw_body()).unwrap(), sotw.clone());
        let inner: Vec<_> = delta.resources.iter().filter_map(|r| r.resource.clone()).collect();
        prop_assert_eq!(inner, sotw.resources);
        for resource in delta.resources {
            let version = after.find(&resource.name).unwrap().version;
            prop_assert_eq!(resource.version, version.to_string());
        }
    }
}
