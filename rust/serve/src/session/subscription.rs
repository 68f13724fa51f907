//! What a stream asked for, of one resource type.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use navarch_encode::{Resources, route_of};
use navarch_envoy::TypeUrl;

/// The name that subscribes to everything.
const WILDCARD: &str = "*";

/// Sets of names shared by all streams that ask for the same: the thousands of endpoint names of a
/// sidecar are in memory once, not once a stream.
#[derive(Debug, Default)]
pub struct NameSets {
    sets: Mutex<BTreeSet<Arc<[Arc<str>]>>>,
}

/// Sets smaller than this are not worth sharing.
const SHARED_FROM: usize = 32;
/// How many sets are shared; beyond it a stream has its own, which costs memory only.
const MAX_SETS: usize = 256;

impl NameSets {
    /// No sets yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The shared form of a sorted set of names.
    fn intern(&self, names: Vec<Arc<str>>) -> Arc<[Arc<str>]> {
        if names.len() < SHARED_FROM {
            return names.into();
        }
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sets.get(names.as_slice()) {
            return Arc::clone(known);
        }
        // A set that only this table holds is used by no stream any more.
        sets.retain(|set| Arc::strong_count(set) > 1);
        let set: Arc<[Arc<str>]> = names.into();
        if sets.len() < MAX_SETS {
            sets.insert(Arc::clone(&set));
        }
        set
    }
}

/// The names that a request changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Names that must be answered: newly asked for, or asked for again.
    pub(super) asked: BTreeSet<Arc<str>>,
    /// Names that are no longer asked for.
    pub(super) dropped: Vec<Arc<str>>,
    /// Everything is asked for, and was not before.
    pub(super) is_wildcard_new: bool,
    /// Everything is asked for once more.
    pub(super) is_wildcard_again: bool,
}

/// Everything, or names, or both; of virtual hosts those of route configurations.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    /// Whether names are those of route configurations, whose virtual hosts all are meant: the client's own names do not
    /// count, see [`super::virtual_hosts`].
    is_of_routes: bool,
    is_wildcard: bool,
    /// Wildcard because the first request had no names (the form from before `*`).
    is_legacy: bool,
    names: Arc<[Arc<str>]>,
}

/// Where the spelling of a name comes from: the resources first, so that names are shared with them.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) resources: &'a Resources,
    pub(super) sets: &'a NameSets,
}

impl Names<'_> {
    fn shared(self, name: &str) -> Arc<str> {
        self.resources
            .find(name)
            .map_or_else(|| name.into(), |r| Arc::clone(&r.name))
    }
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            is_of_routes: false,
            is_wildcard: false,
            is_legacy: false,
            names: Vec::new().into(),
        }
    }
}

impl Subscription {
    /// The subscription of the first request of a type.
    ///
    /// Without names it means everything, for the types that have that form; for the others, nothing.
    pub(super) fn first(type_url: TypeUrl, requested: &[String], names: Names<'_>) -> Self {
        let mut subscription = Self {
            is_of_routes: type_url == TypeUrl::VirtualHost,
            ..Self::default()
        };
        if subscription.is_of_routes {
            return subscription;
        }
        if requested.is_empty() && type_url.has_legacy_wildcard() {
            subscription.is_wildcard = true;
            subscription.is_legacy = true;
        } else {
            subscription.replace(requested, names);
        }
        subscription
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        if self.is_of_routes { &[] } else { &self.names }
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.binary_search_by(|n| (**n).cmp(name)).is_ok()
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        if self.is_of_routes {
            return route_of(name).is_some_and(|route| self.has_name(route));
        }
        self.is_wildcard || self.has_name(name)
    }

    /// Ask for the virtual hosts of these route configurations; those whose are not asked for any more.
    pub(super) fn replace_routes(&mut self, routes: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        if routes.iter().eq(self.names.iter()) {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.names, routes.iter().cloned().collect());
        let dropped = before.iter().filter(|route| !routes.contains(*route));
        dropped.cloned().collect()
    }

    /// Take over the full list of names of a later state-of-the-world request.
    ///
    /// No names keep a wildcard that began without names, and unsubscribe from all otherwise.
    pub(super) fn replace(&mut self, requested: &[String], names: Names<'_>) -> Changes {
        if self.is_of_routes || (requested.is_empty() && self.is_legacy) {
            return Changes::default();
        }
        let was_wildcard = self.is_wildcard;
        self.is_legacy = false;
        self.is_wildcard = requested.iter().any(|n| n == WILDCARD);
        let mut sorted: Vec<&str> = requested.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.retain(|n| *n != WILDCARD);
        let mut changes = Changes {
            is_wildcard_new: self.is_wildcard && !was_wildcard,
            ..Changes::default()
        };
        if sorted.len() == self.names.len()
            && sorted.iter().zip(&*self.names).all(|(a, b)| **a == **b)
        {
            return changes;
        }
        let before = std::mem::replace(&mut self.names, Vec::new().into());
        let mut after = Vec::with_capacity(sorted.len());
        let mut old = before.iter().peekable();
        for name in sorted {
            while let Some(gone) = old.next_if(|n| &***n < name) {
                changes.dropped.push(Arc::clone(gone));
            }
            if let Some(kept) = old.next_if(|n| &***n == name) {
                after.push(Arc::clone(kept));
            } else {
                let name = names.shared(name);
                changes.asked.insert(Arc::clone(&name));
                after.push(name);
            }
        }
        changes.dropped.extend(old.cloned());
        self.names = names.sets.intern(after);
        changes
    }

    /// Add and take away names as a delta request says.
    pub(super) fn change(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        names: Names<'_>,
    ) -> Changes {
        let mut changes = Changes::default();
        if self.is_of_routes {
            return changes;
        }
        let mut set: Option<BTreeSet<Arc<str>>> = None;
        for name in subscribe {
            if name == WILDCARD {
                changes.is_wildcard_new |= !self.is_wildcard;
                changes.is_wildcard_again |= self.is_wildcard;
                self.is_wildcard = true;
                continue;
            }
            let name = names.shared(name);
            set.get_or_insert_with(|| self.names.iter().cloned().collect())
                .insert(Arc::clone(&name));
            changes.asked.insert(name);
        }
        for name in unsubscribe {
            if name == WILDCARD {
                self.is_wildcard = false;
                self.is_legacy = false;
                changes.is_wildcard_new = false;
                changes.is_wildcard_again = false;
                continue;
            }
            let set = set.get_or_insert_with(|| self.names.iter().cloned().collect());
            if let Some(name) = set.take(name.as_str()) {
                changes.asked.remove(&name);
                changes.dropped.push(name);
            }
        }
        if let Some(set) = set {
            self.names = names.sets.intern(set.into_iter().collect());
        }
        if self.is_wildcard {
            // The client forgot the name and can't tell whether the wildcard still has it: it is told.
            // https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#unsubscribing-from-resources
            changes.asked.extend(changes.dropped.drain(..));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use navarch_encode::ResourceSnapshot;
    use navarch_envoy::TypeUrl;

    use super::{Changes, NameSets, Names, SHARED_FROM, Subscription};

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn with_names<T>(run: impl FnOnce(Names<'_>) -> T) -> T {
        let snapshot = ResourceSnapshot::default();
        let sets = NameSets::new();
        run(Names {
            resources: snapshot.resources(TypeUrl::Cluster),
            sets: &sets,
        })
    }

    fn asked(changes: &Changes) -> Vec<&str> {
        changes.asked.iter().map(AsRef::as_ref).collect()
    }

    fn dropped(changes: &Changes) -> Vec<&str> {
        changes.dropped.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn no_names_first_mean_all_for_clusters_and_none_for_endpoints() {
        with_names(|names| {
            assert!(Subscription::first(TypeUrl::Cluster, &[], names).covers("x"));
            assert!(!Subscription::first(TypeUrl::Endpoint, &[], names).covers("x"));
            assert!(Subscription::first(TypeUrl::Endpoint, &texts(&["*"]), names).covers("x"));
        });
    }

    #[test]
    fn legacy_wildcard_ends_with_the_first_name() {
        with_names(|names| {
            let mut subscription = Subscription::first(TypeUrl::Cluster, &[], names);
            assert_eq!(subscription.replace(&[], names), Changes::default());
            let changes = subscription.replace(&texts(&["a"]), names);
            assert_eq!(asked(&changes), ["a"]);
            assert!(subscription.covers("a") && !subscription.covers("b"));
            assert_eq!(dropped(&subscription.replace(&[], names)), ["a"]);
            assert!(subscription.names().is_empty() && !subscription.covers("a"));
        });
    }

    #[test]
    fn a_list_of_names_replaces_the_former() {
        with_names(|names| {
            let mut subscription =
                Subscription::first(TypeUrl::Endpoint, &texts(&["c", "a", "b", "a"]), names);
            let same = subscription.replace(&texts(&["b", "a", "c"]), names);
            assert_eq!(same, Changes::default());
            let changes = subscription.replace(&texts(&["d", "b", "*"]), names);
            assert_eq!(
                (asked(&changes), dropped(&changes)),
                (vec!["d"], vec!["a", "c"])
            );
            assert!(changes.is_wildcard_new);
        });
    }

    #[test]
    fn delta_names_come_and_go() {
        with_names(|names| {
            let mut subscription = Subscription::default();
            let changes = subscription.change(&texts(&["a", "b"]), &[], names);
            assert_eq!(asked(&changes), ["a", "b"]);
            let changes = subscription.change(&texts(&["a"]), &texts(&["b", "never"]), names);
            assert_eq!((asked(&changes), dropped(&changes)), (vec!["a"], vec!["b"]));
            let changes = subscription.change(&texts(&["*"]), &[], names);
            assert!(changes.is_wildcard_new && !changes.is_wildcard_again);
            assert_eq!(
                asked(&subscription.change(&[], &texts(&["a"]), names)),
                ["a"]
            );
            assert!(subscription.covers("a"));
            subscription.change(&[], &texts(&["*"]), names);
            assert!(subscription.names().is_empty() && !subscription.covers("a"));
        });
    }

    #[test]
    fn equal_sets_are_one_allocation() {
        with_names(|names| {
            let many: Vec<String> = (0..SHARED_FROM).map(|i| format!("{i:03}")).collect();
            let one = Subscription::first(TypeUrl::Endpoint, &many, names);
            let two = Subscription::first(TypeUrl::Endpoint, &many, names);
            assert!(std::ptr::eq(one.names(), two.names()));
        });
    }
}
