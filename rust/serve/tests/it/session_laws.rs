//! Laws over any sequence of requests, answers and pushes.

use std::collections::BTreeMap;

use navarch_encode::ResourceCache;
use navarch_envoy::TypeUrl;
use navarch_serve::session::{NameSets, Session, Variant};
use proptest::prelude::*;
use prost::Message;

use crate::client::Client;
use crate::world::{TYPES, World, resource, snapshot};

#[derive(Clone, Debug)]
enum Step {
    Publish(World),
    Receive,
    Accept(TypeUrl),
    Reject(TypeUrl),
    AnswerStale(TypeUrl),
    Subscribe(TypeUrl, Vec<&'static str>, Vec<&'static str>),
    Reconnect,
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "oa", "ob", "*"];

fn types() -> impl Strategy<Value = TypeUrl> {
    prop::sample::select(TYPES.to_vec())
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(NAMES.to_vec()), 0..4)
}

fn worlds() -> impl Strategy<Value = World> {
    let name = prop::sample::select(NAMES[..6].to_vec()).prop_map(str::to_owned);
    prop::collection::btree_map((types(), name), 0..3_u8, 0..20)
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => worlds().prop_map(Step::Publish),
        6 => Just(Step::Receive),
        4 => types().prop_map(Step::Accept),
        1 => types().prop_map(Step::Reject),
        1 => types().prop_map(Step::AnswerStale),
        4 => (types(), names(), names()).prop_map(|(t, add, drop)| Step::Subscribe(t, add, drop)),
        1 => Just(Step::Reconnect),
    ]
}

struct Rig {
    cache: ResourceCache,
    names: std::sync::Arc<NameSets>,
    world: World,
    client: Client,
}

impl Rig {
    fn new(variant: Variant) -> Self {
        let (cache, names) = (ResourceCache::new(), NameSets::new());
        let target = snapshot(&World::new(), &cache);
        let session = Session::new(variant, target, names.clone());
        Self {
            cache,
            names,
            world: World::new(),
            client: Client::new(session, variant),
        }
    }

    fn publish(&mut self, world: World) {
        self.client
            .session
            .set_target(snapshot(&world, &self.cache));
        if self.client.variant == Variant::Sotw {
            // This form does not tell what is gone, so what comes back is told again.
            for (t, name) in self.world.keys().filter(|key| !world.contains_key(key)) {
                self.client.of(*t).excused.insert(name.clone());
            }
        }
        self.world = world;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(world) => self.publish(world),
            Step::Receive => drop(self.client.receive()),
            Step::Accept(t) => drop(self.client.answer(t, None)),
            Step::Reject(t) => drop(self.client.answer(t, Some("no"))),
            Step::AnswerStale(t) => {
                if self.client.of(t).is_subscribed {
                    self.client.answer_nonce(t, "ffff", Some("late"));
                }
            }
            Step::Subscribe(t, add, drop) => {
                self.client.subscribe(t, &add, &drop);
            }
            Step::Reconnect => self.reconnect(),
        }
    }

    /// A new stream; with delta the client brings its versions.
    fn reconnect(&mut self) {
        let variant = self.client.variant;
        let target = snapshot(&self.world, &self.cache);
        let session = Session::new(variant, target, self.names.clone());
        let former = std::mem::replace(&mut self.client, Client::new(session, variant)).held;
        for (t, held) in former {
            if !held.is_subscribed {
                continue;
            }
            let mut names: Vec<&str> = held.names.iter().map(String::as_str).collect();
            if held.is_wildcard {
                names.push("*");
            }
            if names.is_empty() {
                continue;
            }
            if variant == Variant::Delta {
                self.client.resume(t, &names, &held);
                self.client.of(t).is_wildcard = held.is_wildcard;
                self.client.of(t).names.remove("*");
            } else {
                self.client.subscribe(t, &names, &[]);
            }
        }
    }

    /// What the client should hold of a type.
    fn expected(&self, t: TypeUrl) -> BTreeMap<String, Vec<u8>> {
        let held = &self.client.held[&t];
        let of_type = self
            .world
            .iter()
            .filter(|((type_url, _), _)| *type_url == t);
        let covered = of_type.filter(|((_, name), _)| held.covers(name));
        let bytes = |(key, r): (&(TypeUrl, String), &u8)| {
            (
                key.1.clone(),
                resource(&self.cache, t, &key.1, *r).any.to_vec(),
            )
        };
        covered.map(bytes).collect()
    }

    /// Publish a last world in which all is new, accept everything, compare.
    fn finish(&mut self) {
        let renewed = self
            .world
            .clone()
            .into_iter()
            .map(|(key, r)| (key, r + 100))
            .collect();
        self.publish(renewed);
        self.client.settle();
        // A client here need not ask for the endpoints of its clusters; the wait for that ends.
        while self.client.session.is_expecting() {
            self.client.session.expect_nothing();
            self.client.settle();
        }
        assert!(self.client.session.is_settled());
        for t in TYPES {
            if !self.client.held.get(&t).is_some_and(|h| h.is_subscribed) {
                continue;
            }
            let expected = self.expected(t);
            let held = &self.client.held[&t];
            let is_whole = matches!(t, TypeUrl::Cluster | TypeUrl::Listener) || held.is_wildcard;
            if self.client.variant == Variant::Delta || is_whole {
                assert_eq!(held.resources, expected, "{t}");
                continue;
            }
            // Endpoints and routes by name: none is stale; what is gone is not told in this form.
            for (name, bytes) in expected {
                assert_eq!(held.resources.get(&name), Some(&bytes), "{t} {name}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 1000 } else { 20_000 },
        // A sequence that failed becomes a row of `session_table`, where it says what it is about.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// After any sequence, accepting everything leads the client to exactly the newest snapshot; on the
    /// way nothing unchanged comes and no two responses of a type are open (checked by the client).
    #[test]
    fn delta_streams_end_at_the_snapshot(steps in prop::collection::vec(steps(), 0..40)) {
        let mut rig = Rig::new(Variant::Delta);
        steps.into_iter().for_each(|step| rig.step(step));
        rig.finish();
    }

    /// The same for the state of the world.
    #[test]
    fn sotw_streams_end_at_the_snapshot(steps in prop::collection::vec(steps(), 0..40)) {
        let mut rig = Rig::new(Variant::Sotw);
        steps.into_iter().for_each(|step| rig.step(step));
        rig.finish();
    }

    /// Deltas replayed over a history give what the state of the world is at its end.
    #[test]
    fn replayed_deltas_are_the_state(history in prop::collection::vec(worlds(), 1..6)) {
        let [mut delta, mut sotw] = [Variant::Delta, Variant::Sotw].map(Rig::new);
        for rig in [&mut delta, &mut sotw] {
            TYPES.into_iter().for_each(|t| drop(rig.client.subscribe(t, &["*"], &[])));
            for world in &history {
                rig.publish(world.clone());
                rig.client.settle();
            }
        }
        for t in TYPES {
            prop_assert_eq!(&delta.client.held[&t].resources, &sotw.client.held[&t].resources);
        }
    }

    /// Garbage in every field of a request is refused or ignored, never a panic.
    #[test]
    fn requests_of_garbage_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use navarch_envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
        use navarch_serve::session::SotwRequest;
        let cache = ResourceCache::new();
        let target = snapshot(&World::new(), &cache);
        let mut session = Session::new(Variant::Sotw, target, NameSets::new());
        if let Ok(request) = SotwRequest::decode(bytes.clone().into()) {
            let _ = session.on_sotw(&request);
        }
        if let Ok(request) = DeltaDiscoveryRequest::decode(bytes.as_slice()) {
            let _ = session.on_delta(&request);
        }
        while session.next_response().is_some() {}
    }
}
