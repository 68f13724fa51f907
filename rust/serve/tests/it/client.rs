//! A model client: holds what it was sent, as a data plane would, and checks each response on arrival.

use std::collections::{BTreeMap, BTreeSet};

use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use navarch_envoy::google::rpc::Status;
use navarch_serve::session::{Outcome, Response, Session, Variant};
use prost::Message;

/// One type's state in the client.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Names to encoded `Any`s.
    pub(crate) resources: BTreeMap<String, Vec<u8>>,
    /// Versions by name (delta).
    pub(crate) versions: BTreeMap<String, String>,
    /// The names that are subscribed to.
    pub(crate) names: BTreeSet<String>,
    /// Whether everything is.
    pub(crate) is_wildcard: bool,
    /// Whether it is because the first request had no names.
    pub(crate) is_legacy: bool,
    /// Whether anything was ever asked.
    pub(crate) is_subscribed: bool,
    /// The nonces that were received and not answered.
    pub(crate) open: Vec<String>,
    /// The last nonce that was received.
    pub(crate) last_nonce: String,
    /// The last version that was accepted.
    pub(crate) version: String,
    /// Names whose content may come unchanged: asked for, in a rejected response, or warming.
    pub(crate) excused: BTreeSet<String>,
}

impl Held {
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.is_wildcard || self.names.contains(name)
    }
}

/// What one response said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) type_url: TypeUrl,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) names: Vec<String>,
    pub(crate) removed: Vec<String>,
}

/// A client of one stream.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) variant: Variant,
    pub(crate) held: BTreeMap<TypeUrl, Held>,
}

impl Client {
    pub(crate) fn new(session: Session, variant: Variant) -> Self {
        Self {
            session,
            variant,
            held: BTreeMap::new(),
        }
    }

    pub(crate) fn of(&mut self, type_url: TypeUrl) -> &mut Held {
        self.held.entry(type_url).or_default()
    }

    /// Subscribe to more names (`*` for all) and drop others; no names in a first request mean all.
    pub(crate) fn subscribe(&mut self, type_url: TypeUrl, add: &[&str], drop: &[&str]) -> Outcome {
        let variant = self.variant;
        let held = self.of(type_url);
        let is_first = !held.is_subscribed;
        let was_named = held.is_subscribed && !held.is_legacy;
        held.is_subscribed = true;
        if is_first && add.is_empty() && type_url.has_legacy_wildcard() {
            (held.is_wildcard, held.is_legacy) = (true, true);
        }
        for name in add {
            if *name == "*" {
                if held.is_wildcard {
                    let again: Vec<String> = held.resources.keys().cloned().collect();
                    held.excused.extend(again);
                }
                (held.is_wildcard, held.is_legacy) = (true, false);
                continue;
            }
            held.names.insert((*name).to_owned());
            held.excused.insert((*name).to_owned());
        }
        for name in drop {
            if *name == "*" {
                held.is_wildcard = false;
            } else if held.names.remove(*name) {
                held.excused.insert((*name).to_owned());
            }
        }
        if variant == Variant::Sotw && (add.contains(&"*") || drop.contains(&"*")) {
            // Going to or from a wildcard, what is asked for by name is answered again.
            held.excused.extend(held.names.iter().cloned());
        }
        if variant == Variant::Sotw {
            let is_explicit = held.is_wildcard && !held.is_legacy;
            let is_legacy = type_url.has_legacy_wildcard()
                && held.names.is_empty()
                && !is_explicit
                && !was_named;
            held.is_wildcard = is_legacy || is_explicit;
            held.is_legacy = is_legacy;
        }
        let (is_wildcard, names) = (held.is_wildcard, held.names.clone());
        if !is_wildcard {
            held.resources.retain(|n, _| names.contains(n));
            held.versions.retain(|n, _| names.contains(n));
        }
        match variant {
            Variant::Delta => self.send_delta(&DeltaDiscoveryRequest {
                type_url: type_url.to_string(),
                resource_names_subscribe: add.iter().map(|n| (*n).to_owned()).collect(),
                resource_names_unsubscribe: drop.iter().map(|n| (*n).to_owned()).collect(),
                ..DeltaDiscoveryRequest::default()
            }),
            Variant::Sotw => {
                // In this form a request with the latest nonce accepts, whatever else it is for.
                let held = self.of(type_url);
                held.open.clear();
                let nonce = held.last_nonce.clone();
                self.send_sotw(type_url, &nonce, None)
            }
        }
    }

    /// Subscribe to all for the first time with what a former stream had brought (delta).
    pub(crate) fn resume(&mut self, type_url: TypeUrl, names: &[&str], former: &Held) -> Outcome {
        let held = self.of(type_url);
        held.is_subscribed = true;
        held.is_wildcard = names.is_empty();
        held.names = names.iter().map(|n| (*n).to_owned()).collect();
        held.resources.clone_from(&former.resources);
        held.versions.clone_from(&former.versions);
        self.send_delta(&DeltaDiscoveryRequest {
            type_url: type_url.to_string(),
            resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
            initial_resource_versions: former.versions.clone(),
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Accept the oldest open response of a type, or reject it with a message.
    pub(crate) fn answer(&mut self, type_url: TypeUrl, rejection: Option<&str>) -> Option<Outcome> {
        let held = self.of(type_url);
        if held.open.is_empty() {
            return None;
        }
        let nonce = held.open.remove(0);
        if rejection.is_some() {
            let names: Vec<String> = held.resources.keys().cloned().collect();
            held.excused.extend(names);
        }
        Some(self.answer_nonce(type_url, &nonce, rejection))
    }

    /// Answer any nonce, also a stale one.
    pub(crate) fn answer_nonce(
        &mut self,
        type_url: TypeUrl,
        nonce: &str,
        rejection: Option<&str>,
    ) -> Outcome {
        let error = rejection.map(|m| Status {
            code: 13,
            message: m.to_owned(),
            details: vec![],
        });
        match self.variant {
            Variant::Sotw => self.send_sotw(type_url, nonce, error),
            Variant::Delta => self.send_delta(&DeltaDiscoveryRequest {
                type_url: type_url.to_string(),
                response_nonce: nonce.to_owned(),
                error_detail: error,
                ..DeltaDiscoveryRequest::default()
            }),
        }
    }

    fn send_delta(&mut self, request: &DeltaDiscoveryRequest) -> Outcome {
        self.session.on_delta(request).unwrap()
    }

    fn send_sotw(&mut self, type_url: TypeUrl, nonce: &str, error: Option<Status>) -> Outcome {
        let held = self.of(type_url);
        let mut resource_names: Vec<String> = held.names.iter().cloned().collect();
        if held.is_wildcard && !held.is_legacy {
            resource_names.push("*".to_owned());
        }
        let request = DiscoveryRequest {
            type_url: type_url.to_string(),
            version_info: held.version.clone(),
            resource_names,
            response_nonce: nonce.to_owned(),
            error_detail: error,
            ..DiscoveryRequest::default()
        };
        self.session.on_sotw(&request.into()).unwrap()
    }

    /// Take the next response, if any, and check it.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        let response = self.session.next_response()?;
        let bytes = response.segments.concat();
        let received = match self.variant {
            Variant::Sotw => {
                self.receive_sotw(&response, &DiscoveryResponse::decode(&*bytes).unwrap())
            }
            Variant::Delta => {
                self.receive_delta(&response, &DeltaDiscoveryResponse::decode(&*bytes).unwrap())
            }
        };
        if received.type_url == TypeUrl::Cluster {
            // Envoy waits for the endpoints of clusters that it warms.
            let names = received.names.clone();
            self.of(TypeUrl::Endpoint).excused.extend(names);
        }
        Some(received)
    }

    fn note(&mut self, response: &Response, nonce: &str, version: &str) -> &mut Held {
        let held = self.held.entry(response.type_url).or_default();
        assert!(held.is_subscribed, "a response to nobody's question");
        assert!(
            held.open.is_empty(),
            "two responses of {} wait for an answer",
            response.type_url
        );
        assert_eq!(nonce, response.nonce.to_string());
        assert_ne!(nonce, held.last_nonce);
        held.open.push(nonce.to_owned());
        nonce.clone_into(&mut held.last_nonce);
        version.clone_into(&mut held.version);
        held
    }

    fn receive_delta(&mut self, response: &Response, message: &DeltaDiscoveryResponse) -> Received {
        assert_eq!(message.type_url, response.type_url.as_str());
        let held = self.note(response, &message.nonce, &message.system_version_info);
        let mut names = Vec::new();
        for resource in &message.resources {
            let bytes = resource.resource.as_ref().unwrap().encode_to_vec();
            assert!(
                held.covers(&resource.name),
                "{} was not asked for",
                resource.name
            );
            assert!(
                !names.contains(&resource.name),
                "{} comes twice",
                resource.name
            );
            let is_excused = held.excused.remove(&resource.name);
            let before = held.resources.insert(resource.name.clone(), bytes.clone());
            assert!(
                is_excused || before != Some(bytes),
                "{} did not change",
                resource.name
            );
            held.versions
                .insert(resource.name.clone(), resource.version.clone());
            names.push(resource.name.clone());
        }
        for name in &message.removed_resources {
            assert!(!names.contains(name), "{name} is sent and removed");
            held.resources.remove(name);
            held.versions.remove(name);
        }
        Received {
            type_url: response.type_url,
            nonce: message.nonce.clone(),
            version: message.system_version_info.clone(),
            names,
            removed: message.removed_resources.clone(),
        }
    }

    fn receive_sotw(&mut self, response: &Response, message: &DiscoveryResponse) -> Received {
        assert_eq!(message.type_url, response.type_url.as_str());
        let held = self.note(response, &message.nonce, &message.version_info);
        let is_whole =
            matches!(response.type_url, TypeUrl::Cluster | TypeUrl::Listener) || held.is_wildcard;
        let before = held.resources.clone();
        if is_whole {
            held.resources.clear();
        }
        let mut names = Vec::new();
        for any in &message.resources {
            let name = name_of(response.type_url, &any.value);
            assert!(held.covers(&name), "{name} was not asked for");
            let bytes = any.encode_to_vec();
            let is_excused = held.excused.remove(&name);
            assert!(
                is_whole || is_excused || before.get(&name) != Some(&bytes),
                "{name} did not change"
            );
            assert!(!names.contains(&name), "{name} comes twice");
            held.resources.insert(name.clone(), bytes);
            names.push(name);
        }
        Received {
            type_url: response.type_url,
            nonce: message.nonce.clone(),
            version: message.version_info.clone(),
            names,
            removed: Vec::new(),
        }
    }

    /// Receive and accept until nothing more comes; what came, in order.
    pub(crate) fn settle(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            let types: Vec<TypeUrl> = self.held.keys().copied().collect();
            let n_answered = types
                .into_iter()
                .filter_map(|t| self.answer(t, None))
                .count();
            let before = all.len();
            all.extend(std::iter::from_fn(|| self.receive()));
            assert!(
                all.len() < 1000,
                "the session never settles: {:?}",
                &all[990..]
            );
            if n_answered == 0 && all.len() == before {
                return all;
            }
        }
    }
}

/// The resource's name: all four types have it as their field 1.
fn name_of(type_url: TypeUrl, value: &[u8]) -> String {
    let json = navarch_envoy::json::to_json(type_url.as_str(), value);
    let field = if type_url == TypeUrl::Endpoint {
        "cluster_name"
    } else {
        "name"
    };
    json[field].as_str().unwrap_or_default().to_owned()
}
