//! The cache from a builder's inputs to its encoded result, and the interner of equal results.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use navarch_envoy::TypeUrl;
use navarch_model::Diagnostic;

use crate::resource::{Body, EncodedResource};
use crate::shared_body::lock;
use crate::version::{InputsKey, content_key};

/// Dead entries are swept when a map has grown to twice what was alive, and not below this size.
const SWEEP_FLOOR: usize = 1024;

/// Encoded resources by their builders' inputs.
///
/// Holds weak references only: what no [`crate::ResourceSnapshot`] uses any more is gone, so the
/// cache is never larger than the snapshots in use (and their last sweep).
#[derive(Debug, Default)]
pub struct ResourceCache {
    by_inputs: Mutex<WeakMap<(TypeUrl, InputsKey)>>,
    by_content: Mutex<WeakMap<u128>>,
    hits: AtomicU64,
    misses: AtomicU64,
    verify: bool,
}

#[derive(Debug)]
struct WeakMap<K> {
    entries: BTreeMap<K, Weak<EncodedResource>>,
    sweep_at: usize,
}

impl<K: Ord> Default for WeakMap<K> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            sweep_at: SWEEP_FLOOR,
        }
    }
}

impl<K: Ord> WeakMap<K> {
    fn insert(&mut self, key: K, resource: &Arc<EncodedResource>) {
        self.entries.insert(key, Arc::downgrade(resource));
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, weak| weak.strong_count() > 0);
            self.sweep_at = SWEEP_FLOOR.max(self.entries.len() * 2);
        }
    }
}

/// How often the cache was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// Answers without building.
    pub hits: u64,
    /// Answers built and encoded.
    pub misses: u64,
}

impl ResourceCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// A cache that also builds on each hit and compares: for tests and fuzzing.
    ///
    /// A difference is a field that a builder reads and its `Hash` leaves out; it panics.
    pub fn verifying() -> Self {
        Self {
            verify: true,
            ..Self::default()
        }
    }

    /// The encoded result of `build(inputs)`, from the cache if those inputs are known.
    pub fn resolve<I, M>(&self, inputs: &I, build: impl FnOnce(&I) -> M) -> Arc<EncodedResource>
    where
        I: Hash + ?Sized,
        M: Body,
    {
        let key = (M::TYPE_URL, InputsKey::of(inputs));
        let known = lock(&self.by_inputs)
            .entries
            .get(&key)
            .and_then(Weak::upgrade);
        if let Some(known) = known {
            self.hits.fetch_add(1, Ordering::Relaxed);
            if self.verify {
                let again = EncodedResource::encode(&build(inputs));
                assert!(
                    again.any == known.any,
                    "{} depends on more than its inputs",
                    known.name
                );
            }
            return known;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let resource = self.intern(EncodedResource::encode(&build(inputs)));
        lock(&self.by_inputs).insert(key, &resource);
        resource
    }

    /// As [`Self::resolve`], of a builder that may make nothing and may have something to say.
    ///
    /// What is not made is not remembered either: the builder runs again the next time.
    pub fn resolve_built<I, M>(
        &self,
        inputs: &I,
        build: impl FnOnce(&I) -> (Option<M>, Vec<Diagnostic>),
    ) -> (Option<Arc<EncodedResource>>, Vec<Diagnostic>)
    where
        I: Hash + ?Sized,
        M: Body,
    {
        let key = (M::TYPE_URL, InputsKey::of(inputs));
        if !self.verify
            && let Some(known) = self.find(key)
        {
            return (Some(known), Vec::new());
        }
        let (message, diagnostics) = build(inputs);
        let Some(message) = message else {
            return (None, diagnostics);
        };
        let made = EncodedResource {
            diagnostics: diagnostics.into(),
            ..EncodedResource::encode(&message)
        };
        if let Some(known) = self.find(key) {
            assert!(
                made.any == known.any,
                "{} depends on more than its inputs",
                known.name
            );
            return (Some(known), Vec::new());
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let resource = self.intern(made);
        lock(&self.by_inputs).insert(key, &resource);
        (Some(resource), Vec::new())
    }

    fn find(&self, key: (TypeUrl, InputsKey)) -> Option<Arc<EncodedResource>> {
        let known = lock(&self.by_inputs)
            .entries
            .get(&key)
            .and_then(Weak::upgrade)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(known)
    }

    /// The encoded form of a message whose inputs are not tracked.
    pub fn encode<M: Body>(&self, message: &M) -> Arc<EncodedResource> {
        self.intern(EncodedResource::encode(message))
    }

    /// How often the cache was asked, since it was made.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// One allocation for equal resources; the type and the name are part of the bytes.
    fn intern(&self, resource: EncodedResource) -> Arc<EncodedResource> {
        let key = content_key(&resource.any);
        let mut by_content = lock(&self.by_content);
        if let Some(known) = by_content.entries.get(&key).and_then(Weak::upgrade)
            && known.any == resource.any
            && known.diagnostics == resource.diagnostics
        {
            return known;
        }
        let resource = Arc::new(resource);
        by_content.insert(key, &resource);
        resource
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_envoy::envoy::config::cluster::v3::Cluster;

    use super::{CacheCounts, ResourceCache, SWEEP_FLOOR};

    fn build(name: &&str) -> Cluster {
        Cluster {
            name: (*name).into(),
            ..Cluster::default()
        }
    }

    #[test]
    fn equal_inputs_are_built_once() {
        let cache = ResourceCache::new();
        let first = cache.resolve(&"a", build);
        let second = cache.resolve(&"a", |_| -> Cluster { unreachable!("cached") });
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(cache.counts(), CacheCounts { hits: 1, misses: 1 });
    }

    #[test]
    fn equal_results_of_other_inputs_are_one_allocation() {
        let cache = ResourceCache::new();
        let first = cache.resolve(&1_u8, |_| build(&"a"));
        let second = cache.resolve(&2_u8, |_| build(&"a"));
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let cache = ResourceCache::new();
        for i in 0..4 * SWEEP_FLOOR {
            drop(cache.resolve(&i, |i| Cluster {
                name: i.to_string(),
                ..Cluster::default()
            }));
        }
        assert!(cache.by_inputs.lock().unwrap().entries.len() <= SWEEP_FLOOR);
        assert!(cache.by_content.lock().unwrap().entries.len() <= SWEEP_FLOOR);
    }

    #[test]
    #[should_panic(expected = "depends on more than its inputs")]
    fn a_builder_that_sees_more_than_its_inputs_is_found() {
        let cache = ResourceCache::verifying();
        let _held = cache.resolve(&"a", build);
        let _ = cache.resolve(&"a", |_| build(&"b"));
    }
}
