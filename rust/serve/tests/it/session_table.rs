//! Every type in both forms, through the scenarios of the field's conformance harness and those beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_encode::ResourceCache;
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use navarch_serve::session::{
    MAX_NAMES_PER_REQUEST, NameSets, Outcome, Session, SessionError, SotwRequest, Variant,
};

use crate::client::Client;
use crate::world::{TYPES, World, snapshot, world};

struct Bench {
    cache: ResourceCache,
    client: Client,
}

impl Bench {
    fn new(variant: Variant, world: &World) -> Self {
        let cache = ResourceCache::new();
        let session = Session::new(variant, snapshot(world, &cache), NameSets::new());
        Self {
            cache,
            client: Client::new(session, variant),
        }
    }

    fn publish(&mut self, world: &World) {
        self.client.session.set_target(snapshot(world, &self.cache));
    }

    fn held(&mut self, t: TypeUrl) -> Vec<String> {
        self.client.of(t).resources.keys().cloned().collect()
    }
}

/// Run a scenario for every type and form.
fn table(run: impl Fn(TypeUrl, Variant)) {
    for t in TYPES {
        for variant in [Variant::Sotw, Variant::Delta] {
            run(t, variant);
        }
    }
}

fn is_whole(t: TypeUrl, variant: Variant) -> bool {
    variant == Variant::Sotw && matches!(t, TypeUrl::Cluster | TypeUrl::Listener)
}

#[test]
fn a_wildcard_gets_all_and_hears_of_new_resources() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a", "b", "oa"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        bench.client.settle();
        assert_eq!(bench.held(t), ["a", "b", "oa"]);
        bench.publish(&world(&["a", "b", "c", "oa"], 0));
        assert_eq!(bench.client.settle().len(), 1);
        assert_eq!(bench.held(t), ["a", "b", "c", "oa"]);
    });
}

#[test]
fn the_first_request_is_answered_even_if_there_is_nothing() {
    table(|t, variant| {
        for names in [&["*"][..], &["missing"], &[]] {
            let mut bench = Bench::new(variant, &World::new());
            bench.client.subscribe(t, names, &[]);
            assert!(
                bench.client.receive().is_some(),
                "{t} {variant:?} {names:?}"
            );
            assert!(bench.client.receive().is_none());
        }
    });
}

#[test]
fn named_subscriptions_get_their_names_only() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a", "b", "c"], 0));
        bench.client.subscribe(t, &["a", "b"], &[]);
        bench.client.settle();
        assert_eq!(bench.held(t), ["a", "b"]);
        let mut changed = world(&["a", "b", "c"], 0);
        changed.insert((t, "b".into()), 1);
        changed.insert((t, "c".into()), 1);
        bench.publish(&changed);
        let all = bench.client.settle();
        assert_eq!(all.len(), 1, "{t} {variant:?}");
        let expected: &[&str] = if is_whole(t, variant) {
            &["a", "b"]
        } else {
            &["b"]
        };
        assert_eq!(all[0].names, expected);
    });
}

#[test]
fn a_name_that_does_not_exist_yet_is_answered_when_it_appears() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a"], 0));
        bench.client.subscribe(t, &["late"], &[]);
        let first = bench.client.settle();
        assert_eq!(first.len(), 1);
        match (variant, t) {
            (Variant::Delta, _) => assert_eq!(first[0].removed, ["late"]),
            // An empty assignment, so that the cluster is not kept waiting.
            (Variant::Sotw, TypeUrl::Endpoint) => assert_eq!(first[0].names, ["late"]),
            (Variant::Sotw, _) => assert!(first[0].names.is_empty()),
        }
        bench.publish(&world(&["a", "late"], 3));
        assert_eq!(bench.client.settle().len(), 1);
        assert_eq!(bench.held(t), ["late"]);
    });
}

#[test]
fn more_names_are_answered_and_fewer_are_not() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a", "b"], 0));
        bench.client.subscribe(t, &["a"], &[]);
        bench.client.settle();
        bench.client.subscribe(t, &["b"], &[]);
        let all = bench.client.settle();
        assert_eq!(all.len(), 1);
        let expected: &[&str] = if is_whole(t, variant) {
            &["a", "b"]
        } else {
            &["b"]
        };
        assert_eq!(all[0].names, expected);
        bench.client.subscribe(t, &[], &["a"]);
        assert!(bench.client.settle().is_empty(), "{t} {variant:?}");
        bench.publish(&world(&["a", "b"], 1));
        assert_eq!(bench.client.settle()[0].names, ["b"]);
        bench.client.subscribe(t, &[], &["b"]);
        bench.publish(&world(&["a", "b"], 2));
        assert!(bench.client.settle().is_empty(), "{t} {variant:?}");
    });
}

#[test]
fn a_deleted_resource_is_told() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a", "b"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        bench.client.settle();
        bench.publish(&world(&["a"], 0));
        let all = bench.client.settle();
        assert_eq!(all.len(), 1);
        assert_eq!(bench.held(t), ["a"]);
        if variant == Variant::Delta {
            assert_eq!(
                (all[0].names.len(), &*all[0].removed),
                (0, &["b".to_owned()][..])
            );
        }
    });
}

#[test]
fn an_accepted_response_is_not_repeated_and_a_stale_nonce_changes_nothing() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        let first = bench.client.receive().unwrap();
        assert_eq!(bench.client.answer(t, None), Some(Outcome::Accepted(t)));
        assert!(bench.client.receive().is_none());
        bench.publish(&world(&["a"], 1));
        bench.client.receive().unwrap();
        bench.publish(&world(&["a"], 2));
        assert_eq!(
            bench.client.answer_nonce(t, &first.nonce, None),
            Outcome::Stale(t)
        );
        assert!(
            bench.client.receive().is_none(),
            "the second response is still open"
        );
        bench.client.answer(t, None);
        assert!(bench.client.receive().is_some());
    });
}

#[test]
fn a_rejected_version_is_recorded_kept_back_and_overcome() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        bench.client.settle();
        let accepted = bench.client.session.statuses()[0].accepted;
        bench.publish(&world(&["a"], 1));
        let response = bench.client.receive().unwrap();
        let Some(Outcome::Rejected(rejection)) = bench.client.answer(t, Some("bad a")) else {
            panic!("not seen as a rejection");
        };
        assert_eq!(
            (&*rejection.message, rejection.version.to_string()),
            ("bad a", response.version)
        );
        assert!(
            bench.client.receive().is_none(),
            "the rejected version comes again"
        );
        let status = bench.client.session.statuses().remove(0);
        assert_eq!(status.accepted, accepted);
        assert_eq!(status.rejection, Some(rejection));
        bench.publish(&world(&["a"], 2));
        assert_eq!(bench.client.settle().len(), 1);
        let status = bench.client.session.statuses().remove(0);
        assert_eq!((status.accepted, status.rejection), (status.sent, None));
    });
}

/// Envoy drops the rest of a rejected response of routes or endpoints: the good ones come again, the bad one not.
#[test]
fn one_bad_resource_keeps_no_other_back() {
    for t in [TypeUrl::Endpoint, TypeUrl::Route] {
        for variant in [Variant::Sotw, Variant::Delta] {
            let names = ["a", "b", "bad", "c", "d"];
            let mut bench = Bench::new(variant, &world(&names, 0));
            bench.client.subscribe(t, &names, &[]);
            let mut good = BTreeSet::new();
            for _ in 0..20 {
                let Some(response) = bench.client.receive() else {
                    break;
                };
                let is_bad = response.names.iter().any(|n| n == "bad");
                if !is_bad {
                    good.extend(response.names);
                }
                bench.client.answer(t, is_bad.then_some("bad is bad"));
            }
            assert_eq!(good.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
            assert!(bench.client.session.statuses()[0].rejection.is_some());
            bench.publish(&world(&names, 1));
            assert_eq!(bench.client.settle().len(), 1);
        }
    }
}

#[test]
fn a_push_replaces_the_one_before_it_that_was_not_taken() {
    table(|t, variant| {
        let mut bench = Bench::new(variant, &world(&["a"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        bench.client.receive().unwrap();
        for revision in 1..100 {
            bench.publish(&world(&["a", "b"], revision));
            assert!(bench.client.receive().is_none(), "one response at a time");
        }
        assert_eq!(bench.client.settle().len(), 1);
        assert!(bench.client.session.is_settled());
    });
}

#[test]
fn a_reconnect_with_versions_brings_what_differs() {
    for t in TYPES {
        let mut bench = Bench::new(Variant::Delta, &world(&["a", "b", "gone"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        bench.client.settle();
        let mut next = world(&["a", "b", "new"], 0);
        next.insert((t, "b".into()), 1);
        let session = Session::new(
            Variant::Delta,
            snapshot(&next, &bench.cache),
            NameSets::new(),
        );
        let former = std::mem::replace(&mut bench.client, Client::new(session, Variant::Delta));
        bench.client.resume(t, &["*"], &former.held[&t]);
        bench.client.of(t).is_wildcard = true;
        let all = bench.client.settle();
        assert_eq!(all.len(), 1, "{t}");
        assert_eq!(
            (&all[0].names[..], &all[0].removed[..]),
            (&["b".into(), "new".into()][..], &["gone".into()][..])
        );
        assert_eq!(bench.held(t), ["a", "b", "new"]);
    }
}

#[test]
fn a_reconnect_without_changes_is_answered_with_nothing() {
    for t in TYPES {
        let mut bench = Bench::new(Variant::Delta, &world(&["a"], 0));
        bench.client.subscribe(t, &["*"], &[]);
        bench.client.settle();
        let target = Arc::clone(bench.client.session.target());
        let session = Session::new(Variant::Delta, target, NameSets::new());
        let former = std::mem::replace(&mut bench.client, Client::new(session, Variant::Delta));
        bench.client.resume(t, &["*"], &former.held[&t]);
        bench.client.of(t).is_wildcard = true;
        let all = bench.client.settle();
        assert_eq!(
            (all.len(), all[0].names.len(), all[0].removed.len()),
            (1, 0, 0)
        );
    }
}

#[test]
fn asking_again_for_a_name_brings_it_again() {
    for t in TYPES {
        let mut bench = Bench::new(Variant::Delta, &world(&["a", "b"], 0));
        bench.client.subscribe(t, &["*", "a"], &[]);
        bench.client.settle();
        bench.client.subscribe(t, &["a"], &[]);
        assert_eq!(bench.client.settle()[0].names, ["a"]);
        // Beside a wildcard, a dropped name is told once more: the client can't know that it is still in.
        bench.client.subscribe(t, &[], &["a"]);
        assert_eq!(bench.client.settle()[0].names, ["a"]);
        bench.client.subscribe(t, &[], &["*"]);
        bench.publish(&world(&["a", "b"], 1));
        assert!(bench.client.settle().is_empty());
    }
}

#[test]
fn types_share_a_stream_in_push_order() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut bench = Bench::new(variant, &world(&["a"], 0));
        for t in TYPES.into_iter().rev() {
            bench.client.subscribe(t, &["*"], &[]);
        }
        let order: Vec<_> = bench.client.settle().iter().map(|r| r.type_url).collect();
        assert_eq!(order, TYPES);
    }
}

#[test]
fn unknown_types_are_ignored_and_faulty_requests_end_the_stream() {
    let mut bench = Bench::new(Variant::Sotw, &world(&["a"], 0));
    let session = &mut bench.client.session;
    let request = |type_url: &str, n_names: usize| {
        SotwRequest::from(DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: vec!["n".to_owned(); n_names],
            ..DiscoveryRequest::default()
        })
    };
    let unknown = Outcome::UnknownType("type.googleapis.com/x.Y".to_owned());
    assert_eq!(
        session.on_sotw(&request("type.googleapis.com/x.Y", 0)),
        Ok(unknown)
    );
    assert!(session.next_response().is_none());
    assert_eq!(
        session.on_sotw(&request("", 0)),
        Err(SessionError::NoTypeUrl)
    );
    let count = MAX_NAMES_PER_REQUEST + 1;
    let too_many = SessionError::TooManyNames {
        count,
        type_url: TypeUrl::Route,
    };
    assert_eq!(
        session.on_sotw(&request(TypeUrl::Route.as_str(), count)),
        Err(too_many.clone())
    );
    let delta = DeltaDiscoveryRequest {
        type_url: TypeUrl::Route.to_string(),
        resource_names_subscribe: vec!["n".to_owned(); count],
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(session.on_delta(&delta), Err(too_many));
}
