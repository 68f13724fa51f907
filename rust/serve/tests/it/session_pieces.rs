//! Virtual hosts on their own, against a client that keeps them as Envoy does.
//!
//! What Envoy does is seen in the lab (`tests/lab/test_pieces.py`) and told in `docs/decisions/025-routes-in-pieces.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use navarch_encode::{ResourceCache, ResourcePart, ResourceSnapshot};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::route::v3::{RouteConfiguration, Vhds, VirtualHost};
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use navarch_envoy::google::rpc::Status;
use navarch_serve::session::{NameSets, Session, Variant};
use proptest::prelude::*;
use prost::Message;

/// Route configurations to their virtual hosts, in which revision.
type World = BTreeMap<String, BTreeMap<String, u8>>;

const TYPES: [TypeUrl; 2] = [TypeUrl::Route, TypeUrl::VirtualHost];

fn world(routes: &[(&str, &[(&str, u8)])]) -> World {
    let hosts = |hosts: &[(&str, u8)]| hosts.iter().map(|(h, r)| ((*h).to_owned(), *r)).collect();
    let routes = routes.iter();
    routes
        .map(|(name, of)| ((*name).to_owned(), hosts(of)))
        .collect()
}

fn snapshot(world: &World, cache: &ResourceCache) -> Arc<ResourceSnapshot> {
    let mut part = ResourcePart::default();
    let frames = world.keys().map(|name| {
        cache.encode(&RouteConfiguration {
            name: name.clone(),
            vhds: Some(Vhds::default()),
            ..RouteConfiguration::default()
        })
    });
    part.set_items(TypeUrl::Route, frames.collect());
    let hosts = world.iter().flat_map(|(route, hosts)| {
        hosts.iter().map(move |(host, revision)| {
            cache.encode(&VirtualHost {
                name: format!("{route}/{host}"),
                domains: vec![revision.to_string()],
                ..VirtualHost::default()
            })
        })
    });
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    part.set_items(TypeUrl::VirtualHost, hosts);
    Arc::new(ResourceSnapshot::new(&part, &ResourcePart::default()))
}

/// A stream and the client at its end.
struct Rig {
    cache: ResourceCache,
    names: Arc<NameSets>,
    world: World,
    session: Session,
    /// Route configurations that are asked for; what it has of those that came: their virtual hosts' revisions.
    routes: BTreeMap<String, Option<BTreeMap<String, u8>>>,
    /// What it would say on its next stream to have, by type.
    versions: BTreeMap<TypeUrl, BTreeMap<String, String>>,
    /// Responses that it has not answered, by type.
    open: BTreeMap<TypeUrl, DeltaDiscoveryResponse>,
    /// Whether virtual hosts were asked for on this stream.
    is_asked: bool,
    /// Route configurations whose virtual hosts may come unchanged: sent anew, or in a rejected response.
    excused: BTreeSet<String>,
}

impl Rig {
    fn new(world: World) -> Self {
        let (cache, names) = (ResourceCache::new(), NameSets::new());
        let session = Session::new(Variant::Delta, snapshot(&world, &cache), names.clone());
        Self {
            cache,
            names,
            world,
            session,
            routes: BTreeMap::new(),
            versions: BTreeMap::new(),
            open: BTreeMap::new(),
            is_asked: false,
            excused: BTreeSet::new(),
        }
    }

    fn publish(&mut self, world: World) {
        self.session.set_target(snapshot(&world, &self.cache));
        self.world = world;
    }

    fn send(&mut self, request: &DeltaDiscoveryRequest) {
        self.session.on_delta(request).unwrap();
    }

    /// A listener asks for its route configuration.
    fn add_route(&mut self, name: &str) {
        if !self.routes.contains_key(name) {
            self.routes.insert(name.to_owned(), None);
            self.send(&DeltaDiscoveryRequest {
                type_url: TypeUrl::Route.to_string(),
                resource_names_subscribe: vec![name.to_owned()],
                ..DeltaDiscoveryRequest::default()
            });
        }
    }

    /// The last listener that asked for a route configuration is gone. Its virtual hosts go with it, but for the words
    /// that the next stream gets of them.
    fn drop_route(&mut self, name: &str) {
        if self.routes.remove(name).is_some() {
            self.versions
                .entry(TypeUrl::Route)
                .or_default()
                .remove(name);
            self.send(&DeltaDiscoveryRequest {
                type_url: TypeUrl::Route.to_string(),
                resource_names_unsubscribe: vec![name.to_owned()],
                ..DeltaDiscoveryRequest::default()
            });
        }
    }

    fn ask_for_hosts(&mut self) {
        self.is_asked = true;
        let versions = self.versions.entry(TypeUrl::VirtualHost).or_default();
        let initial_resource_versions = versions.clone();
        self.send(&DeltaDiscoveryRequest {
            type_url: TypeUrl::VirtualHost.to_string(),
            initial_resource_versions,
            ..DeltaDiscoveryRequest::default()
        });
    }

    /// Take the next response, if any; its virtual hosts as `<route>/<host>`.
    fn receive(&mut self) -> Option<DeltaDiscoveryResponse> {
        let response = self.session.next_response()?;
        let message = DeltaDiscoveryResponse::decode(&*response.segments.concat()).unwrap();
        let mut sent = message.resources.iter().map(|resource| &resource.name);
        let is_both = sent.any(|name| message.removed_resources.contains(name));
        assert!(!is_both, "sent and removed: {message:?}");
        let former = self.open.insert(response.type_url, message.clone());
        assert!(former.is_none(), "two responses wait for an answer");
        Some(message)
    }

    /// Answer the open response of a type: accept what it brings, or reject all of it.
    fn answer(&mut self, type_url: TypeUrl, is_accepted: bool) -> bool {
        let Some(message) = self.open.remove(&type_url) else {
            return false;
        };
        let error = Status {
            code: 13,
            message: "no".into(),
            details: Vec::new(),
        };
        if is_accepted {
            self.take(type_url, &message);
        } else {
            let names = message.resources.iter().map(|resource| &*resource.name);
            let routes = names.map(|name| name.rsplit_once('/').map_or(name, |(route, _)| route));
            self.excused.extend(routes.map(str::to_owned));
        }
        self.send(&DeltaDiscoveryRequest {
            type_url: type_url.to_string(),
            response_nonce: message.nonce,
            error_detail: (!is_accepted).then_some(error),
            ..DeltaDiscoveryRequest::default()
        });
        let is_in_pieces = self.routes.values().any(Option::is_some);
        if is_in_pieces && !self.is_asked {
            self.ask_for_hosts();
        }
        true
    }

    fn take(&mut self, type_url: TypeUrl, message: &DeltaDiscoveryResponse) {
        let versions = self.versions.entry(type_url).or_default();
        for resource in &message.resources {
            if type_url == TypeUrl::VirtualHost || self.routes.contains_key(&resource.name) {
                versions.insert(resource.name.clone(), resource.version.clone());
            }
        }
        versions.retain(|name, _| !message.removed_resources.contains(name));
        for resource in &message.resources {
            if type_url == TypeUrl::Route {
                // One that comes again keeps its virtual hosts.
                if let Some(held) = self.routes.get_mut(&resource.name) {
                    held.get_or_insert_default();
                }
                self.excused.insert(resource.name.clone());
                continue;
            }
            let any = resource.resource.as_ref().unwrap();
            let host = VirtualHost::decode(&*any.value).unwrap();
            assert_eq!(
                host.name, resource.name,
                "what is removed is found by the name"
            );
            let (route, name) = host.name.rsplit_once('/').unwrap();
            // Of a route configuration that it has not it drops them, without a word.
            if let Some(Some(held)) = self.routes.get_mut(route) {
                let revision = host.domains[0].parse().unwrap();
                let before = held.insert(name.to_owned(), revision);
                assert!(
                    before != Some(revision) || self.excused.contains(route),
                    "{} comes unchanged",
                    host.name
                );
            }
        }
        if type_url == TypeUrl::VirtualHost {
            for removed in &message.removed_resources {
                let (route, name) = removed.rsplit_once('/').unwrap();
                if let Some(Some(held)) = self.routes.get_mut(route) {
                    held.remove(name);
                }
            }
        }
    }

    /// A new stream: it asks at once for what it asked for, and says what it has.
    fn reconnect(&mut self) {
        let target = snapshot(&self.world, &self.cache);
        self.session = Session::new(Variant::Delta, target, self.names.clone());
        self.open.clear();
        self.is_asked = false;
        if self.routes.is_empty() {
            return;
        }
        self.send(&DeltaDiscoveryRequest {
            type_url: TypeUrl::Route.to_string(),
            resource_names_subscribe: self.routes.keys().cloned().collect(),
            initial_resource_versions: self
                .versions
                .get(&TypeUrl::Route)
                .cloned()
                .unwrap_or_default(),
            ..DeltaDiscoveryRequest::default()
        });
        if self.routes.values().any(Option::is_some) {
            self.ask_for_hosts();
        }
    }

    /// Receive and accept until nothing more comes; what came, in order.
    fn settle(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let mut all = Vec::new();
        loop {
            let before = all.len();
            all.extend(std::iter::from_fn(|| self.receive()));
            let n_answered = TYPES.into_iter().filter(|t| self.answer(*t, true)).count();
            assert!(all.len() < 1000, "the session never settles");
            if n_answered == 0 && all.len() == before {
                self.excused.clear();
                return all;
            }
        }
    }

    /// Assert that the client has, of all that it asks for, what there is.
    fn check(&self) {
        assert!(self.session.is_settled());
        for (name, held) in &self.routes {
            if let Some(hosts) = self.world.get(name) {
                assert_eq!(held.as_ref(), Some(hosts), "{name}");
            }
        }
    }
}

/// What responses brought and took, in brief.
fn brief(all: &[DeltaDiscoveryResponse]) -> Vec<(Vec<&str>, Vec<&str>)> {
    let mut made = Vec::new();
    for message in all {
        let sent = message.resources.iter().map(|r| &*r.name);
        let gone = message.removed_resources.iter().map(|n| &**n);
        made.push((sent.collect(), gone.collect()));
    }
    made
}

#[test]
fn virtual_hosts_follow_their_route_configuration() {
    let mut rig = Rig::new(world(&[("80", &[("a", 0), ("b", 0)]), ("90", &[("c", 0)])]));
    rig.add_route("80");
    let all = rig.settle();
    assert_eq!(
        brief(&all),
        [(vec!["80"], vec![]), (vec!["80/a", "80/b"], vec![])],
        "those of others are not sent"
    );
    // Envoy says nothing of virtual hosts when it gets another route configuration.
    rig.add_route("90");
    let all = rig.settle();
    assert_eq!(brief(&all), [(vec!["90"], vec![]), (vec!["90/c"], vec![])]);
    rig.check();
}

#[test]
fn a_change_sends_what_differs_alone() {
    let mut rig = Rig::new(world(&[("80", &[("a", 0), ("b", 0)]), ("90", &[("c", 0)])]));
    rig.add_route("80");
    rig.add_route("90");
    rig.settle();
    rig.publish(world(&[("80", &[("b", 1), ("d", 0)]), ("90", &[("c", 0)])]));
    let all = rig.settle();
    assert_eq!(brief(&all), [(vec!["80/b", "80/d"], vec!["80/a"])]);
    rig.check();
}

#[test]
fn the_first_answer_comes_even_if_there_is_nothing() {
    let mut rig = Rig::new(World::new());
    rig.ask_for_hosts();
    assert_eq!(brief(&rig.settle()), [(vec![], vec![])]);
}

#[test]
fn a_listener_that_drains_keeps_its_virtual_hosts() {
    let mut rig = Rig::new(world(&[("80", &[("a", 0)]), ("90", &[("c", 0)])]));
    rig.add_route("80");
    rig.add_route("90");
    rig.settle();
    rig.publish(world(&[("80", &[("a", 0)])]));
    let all = rig.settle();
    let removed: Vec<_> = brief(&all).into_iter().flat_map(|(_, gone)| gone).collect();
    assert_eq!(
        removed,
        ["90"],
        "Envoy uses a route configuration on that is removed"
    );
    rig.drop_route("90");
    assert_eq!(
        brief(&rig.settle()),
        [(vec![], vec!["90/c"])],
        "the client forgets their versions"
    );
    // It comes again, unchanged, and with it what it had.
    rig.publish(world(&[("80", &[("a", 0)]), ("90", &[("c", 0)])]));
    rig.add_route("90");
    assert_eq!(
        brief(&rig.settle()),
        [(vec!["90"], vec![]), (vec!["90/c"], vec![])]
    );
    rig.check();
}

#[test]
fn a_client_that_comes_back_gets_what_changed() {
    let mut rig = Rig::new(world(&[("80", &[("a", 0), ("b", 0), ("c", 0)])]));
    rig.add_route("80");
    rig.settle();
    rig.world = world(&[("80", &[("a", 0), ("b", 1)])]);
    rig.reconnect();
    let all = rig.settle();
    let hosts = brief(&all)
        .into_iter()
        .rfind(|(sent, gone)| !(sent.is_empty() && gone.is_empty()));
    assert_eq!(hosts, Some((vec!["80/b"], vec!["80/c"])));
    rig.check();
}

#[test]
fn versions_of_virtual_hosts_that_the_client_dropped_do_not_count() {
    let mut rig = Rig::new(world(&[("80", &[("a", 0)]), ("90", &[("c", 0)])]));
    rig.add_route("80");
    rig.add_route("90");
    rig.settle();
    // The stream ends before it is told that they are gone; then the route configuration is asked for anew.
    rig.drop_route("90");
    rig.reconnect();
    rig.add_route("90");
    rig.settle();
    rig.check();
}

/// Envoy applies nothing of a rejected response, so what is gone is told again beside the good rest.
#[test]
fn what_is_gone_goes_beside_what_is_rejected() {
    let mut rig = Rig::new(world(&[("80", &[("a", 0), ("b", 0)])]));
    rig.add_route("80");
    rig.settle();
    rig.publish(world(&[("80", &[("a", 1)])]));
    rig.receive().unwrap();
    rig.answer(TypeUrl::VirtualHost, false);
    assert_eq!(brief(&rig.settle()), [(vec![], vec!["80/b"])]);
    assert_eq!(rig.routes["80"], Some(BTreeMap::from([("a".into(), 0)])));
    assert!(
        rig.session.is_settled(),
        "a rejected virtual host is not sent again"
    );
    // A removal that is rejected by itself is not repeated for ever.
    rig.publish(world(&[("80", &[])]));
    rig.receive().unwrap();
    rig.answer(TypeUrl::VirtualHost, false);
    assert!(rig.receive().is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Publish(World),
    Receive,
    Accept(TypeUrl),
    Reject,
    AddRoute(&'static str),
    DropRoute(&'static str),
    Reconnect,
}

fn routes() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["80", "90", "90/x"])
}

fn worlds() -> impl Strategy<Value = World> {
    let hosts = prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
    let hosts = prop::collection::btree_map(hosts, 0..3_u8, 1..4);
    prop::collection::btree_map(routes().prop_map(str::to_owned), hosts, 0..4)
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => worlds().prop_map(Step::Publish),
        6 => Just(Step::Receive),
        5 => prop::sample::select(TYPES.to_vec()).prop_map(Step::Accept),
        1 => Just(Step::Reject),
        2 => routes().prop_map(Step::AddRoute),
        1 => routes().prop_map(Step::DropRoute),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 1000 } else { 20_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever comes in between, a client that accepts all in the end has the virtual hosts that there are, under each
    /// route configuration that it asks for; and nothing comes unchanged under one that it kept.
    #[test]
    fn virtual_hosts_end_at_the_snapshot(steps in prop::collection::vec(steps(), 0..40)) {
        let mut rig = Rig::new(World::new());
        for step in steps {
            match step {
                Step::Publish(world) => rig.publish(world),
                Step::Receive => drop(rig.receive()),
                Step::Accept(t) => drop(rig.answer(t, true)),
                // Envoy has no reason to reject a removal.
                Step::Reject => {
                    let open = rig.open.get(&TypeUrl::VirtualHost);
                    let is_accepted = open.is_some_and(|message| message.resources.is_empty());
                    rig.answer(TypeUrl::VirtualHost, is_accepted);
                }
                Step::AddRoute(name) => rig.add_route(name),
                Step::DropRoute(name) => rig.drop_route(name),
                Step::Reconnect => rig.reconnect(),
            }
        }
        // What was rejected comes again when it has changed.
        let mut last = rig.world.clone();
        last.values_mut().flat_map(BTreeMap::values_mut).for_each(|revision| *revision += 100);
        rig.publish(last);
        rig.settle();
        rig.check();
    }
}
