use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_encode::{EncodedResource, ListDiff, ResourceCache, ResourceList};
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use proptest::prelude::*;
use prost::Message;

type World = BTreeMap<String, u8>;

fn worlds() -> impl Strategy<Value = World> {
    prop::collection::btree_map("[a-f]{1,2}", 0..3_u8, 0..12)
}

/// Worlds of several chunks.
fn large_worlds() -> impl Strategy<Value = World> {
    prop::collection::btree_map("[a-d]{1,4}", 0..3_u8, 0..300)
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
            before.items().map(|r| (r.name.clone(), r.version)).collect();
        for name in &diff.removed {
            prop_assert!(state.remove(name).is_some(), "removed what was not there");
        }
        for resource in &diff.changed {
            let previous = state.insert(resource.name.clone(), resource.version);
            prop_assert_ne!(previous, Some(resource.version), "sent what did not change");
        }
        let expected: BTreeMap<_, _> =
            after.items().map(|r| (r.name.clone(), r.version)).collect();
        prop_assert_eq!(state, expected);
        prop_assert_eq!(diff.is_empty(), old == new);
        prop_assert_eq!(before.version() == after.version(), old == new);
    }

    /// Lists that are led from world to world piece by piece are those that are made of the worlds at once.
    #[test]
    fn changed_lists_are_as_made_anew(worlds in prop::collection::vec(large_worlds(), 1..6)) {
        let cache = ResourceCache::new();
        let mut led = ResourceList::empty();
        let mut before = World::new();
        for world in worlds {
            let whole = list(&world, &cache);
            let is_new = |r: &&Arc<EncodedResource>| before.get(&*r.name) != world.get(&*r.name);
            let made = whole.items().filter(is_new).map(|r| (r.name.clone(), r.clone())).collect();
            let gone = before.keys().filter(|name| !world.contains_key(*name));
            let gone = gone.map(|name| name.as_str().into()).collect();
            let next = led.changed(made, &gone);
            prop_assert_eq!(next.is_none(), before == world);
            if let Some(next) = next {
                let seeded = next.diff_from(&led);
                let walked = whole.diff_from(&led);
                prop_assert_eq!(&seeded.removed, &walked.removed);
                let names = |diff: &ListDiff| diff.changed.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
                prop_assert_eq!(names(&seeded), names(&walked));
                led = next;
            }
            prop_assert_eq!((led.version(), led.len()), (whole.version(), world.len()));
            let names: Vec<_> = led.items().map(|r| r.name.to_string()).collect();
            prop_assert_eq!(names, world.keys().cloned().collect::<Vec<_>>());
            prop_assert!(world.keys().all(|name| led.find(name).is_some()));
            before = world;
        }
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
