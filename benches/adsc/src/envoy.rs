//! What one Envoy asks for and acknowledges: a state machine without I/O.
//!
//! As Envoy starts: CDS first, then the endpoints of its clusters, then listeners, then the route
//! configurations that they name; once one of these is in pieces, virtual hosts, without names. Every response is
//! acknowledged; nothing is ever rejected. On another stream it asks for all of that at once, and says what it has: in
//! delta by the versions of its resources.

use std::collections::BTreeMap;

use navarch_envoy::TypeUrl;

use crate::message::{Message, Variant};
use crate::names::{Held, NameId, NameSet, VersionId};

/// A request to send.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) type_url: TypeUrl,
    pub(crate) version: String,
    pub(crate) nonce: String,
    pub(crate) names: Names,
    /// What it has from another stream; for delta alone.
    pub(crate) held: Vec<(NameId, VersionId)>,
}

/// The names in a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Names {
    None,
    /// Every name of a subscription, as state of the world wants in each request.
    All(NameSet),
    /// What was added and removed.
    Delta {
        added: Vec<NameId>,
        removed: Vec<NameId>,
    },
}

#[derive(Debug, Default)]
struct Subscription {
    wanted: NameSet,
    have: NameSet,
    held: Held,
    version: String,
    nonce: String,
}

impl Subscription {
    fn is_complete(&self) -> bool {
        self.have == self.wanted
    }

    fn add(&mut self, message: &Message) {
        for name in message.names.iter().chain(&message.removed) {
            if self.wanted.contains(*name) {
                self.have.insert(*name);
            }
        }
        self.note(message);
    }

    fn note(&mut self, message: &Message) {
        for (name, version) in message.names.iter().zip(&message.versions) {
            self.held.note(*name, Some(*version));
        }
        for name in &message.removed {
            self.held.note(*name, None);
        }
        self.version.clone_from(&message.version);
        self.nonce.clone_from(&message.nonce);
    }

    /// What is asked on a new stream; nonces are of the stream before.
    fn restart(&mut self, variant: Variant, type_url: TypeUrl) -> Request {
        self.nonce.clear();
        let mut request = subscribe_all(type_url);
        let is_named = !matches!(
            type_url,
            TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::VirtualHost
        );
        match variant {
            Variant::Sotw => {
                request.version.clone_from(&self.version);
                if is_named {
                    request.names = Names::All(self.wanted.clone());
                }
            }
            Variant::Delta => {
                let added = match type_url {
                    TypeUrl::VirtualHost => Vec::new(),
                    _ => self.wanted.iter().collect(),
                };
                request.names = Names::Delta {
                    added,
                    removed: Vec::new(),
                };
                let is_wanted = |name: &NameId| !is_named || self.wanted.contains(*name);
                let held = self.held.versions();
                request.held = held.filter(|(name, _)| is_wanted(name)).collect();
            }
        }
        request
    }
}

/// One Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    variant: Variant,
    has_clusters: bool,
    has_listeners: bool,
    is_listening: bool,
    asks_names: bool,
    clusters: Subscription,
    listeners: Subscription,
    endpoints: Subscription,
    routes: Subscription,
    /// Its names are those of route configurations in pieces, and of those whose virtual hosts have come.
    virtual_hosts: Subscription,
    /// The route configurations of each listener that has some.
    routes_of: BTreeMap<NameId, Vec<NameId>>,
    /// Whether the name table was asked for and has not come.
    awaits_names: bool,
}

impl Envoy {
    pub(crate) fn new(variant: Variant, asks_names: bool) -> Self {
        Self {
            variant,
            has_clusters: false,
            has_listeners: false,
            is_listening: false,
            asks_names,
            clusters: Subscription::default(),
            listeners: Subscription::default(),
            endpoints: Subscription::default(),
            routes: Subscription::default(),
            virtual_hosts: Subscription::default(),
            routes_of: BTreeMap::new(),
            awaits_names: asks_names,
        }
    }

    /// What is asked first on a stream.
    pub(crate) fn start(&mut self) -> Vec<Request> {
        let variant = self.variant;
        let mut requests = vec![self.clusters.restart(variant, TypeUrl::Cluster)];
        if self.asks_names {
            requests.push(subscribe_all(TypeUrl::NameTable));
        }
        if self.endpoints.wanted.len() > 0 {
            requests.push(self.endpoints.restart(variant, TypeUrl::Endpoint));
        }
        if self.is_listening {
            requests.push(self.listeners.restart(variant, TypeUrl::Listener));
        }
        if self.routes.wanted.len() > 0 {
            requests.push(self.routes.restart(variant, TypeUrl::Route));
        }
        if self.virtual_hosts.wanted.len() > 0 {
            requests.push(self.virtual_hosts.restart(variant, TypeUrl::VirtualHost));
        }
        requests
    }

    /// Whether it has all that it asked for.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.has_clusters
            && self.has_listeners
            && !self.awaits_names
            && self.endpoints.is_complete()
            && self.routes.is_complete()
            && self.virtual_hosts.is_complete()
    }

    /// What is still missing, in words.
    pub(crate) fn missing(&self) -> String {
        format!(
            "clusters {}, {} of {} endpoints, listeners {}, {} of {} routes, virtual hosts of {} of {}",
            self.has_clusters,
            self.endpoints.have.len(),
            self.endpoints.wanted.len(),
            self.has_listeners,
            self.routes.have.len(),
            self.routes.wanted.len(),
            self.virtual_hosts.have.len(),
            self.virtual_hosts.wanted.len(),
        )
    }

    /// React to a response.
    pub(crate) fn on_message(&mut self, message: &Message) -> Vec<Request> {
        let Some(type_url) = message.type_url else {
            return Vec::new();
        };
        let mut requests = match type_url {
            TypeUrl::Cluster => self.on_clusters(message),
            TypeUrl::Endpoint => {
                self.endpoints.add(message);
                vec![self.ack_named(type_url, message, &self.endpoints)]
            }
            TypeUrl::Listener => self.on_listeners(message),
            TypeUrl::Route => self.on_routes(message),
            TypeUrl::VirtualHost => {
                for (_, route) in &message.references {
                    self.virtual_hosts.have.insert(*route);
                }
                self.virtual_hosts.note(message);
                vec![ack(type_url, message)]
            }
            TypeUrl::NameTable => {
                self.awaits_names = false;
                vec![ack(type_url, message)]
            }
            TypeUrl::ExtensionConfig | TypeUrl::Secret => vec![ack(type_url, message)],
        };
        if self.has_clusters && !self.is_listening && self.endpoints.is_complete() {
            self.is_listening = true;
            requests.push(subscribe_all(TypeUrl::Listener));
        }
        requests
    }

    fn on_clusters(&mut self, message: &Message) -> Vec<Request> {
        self.has_clusters = true;
        self.clusters.note(message);
        let eds_names = message.references.iter().map(|(_, eds_name)| *eds_name);
        let wanted = match self.variant {
            Variant::Sotw => eds_names.collect(),
            Variant::Delta => {
                let mut wanted = self.endpoints.wanted.clone();
                // An EDS cluster of Istio's is named as its endpoints are.
                for name in &message.removed {
                    wanted.remove(*name);
                }
                for name in eds_names {
                    wanted.insert(name);
                }
                wanted
            }
        };
        let mut requests = vec![ack(TypeUrl::Cluster, message)];
        requests.extend(resubscribe(
            self.variant,
            TypeUrl::Endpoint,
            &mut self.endpoints,
            wanted,
        ));
        requests
    }

    fn on_listeners(&mut self, message: &Message) -> Vec<Request> {
        self.has_listeners = true;
        self.listeners.note(message);
        if self.variant == Variant::Sotw {
            self.routes_of.clear();
        }
        for name in message.removed.iter().chain(&message.names) {
            self.routes_of.remove(name);
        }
        for (listener, route) in &message.references {
            self.routes_of.entry(*listener).or_default().push(*route);
        }
        let wanted = self.routes_of.values().flatten().copied().collect();
        let mut requests = vec![ack(TypeUrl::Listener, message)];
        requests.extend(resubscribe(
            self.variant,
            TypeUrl::Route,
            &mut self.routes,
            wanted,
        ));
        self.virtual_hosts.wanted.keep_only(&self.routes.wanted);
        self.virtual_hosts.have.keep_only(&self.routes.wanted);
        requests
    }

    fn on_routes(&mut self, message: &Message) -> Vec<Request> {
        self.routes.add(message);
        let is_first = self.virtual_hosts.wanted.len() == 0;
        for (route, _) in &message.references {
            self.virtual_hosts.wanted.insert(*route);
        }
        let mut requests = vec![self.ack_named(TypeUrl::Route, message, &self.routes)];
        if is_first && self.virtual_hosts.wanted.len() > 0 {
            requests.push(subscribe_all(TypeUrl::VirtualHost));
        }
        requests
    }

    fn ack_named(&self, type_url: TypeUrl, message: &Message, named: &Subscription) -> Request {
        let mut request = ack(type_url, message);
        if self.variant == Variant::Sotw {
            request.names = Names::All(named.wanted.clone());
        }
        request
    }
}

fn subscribe_all(type_url: TypeUrl) -> Request {
    Request {
        type_url,
        version: String::new(),
        nonce: String::new(),
        names: Names::None,
        held: Vec::new(),
    }
}

fn ack(type_url: TypeUrl, message: &Message) -> Request {
    Request {
        type_url,
        version: message.version.clone(),
        nonce: message.nonce.clone(),
        names: Names::None,
        held: Vec::new(),
    }
}

/// Change what is wanted; the request that tells so, unless nothing changed.
fn resubscribe(
    variant: Variant,
    type_url: TypeUrl,
    named: &mut Subscription,
    wanted: NameSet,
) -> Option<Request> {
    if named.wanted == wanted {
        return None;
    }
    let before = std::mem::replace(&mut named.wanted, wanted);
    named.have.keep_only(&named.wanted);
    let mut request = subscribe_all(type_url);
    match variant {
        Variant::Sotw => {
            request.version.clone_from(&named.version);
            request.nonce.clone_from(&named.nonce);
            request.names = Names::All(named.wanted.clone());
        }
        Variant::Delta => {
            let added = named.wanted.iter().filter(|n| !before.contains(*n));
            let removed = before.iter().filter(|n| !named.wanted.contains(*n));
            request.names = Names::Delta {
                added: added.collect(),
                removed: removed.collect(),
            };
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use navarch_envoy::TypeUrl;

    use super::{Envoy, Names, Request};
    use crate::message::{Message, Variant};
    use crate::names::{Interner, NameId, VersionTable};

    fn message(type_url: TypeUrl, names: &[NameId], references: &[(NameId, NameId)]) -> Message {
        Message {
            type_url: Some(type_url),
            version: "v".into(),
            nonce: "n".into(),
            names: names.to_vec(),
            references: references.to_vec(),
            ..Message::default()
        }
    }

    fn told(requests: &[Request]) -> Vec<(TypeUrl, &str)> {
        let what = |r: &Request| if r.nonce.is_empty() { "new" } else { "ack" };
        requests.iter().map(|r| (r.type_url, what(r))).collect()
    }

    fn bring_up(variant: Variant, ids: &[NameId]) -> Envoy {
        use TypeUrl::{Cluster, Endpoint, Listener, Route};
        let mut envoy = Envoy::new(variant, false);
        let mut versions = VersionTable::default();
        let mut message = |type_url, names: &[NameId], references: &[_]| Message {
            versions: names.iter().map(|n| versions.intern(*n, b"v1")).collect(),
            ..message(type_url, names, references)
        };
        assert_eq!(told(&envoy.start()), [(Cluster, "new")]);
        let clusters = message(Cluster, &ids[..2], &[(ids[0], ids[0]), (ids[1], ids[1])]);
        let asked = envoy.on_message(&clusters);
        assert_eq!(told(&asked), [(Cluster, "ack"), (Endpoint, "new")]);
        let half = envoy.on_message(&message(Endpoint, &ids[..1], &[]));
        assert_eq!(told(&half), [(Endpoint, "ack")]);
        let whole = envoy.on_message(&message(Endpoint, &ids[1..2], &[]));
        assert_eq!(told(&whole), [(Endpoint, "ack"), (Listener, "new")]);
        let asked = envoy.on_message(&message(Listener, &ids[2..3], &[(ids[2], ids[3])]));
        assert_eq!(told(&asked), [(Listener, "ack"), (Route, "new")]);
        assert!(!envoy.is_in_sync());
        envoy.on_message(&message(Route, &ids[3..4], &[]));
        assert!(envoy.is_in_sync());
        envoy
    }

    fn ids() -> Vec<NameId> {
        let mut interner = Interner::default();
        ["c0", "c1", "l", "r", "c2", "r/host"]
            .iter()
            .map(|name| interner.intern(name.as_bytes()))
            .collect()
    }

    #[test]
    fn state_of_the_world_tells_all_names_each_time() {
        let ids = ids();
        let mut envoy = bring_up(Variant::Sotw, &ids);
        let clusters = message(TypeUrl::Cluster, &ids[..1], &[(ids[0], ids[0])]);
        let asked = envoy.on_message(&clusters);
        assert_eq!(asked[1].names, Names::All([ids[0]].into_iter().collect()));
        assert_eq!(asked[1].nonce, "n");
        assert!(envoy.is_in_sync());
    }

    #[test]
    fn delta_tells_what_changed() {
        let ids = ids();
        let mut envoy = bring_up(Variant::Delta, &ids);
        let mut clusters = message(TypeUrl::Cluster, &[ids[4]], &[(ids[4], ids[4])]);
        clusters.removed = vec![ids[1]];
        let asked = envoy.on_message(&clusters);
        let names = Names::Delta {
            added: vec![ids[4]],
            removed: vec![ids[1]],
        };
        assert_eq!(asked[1].names, names);
        assert!(!envoy.is_in_sync());
        envoy.on_message(&message(TypeUrl::Endpoint, &[ids[4]], &[]));
        assert!(envoy.is_in_sync());
    }

    #[test]
    fn another_stream_begins_with_what_it_has() {
        use TypeUrl::{Cluster, Endpoint, Listener, Route};
        let ids = ids();
        let mut envoy = bring_up(Variant::Delta, &ids);
        let mut clusters = message(Cluster, &[], &[]);
        clusters.removed = vec![ids[1]];
        envoy.on_message(&clusters);
        let asked = envoy.start();
        let news = [Cluster, Endpoint, Listener, Route].map(|t| (t, "new"));
        assert_eq!(told(&asked), news);
        let held = |i: usize| -> Vec<_> { asked[i].held.iter().map(|(n, _)| *n).collect() };
        assert_eq!([held(0), held(1)], [[ids[0]], [ids[0]]]);
        assert_eq!([held(2), held(3)], [[ids[2]], [ids[3]]]);
        assert!(envoy.is_in_sync());

        let mut envoy = bring_up(Variant::Sotw, &ids);
        let asked = envoy.start();
        assert_eq!(told(&asked), news);
        assert!(asked.iter().all(|r| r.version == "v" && r.held.is_empty()));
        let names = [ids[0], ids[1]].into_iter().collect();
        assert_eq!(asked[1].names, Names::All(names));
    }

    #[test]
    fn virtual_hosts_are_asked_for_without_names_and_told_again() {
        use TypeUrl::{Route, VirtualHost};
        let (ids, mut versions) = (ids(), VersionTable::default());
        let (r, host) = (ids[3], ids[5]);
        let mut envoy = bring_up(Variant::Delta, &ids);
        let asked = envoy.on_message(&message(Route, &[r], &[(r, r)]));
        assert_eq!(told(&asked), [(Route, "ack"), (VirtualHost, "new")]);
        assert_eq!(asked[1].names, Names::None);
        assert!(!envoy.is_in_sync());
        let hosts = Message {
            versions: vec![versions.intern(host, b"v1")],
            ..message(VirtualHost, &[host], &[(host, r)])
        };
        assert_eq!(told(&envoy.on_message(&hosts)), [(VirtualHost, "ack")]);
        assert!(envoy.is_in_sync());
        let asked = envoy.start();
        let again = asked.last().unwrap();
        let nothing = Names::Delta {
            added: Vec::new(),
            removed: Vec::new(),
        };
        assert_eq!((again.type_url, &again.names), (VirtualHost, &nothing));
        let held: Vec<_> = again.held.iter().map(|(name, _)| *name).collect();
        assert_eq!(held, [host]);
    }

    #[test]
    fn a_repeated_response_is_acknowledged_and_no_more() {
        let ids = ids();
        let mut envoy = bring_up(Variant::Delta, &ids);
        let asked = envoy.on_message(&message(TypeUrl::Cluster, &ids[..1], &[(ids[0], ids[0])]));
        assert_eq!(told(&asked), [(TypeUrl::Cluster, "ack")]);
    }
}
