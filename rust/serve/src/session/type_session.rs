//! One stream's state of one resource type.
//!
//! What the client holds is a reference (the lists last sent) and the exceptions to it, each of them
//! small and mostly empty: names asked for, kept back, or rejected.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use navarch_encode::{EncodedResource, ResourceList, Resources, Version};
use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use navarch_envoy::google::rpc::Status;

use super::nonce::Nonce;
use super::selection::{Gone, Selection};
use super::subscription::{Changes, Subscription};
use super::{Outcome, Rejection, TypeStatus, Variant, rejection};

#[derive(Debug)]
struct InFlight {
    version: Version,
    selection: Selection,
    /// It answers names that the client waits for.
    is_awaited: bool,
}

#[derive(Debug)]
pub(super) struct TypeSession {
    pub(super) type_url: TypeUrl,
    pub(super) subscription: Option<Subscription>,
    /// The fingerprint of the names last requested (state of the world).
    pub(super) requested: Option<Version>,
    /// What the client was led to, but for the exceptions below.
    pub(super) sent: Resources,
    /// An answer is due even if it is empty.
    pub(super) is_first: bool,
    /// Names to be answered even if unchanged.
    pub(super) asked: BTreeSet<Arc<str>>,
    /// Names that the client has been given reason to ask for, and has not asked for yet.
    expected: BTreeSet<Arc<str>>,
    /// Versions that the client brought along (`initial_resource_versions`), until the first response.
    pub(super) known: Option<BTreeMap<String, Option<Version>>>,
    /// The version that the client says it has (state of the world), until the first response.
    pub(super) claimed_version: String,
    /// Resources that are gone and not yet told, with the versions that the client holds (delta).
    pub(super) withheld: BTreeMap<Arc<str>, Option<Version>>,
    /// Resources that the client is not to hold any more, though they may be there, and that it is to be told so (delta).
    pub(super) released: Vec<Gone>,
    /// Resources that are gone and still sent (state of the world).
    pub(super) retained: Vec<Arc<EncodedResource>>,
    /// Parts of a rejected response, to be sent apart so that one bad resource keeps no other back.
    isolated: VecDeque<Vec<Arc<str>>>,
    /// Resources rejected alone: not sent again in that version.
    refused: BTreeMap<Arc<str>, Version>,
    /// The response rejected last, until a later one is accepted.
    rejected: Option<Box<Selection>>,
    in_flight: Option<InFlight>,
    latest_nonce: Option<Nonce>,
    sent_version: Option<Version>,
    accepted: Option<Version>,
    rejection: Option<Box<Rejection>>,
}

impl TypeSession {
    pub(super) fn new(type_url: TypeUrl) -> Self {
        Self {
            type_url,
            subscription: None,
            requested: None,
            sent: nothing(),
            is_first: false,
            asked: BTreeSet::new(),
            expected: BTreeSet::new(),
            known: None,
            claimed_version: String::new(),
            withheld: BTreeMap::new(),
            released: Vec::new(),
            retained: Vec::new(),
            isolated: VecDeque::new(),
            refused: BTreeMap::new(),
            rejected: None,
            in_flight: None,
            latest_nonce: None,
            sent_version: None,
            accepted: None,
            rejection: None,
        }
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscription.is_some()
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        self.subscription.as_ref().map_or(&[], Subscription::names)
    }

    pub(super) fn latest_nonce(&self) -> Option<Nonce> {
        self.latest_nonce
    }

    /// Whether the client was sent `target`, but for exceptions.
    pub(super) fn is_led_to(&self, target: &Resources) -> bool {
        self.sent.is_same(target)
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the client waits for names: asked for and not yet sent, or sent and not yet accepted.
    pub(super) fn is_warming(&self) -> bool {
        self.must_answer() || self.in_flight.as_ref().is_some_and(|f| f.is_awaited)
    }

    pub(super) fn must_answer(&self) -> bool {
        self.is_first || !self.asked.is_empty()
    }

    pub(super) fn may_send(&self) -> bool {
        self.is_subscribed() && !self.is_in_flight()
    }

    /// Whether the client keeps older resources in use because it rejected those of `target`.
    pub(super) fn is_behind(&self, target: &Resources) -> bool {
        let rejected = self.rejected.iter().flat_map(|s| s.resources());
        let refused = self.refused.iter();
        let mut standing = rejected.map(|r| (&r.name, &r.version)).chain(refused);
        standing.any(|(name, version)| {
            self.covers(name) && target.find(name).is_some_and(|r| r.version == *version)
        })
    }

    /// Whether there is nothing to make a response of: it was led to these very lists, and no exception is left.
    pub(super) fn has_nothing_of(&self, target: &Resources) -> bool {
        Arc::ptr_eq(&self.sent.shared, &target.shared)
            && Arc::ptr_eq(&self.sent.own, &target.own)
            && !self.must_answer()
            && self.known.is_none()
            && self.isolated.is_empty()
            && self.withheld.is_empty()
            && self.released.is_empty()
            && self.retained.is_empty()
    }

    /// Whether the client was told all of `target` and has answered.
    pub(super) fn is_quiet(&self, target: &Resources) -> bool {
        self.in_flight.is_none()
            && !self.must_answer()
            && self.isolated.is_empty()
            && self.withheld.is_empty()
            && self.released.is_empty()
            && self.retained.is_empty()
            && self.sent.is_same(target)
    }

    pub(super) fn status(&self) -> TypeStatus {
        TypeStatus {
            type_url: self.type_url,
            sent: self.sent_version,
            accepted: self.accepted,
            rejection: self.rejection.as_deref().cloned(),
        }
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        self.subscription.as_ref().is_some_and(|s| s.covers(name))
    }

    /// Ask for the virtual hosts of other route configurations; those whose are not asked for any more.
    pub(super) fn replace_routes(&mut self, routes: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let subscription = self.subscription.as_mut();
        let dropped = subscription.map_or_else(Vec::new, |s| s.replace_routes(routes));
        if !dropped.is_empty() {
            self.keep_covered();
        }
        dropped
    }

    /// Begin, or begin anew: nothing of before counts.
    pub(super) fn start(&mut self, subscription: Subscription) {
        let accepted = self.accepted;
        *self = Self {
            latest_nonce: self.latest_nonce,
            ..Self::new(self.type_url)
        };
        self.accepted = accepted;
        self.subscription = Some(subscription);
        self.is_first = true;
    }

    /// Note what a later request changed.
    pub(super) fn note(&mut self, changes: Changes) {
        for name in &changes.dropped {
            self.asked.remove(name);
            self.withheld.remove(name);
            self.refused.remove(name);
        }
        if changes.is_wildcard_again {
            // All that the client holds is told again, and what it holds no more rightly as gone.
            self.asked
                .extend(self.sent.iter().map(|r| Arc::clone(&r.name)));
            self.is_first = true;
        } else if changes.is_wildcard_new {
            // Of all that is asked for now, the client holds what it had asked for by name, or brought.
            if self.known.is_none() {
                let names = self.subscription.iter().flat_map(Subscription::names);
                let is_held =
                    |n: &&Arc<str>| !changes.asked.contains(*n) && !self.asked.contains(*n);
                let held = names.filter(is_held).filter_map(|n| self.sent.find(n));
                let held = held.map(|r| (r.name.as_ref().to_owned(), Some(r.version)));
                let untold = self
                    .withheld
                    .iter()
                    .map(|(n, v)| (n.as_ref().to_owned(), *v));
                self.known = Some(held.chain(untold).collect());
            }
            self.is_first = true;
        }
        for name in &changes.asked {
            self.expected.remove(name);
        }
        if changes.is_wildcard_new {
            self.expected.clear();
        }
        self.asked.extend(changes.asked);
        self.keep_covered();
    }

    /// Forget what concerns names that are not asked for.
    fn keep_covered(&mut self) {
        let mut asked = std::mem::take(&mut self.asked);
        asked.retain(|name| self.covers(name));
        self.asked = asked;
        let mut refused = std::mem::take(&mut self.refused);
        refused.retain(|name, _| self.covers(name));
        self.refused = refused;
    }

    /// Have names answered again as far as the client asks for them; the others it is expected to ask for.
    pub(super) fn ask_again(&mut self, names: Vec<Arc<str>>) {
        if !self.is_subscribed() {
            return;
        }
        let (covered, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|n| self.covers(n));
        if !self.is_first {
            self.asked.extend(covered);
        }
        self.expected.extend(others);
    }

    /// Whether the client has still to ask for something.
    pub(super) fn is_expecting(&self) -> bool {
        !self.expected.is_empty()
    }

    pub(super) fn expect_nothing(&mut self) {
        self.expected.clear();
    }

    /// What is not there any more need not be asked for.
    pub(super) fn expect_no_more_than(&mut self, target: &Resources) {
        self.expected.retain(|name| target.find(name).is_some());
    }

    /// The client's answer to the response in flight; `None` if there is none.
    pub(super) fn take_answer(&mut self, error: Option<&Status>) -> Option<Outcome> {
        let in_flight = self.in_flight.take()?;
        let Some(error) = error else {
            self.accepted = Some(in_flight.version);
            self.rejected = None;
            if self.refused.is_empty() {
                self.rejection = None;
            }
            return Some(Outcome::Accepted(self.type_url));
        };
        let rejection = rejection(self.type_url, in_flight.version, error);
        self.rejection = Some(Box::new(rejection.clone()));
        self.isolate(&in_flight.selection);
        self.rejected = Some(Box::new(in_flight.selection));
        Some(Outcome::Rejected(rejection))
    }

    /// After a rejection, send the halves of the response apart until the culprit is alone.
    ///
    /// Envoy applies the good clusters and listeners of a rejected response, but drops its route
    /// configurations and endpoints from the first bad one on.
    fn isolate(&mut self, selection: &Selection) {
        if matches!(
            self.type_url,
            TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::NameTable
        ) {
            return;
        }
        let resources: Vec<_> = selection.resources().collect();
        if self.type_url == TypeUrl::VirtualHost && !resources.is_empty() {
            // Envoy takes nothing of it for that route configuration, so what is gone is told again by itself.
            self.released.extend(selection.removed.iter().cloned());
        }
        match resources.as_slice() {
            [] => {}
            [culprit] => {
                self.refused
                    .insert(Arc::clone(&culprit.name), culprit.version);
            }
            many => {
                let (first, second) = many.split_at(many.len() / 2);
                for half in [second, first] {
                    let names = half.iter().map(|r| Arc::clone(&r.name)).collect();
                    self.isolated.push_front(names);
                }
            }
        }
    }

    /// What is to be sent next, if anything. Afterwards the client counts as led to `target`.
    pub(super) fn select(&mut self, target: &Resources, variant: Variant) -> Option<Selection> {
        let was_first = self.is_first;
        let mut missing: BTreeSet<Arc<str>> = BTreeSet::new();
        if was_first && let Some(subscription) = &self.subscription {
            let names = subscription.names().iter();
            missing.extend(names.filter(|n| target.find(n).is_none()).cloned());
        }
        let mut selection = match self.known.take() {
            Some(known) => self.select_unknown(&known, target),
            None => self.select_changed(target),
        };
        for name in std::mem::take(&mut self.asked) {
            self.isolated
                .iter_mut()
                .for_each(|names| names.retain(|n| *n != name));
            match target.find(&name) {
                Some(resource) if !selection.contains(&name) => {
                    selection.picked.push(Arc::clone(resource));
                }
                Some(_) => {}
                None => drop(missing.insert(name)),
            }
        }
        match variant {
            Variant::Delta => selection.absent = missing.into_iter().collect(),
            // Envoy keeps a cluster out of use until its endpoints are answered, so names without
            // endpoints get an empty assignment, as Istio does.
            Variant::Sotw if self.type_url == TypeUrl::Endpoint => {
                selection
                    .picked
                    .extend(missing.iter().map(|name| empty_endpoints(name)));
            }
            Variant::Sotw => {}
        }
        let released = std::mem::take(&mut self.released);
        let is_gone = |(name, _): &Gone| !self.covers(name) || target.find(name).is_none();
        selection
            .removed
            .extend(released.into_iter().filter(is_gone));
        selection
            .removed
            .retain(|(name, _)| !selection.absent.contains(name));
        self.withheld.retain(|name, _| target.find(name).is_none());
        self.sent = target.clone();
        self.is_first = false;
        (was_first || !selection.is_empty()).then_some(selection)
    }

    /// Send whole what was to be sent in parts.
    pub(super) fn forget_parts(&mut self) {
        self.isolated.clear();
        self.refused.clear();
    }

    /// The next part of a rejected response, in the versions of `target`.
    pub(super) fn select_isolated(&mut self, target: &Resources) -> Option<Selection> {
        while let Some(names) = self.isolated.pop_front() {
            let names = names.iter().filter(|n| self.covers(n));
            let picked: Vec<_> = names.filter_map(|n| target.find(n)).cloned().collect();
            if !picked.is_empty() {
                return Some(Selection {
                    picked,
                    ..Selection::default()
                });
            }
        }
        None
    }

    /// What differs from the versions that the client brought along.
    fn select_unknown(
        &self,
        known: &BTreeMap<String, Option<Version>>,
        target: &Resources,
    ) -> Selection {
        let is_new = |r: &&Arc<EncodedResource>| {
            self.covers(&r.name)
                && !self.is_excepted(r)
                && known.get(&*r.name).copied().flatten() != Some(r.version)
        };
        let gone = known
            .iter()
            .filter(|(n, _)| self.covers(n) && target.find(n).is_none());
        Selection {
            picked: target.iter().filter(is_new).cloned().collect(),
            removed: gone
                .map(|(n, version)| (n.as_str().into(), *version))
                .collect(),
            ..Selection::default()
        }
    }

    /// What changed since the lists last sent.
    fn select_changed(&mut self, target: &Resources) -> Selection {
        let mut selection = Selection::default();
        if self.sent.is_same(target) {
            return selection;
        }
        let still = |n: &Arc<str>, v: &Version| target.find(n).is_some_and(|r| r.version == *v);
        self.refused.retain(|name, version| still(name, version));
        let shared = target.shared.diff_from(&self.sent.shared);
        let own = target.own.diff_alone_from(&self.sent.own);
        for (diff, other) in [(&shared, &own), (&own, &shared)] {
            if diff.is_empty() {
                continue;
            }
            let is_moved = |r: &EncodedResource| {
                other.removed.binary_search(&r.name).is_ok()
                    && self
                        .sent
                        .find(&r.name)
                        .is_some_and(|old| old.version == r.version)
            };
            let is_wanted = |r: &&Arc<EncodedResource>| {
                self.covers(&r.name)
                    && !self.is_excepted(r)
                    && !is_moved(r)
                    && self.withheld.get(&r.name) != Some(&Some(r.version))
            };
            let n_wanted = diff.changed.iter().filter(is_wanted).count();
            if n_wanted == diff.changed.len() {
                selection.whole.push(Arc::clone(diff));
            } else {
                selection
                    .picked
                    .extend(diff.changed.iter().filter(is_wanted).cloned());
            }
            let gone = diff.removed.iter();
            let gone = gone.filter(|n| self.covers(n) && target.find(n).is_none());
            let held = |n: &str| self.sent.find(n).map(|r| r.version);
            selection
                .removed
                .extend(gone.map(|n| (Arc::clone(n), held(n))));
        }
        selection
    }

    fn is_excepted(&self, resource: &EncodedResource) -> bool {
        self.refused.get(&resource.name) == Some(&resource.version)
            || self.isolated.iter().flatten().any(|n| *n == resource.name)
    }

    /// Note a response as sent and waiting for its answer.
    pub(super) fn put_in_flight(
        &mut self,
        nonce: Nonce,
        version: Version,
        selection: Selection,
        is_awaited: bool,
    ) {
        self.latest_nonce = Some(nonce);
        self.sent_version = Some(version);
        self.in_flight = Some(InFlight {
            version,
            selection,
            is_awaited,
        });
    }

    /// The resources that are sent and not answered yet.
    pub(super) fn resources_in_flight(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.in_flight.iter().flat_map(|f| f.selection.resources())
    }

    /// The names that the resources in flight make the client ask for.
    pub(super) fn references_in_flight(&self) -> Vec<Arc<str>> {
        self.resources_in_flight()
            .flat_map(|r| r.references.iter().cloned())
            .collect()
    }
}

fn nothing() -> Resources {
    static EMPTY: std::sync::OnceLock<Arc<ResourceList>> = std::sync::OnceLock::new();
    let empty = EMPTY.get_or_init(ResourceList::empty);
    Resources {
        shared: Arc::clone(empty),
        own: Arc::clone(empty),
    }
}

fn empty_endpoints(name: &str) -> Arc<EncodedResource> {
    Arc::new(EncodedResource::encode(&ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        ..ClusterLoadAssignment::default()
    }))
}
