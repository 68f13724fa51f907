use navarch_encode::{ResourceCache, ResourcePart, ResourceSnapshot};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;

fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        ..Cluster::default()
    }
}

fn endpoints(name: &str) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.into(),
        ..ClusterLoadAssignment::default()
    }
}

/// A cluster of the group whose endpoints are missing is told; one whose endpoints are the proxy's own is not.
#[test]
fn consistency_spans_both_parts() {
    let cache = ResourceCache::new();
    let mut shared = ResourcePart::default();
    let mut own = ResourcePart::default();
    let clusters = ["a", "b"].map(|name| cache.encode(&cluster(name)));
    shared.set_items(TypeUrl::Cluster, clusters.to_vec());
    shared.set_items(TypeUrl::Endpoint, vec![cache.encode(&endpoints("a"))]);

    let snapshot = ResourceSnapshot::new(&shared, &own);
    let missing = snapshot.find_inconsistencies();
    assert_eq!(missing.len(), 1);
    assert_eq!((&*missing[0].name, &*missing[0].missing), ("b", "b"));

    own.set_items(TypeUrl::Endpoint, vec![cache.encode(&endpoints("b"))]);
    assert!(ResourceSnapshot::new(&shared, &own).is_consistent());
}

/// A snapshot that differs in one proxy's own part differs; equal parts made anew do not.
#[test]
fn sameness_is_of_content() {
    let cache = ResourceCache::new();
    let part = |names: &[&str]| {
        let mut part = ResourcePart::default();
        let items = names
            .iter()
            .map(|name| cache.encode(&cluster(name)))
            .collect();
        part.set_items(TypeUrl::Cluster, items);
        part
    };
    let one = ResourceSnapshot::new(&part(&["a"]), &part(&["x"]));
    assert!(one.is_same(&ResourceSnapshot::new(&part(&["a"]), &part(&["x"]))));
    assert!(!one.is_same(&ResourceSnapshot::new(&part(&["a"]), &part(&[]))));
}
