//! Make before break: what comes before what.

use navarch_encode::ResourceCache;
use navarch_envoy::TypeUrl;
use navarch_serve::session::{NameSets, Session, Variant};

use crate::client::{Client, Received};
use crate::world::{TYPES, World, snapshot, world};

const BOTH: [Variant; 2] = [Variant::Sotw, Variant::Delta];

/// A client as Envoy is: clusters and listeners by wildcard, endpoints and routes by name; in sync.
fn envoy(variant: Variant, world: &World, names: &[&str]) -> (ResourceCache, Client) {
    let cache = ResourceCache::new();
    let session = Session::new(variant, snapshot(world, &cache), NameSets::new());
    let mut client = Client::new(session, variant);
    for t in TYPES {
        let is_named = matches!(t, TypeUrl::Endpoint | TypeUrl::Route);
        client.subscribe(t, if is_named { names } else { &[] }, &[]);
        client.settle();
    }
    (cache, client)
}

fn brief(all: &[Received]) -> Vec<(TypeUrl, Vec<&str>, Vec<&str>)> {
    let texts = |names: &'_ [String]| -> Vec<&'static str> {
        names
            .iter()
            .map(|n| &*Box::leak(n.clone().into_boxed_str()))
            .collect()
    };
    all.iter()
        .map(|r| (r.type_url, texts(&r.names), texts(&r.removed)))
        .collect()
}

/// Endpoints that did not change are answered again after their cluster did: Envoy warms it by waiting for them.
#[test]
fn endpoints_follow_a_changed_cluster() {
    for variant in BOTH {
        let first = world(&["a", "b"], 0);
        let (cache, mut client) = envoy(variant, &first, &["a", "b"]);
        let mut next = first;
        next.insert((TypeUrl::Cluster, "b".into()), 1);
        client.session.set_target(snapshot(&next, &cache));
        let clusters = client.receive().unwrap();
        assert_eq!(clusters.type_url, TypeUrl::Cluster);
        let endpoints = client.receive().unwrap();
        assert_eq!(
            (endpoints.type_url, &endpoints.names[..]),
            (TypeUrl::Endpoint, &["b".into()][..])
        );
        assert!(client.settle().is_empty());
    }
}

/// A client that asks for endpoints first and for clusters later (a reconnect) gets the endpoints once more.
#[test]
fn endpoints_follow_late_clusters() {
    for variant in BOTH {
        let cache = ResourceCache::new();
        let target = snapshot(&world(&["a"], 0), &cache);
        let mut client = Client::new(Session::new(variant, target, NameSets::new()), variant);
        client.subscribe(TypeUrl::Endpoint, &["a"], &[]);
        client.settle();
        client.subscribe(TypeUrl::Cluster, &[], &[]);
        let all = client.settle();
        let types: Vec<_> = all.iter().map(|r| r.type_url).collect();
        assert_eq!(types, [TypeUrl::Cluster, TypeUrl::Endpoint]);
        assert_eq!(all[1].names, ["a"]);
    }
}

/// Routes and listeners wait until the clusters before them are accepted and their endpoints are, too.
#[test]
fn listeners_and_routes_wait_for_clusters() {
    for variant in BOTH {
        let first = world(&["a"], 0);
        let (cache, mut client) = envoy(variant, &first, &["a"]);
        client
            .session
            .set_target(snapshot(&world(&["a", "new"], 1), &cache));
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Cluster);
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Endpoint);
        assert!(client.receive().is_none());
        // Envoy asks for the new cluster's endpoints before it accepts the cluster.
        client.answer(TypeUrl::Endpoint, None);
        client.subscribe(TypeUrl::Endpoint, &["new"], &[]);
        client.answer(TypeUrl::Cluster, None);
        assert_eq!(client.receive().unwrap().names, ["new"]);
        assert!(
            client.receive().is_none(),
            "listeners before their clusters are warm"
        );
        client.answer(TypeUrl::Endpoint, None);
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Listener);
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Route);
    }
}

/// A client that accepts a cluster before it asks for its endpoints: listeners wait for them all the same.
#[test]
fn listeners_wait_for_endpoints_that_are_asked_for_late() {
    for variant in BOTH {
        let first = world(&["a"], 0);
        let (cache, mut client) = envoy(variant, &first, &["a"]);
        let next = snapshot(&world(&["a", "new"], 1), &cache);
        client.session.set_target(next);
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Cluster);
        client.answer(TypeUrl::Cluster, None);
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Endpoint);
        client.answer(TypeUrl::Endpoint, None);
        assert!(client.session.is_expecting());
        assert!(client.receive().is_none(), "listeners before endpoints");
        client.subscribe(TypeUrl::Endpoint, &["new"], &[]);
        assert_eq!(client.receive().unwrap().names, ["new"]);
        assert!(client.receive().is_none(), "listeners before endpoints");
        client.answer(TypeUrl::Endpoint, None);
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Listener);
    }
}

/// A client that never asks, that rejects the cluster, or whose cluster goes again is not waited for.
#[test]
fn endpoints_that_nobody_asks_for_hold_nothing_back() {
    for variant in BOTH {
        for way in 0..3 {
            let first = world(&["a"], 0);
            let (cache, mut client) = envoy(variant, &first, &["a"]);
            let next = snapshot(&world(&["a", "new"], 1), &cache);
            client.session.set_target(next);
            assert_eq!(client.receive().unwrap().type_url, TypeUrl::Cluster);
            client.answer(TypeUrl::Cluster, (way == 1).then_some("bad cluster"));
            assert_eq!(client.receive().unwrap().type_url, TypeUrl::Endpoint);
            client.answer(TypeUrl::Endpoint, None);
            match way {
                0 => client.session.expect_nothing(),
                1 => {}
                _ => client
                    .session
                    .set_target(snapshot(&world(&["a"], 1), &cache)),
            }
            let next = client.receive().unwrap();
            assert_eq!(next.type_url, TypeUrl::Listener, "way {way}");
        }
    }
}

/// A rejected cluster does not hold back the rest.
#[test]
fn a_rejection_of_clusters_lets_the_rest_go_on() {
    for variant in BOTH {
        let (cache, mut client) = envoy(variant, &world(&["a"], 0), &["a"]);
        client
            .session
            .set_target(snapshot(&world(&["a"], 1), &cache));
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Cluster);
        client.answer(TypeUrl::Cluster, Some("bad cluster"));
        let types: Vec<_> = client.settle().iter().map(|r| r.type_url).collect();
        assert_eq!(
            types,
            [TypeUrl::Endpoint, TypeUrl::Listener, TypeUrl::Route]
        );
    }
}

/// A cluster goes when no listener or route of the client can name it any more.
#[test]
fn removals_come_last() {
    for variant in BOTH {
        let (cache, mut client) = envoy(variant, &world(&["a", "old"], 0), &["a", "old"]);
        let mut next = world(&["a"], 0);
        next.insert((TypeUrl::Listener, "a".into()), 1);
        next.insert((TypeUrl::Route, "a".into()), 1);
        client.session.set_target(snapshot(&next, &cache));
        let all = client.settle();
        let types: Vec<_> = all.iter().map(|r| r.type_url).collect();
        let clusters_at = types.iter().position(|t| *t == TypeUrl::Cluster).unwrap();
        assert!(
            types[..clusters_at].contains(&TypeUrl::Listener),
            "{variant:?} {types:?}"
        );
        assert!(
            types[..clusters_at].contains(&TypeUrl::Route),
            "{variant:?} {types:?}"
        );
        let held: Vec<_> = client
            .of(TypeUrl::Cluster)
            .resources
            .keys()
            .cloned()
            .collect();
        assert_eq!(held, ["a"]);
        assert!(client.session.is_settled());
    }
}

/// Beside a removal, a changed cluster is sent first, with the one that goes still in.
#[test]
fn a_removal_beside_a_change_waits() {
    for variant in BOTH {
        let (cache, mut client) = envoy(variant, &world(&["a", "old"], 0), &["a", "old"]);
        client
            .session
            .set_target(snapshot(&world(&["a"], 1), &cache));
        let first = client.receive().unwrap();
        assert_eq!(first.type_url, TypeUrl::Cluster);
        assert!(
            client.of(TypeUrl::Cluster).resources.contains_key("old"),
            "{variant:?}"
        );
        let rest = client.settle();
        let last_clusters = rest
            .iter()
            .rposition(|r| r.type_url == TypeUrl::Cluster)
            .unwrap();
        let last_routes = rest
            .iter()
            .rposition(|r| r.type_url == TypeUrl::Route)
            .unwrap();
        assert!(last_routes < last_clusters, "{:?}", brief(&rest));
        assert!(!client.of(TypeUrl::Cluster).resources.contains_key("old"));
    }
}

/// A client that rejects its new listener still uses the old one, so the old one's cluster stays.
#[test]
fn a_rejected_listener_keeps_its_clusters() {
    for variant in BOTH {
        let (cache, mut client) = envoy(variant, &world(&["a", "old"], 0), &["a", "old"]);
        let mut next = world(&["a", "old"], 0);
        next.remove(&(TypeUrl::Cluster, "old".into()));
        next.insert((TypeUrl::Listener, "a".into()), 1);
        client.session.set_target(snapshot(&next, &cache));
        assert_eq!(client.receive().unwrap().type_url, TypeUrl::Listener);
        client.answer(TypeUrl::Listener, Some("bad listener"));
        assert!(client.settle().is_empty(), "{variant:?}");
        next.insert((TypeUrl::Listener, "a".into()), 2);
        client.session.set_target(snapshot(&next, &cache));
        let types: Vec<_> = client.settle().iter().map(|r| r.type_url).collect();
        assert_eq!(types, [TypeUrl::Listener, TypeUrl::Cluster], "{variant:?}");
    }
}

/// Endpoints that churn all the time do not keep listeners and routes from going out.
#[test]
fn endpoint_churn_starves_nothing() {
    for variant in BOTH {
        let (cache, mut client) = envoy(variant, &world(&["a"], 0), &["a"]);
        let mut next = world(&["a"], 0);
        next.insert((TypeUrl::Route, "a".into()), 9);
        let came = (1..5).any(|revision| {
            next.insert((TypeUrl::Endpoint, "a".into()), revision);
            client.session.set_target(snapshot(&next, &cache));
            let received = std::iter::from_fn(|| client.receive()).collect::<Vec<_>>();
            client.answer(TypeUrl::Endpoint, None);
            received.iter().any(|r| r.type_url == TypeUrl::Route)
        });
        assert!(came, "routes never came");
    }
}
