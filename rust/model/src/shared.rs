//! Values with a hash that is made once and is the same on every replica.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// A hasher without a random seed, 128 bits wide (XXH3).
#[derive(Clone, Default)]
pub struct StableHasher(Xxh3);

impl StableHasher {
    /// The digest of all that was written.
    pub fn finish128(&self) -> u128 {
        self.0.digest128()
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0.digest()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// The stable 128-bit hash of a value.
pub fn hash128<T: Hash + ?Sized>(value: &T) -> u128 {
    let mut hasher = StableHasher::default();
    value.hash(&mut hasher);
    hasher.finish128()
}

/// The stable 128-bit hash of a text alone, which costs less than [`hash128`]'s; not the same as that.
pub fn hash_text(text: impl AsRef<[u8]>) -> u128 {
    xxh3_128(text.as_ref())
}

struct Entry<T> {
    hash: u128,
    value: T,
}

/// A shared immutable value that hashes and compares in constant time.
///
/// Two are equal when their 128-bit hashes are: a builder's inputs made of these are compared by
/// a few words, however large the objects are.
pub struct Shared<T>(Arc<Entry<T>>);

impl<T: Hash> Shared<T> {
    /// Hash a value once and share it.
    pub fn new(value: T) -> Self {
        let hash = hash128(&value);
        Self(Arc::new(Entry { hash, value }))
    }
}

impl<T: Hash + Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Shared<T> {
    /// The hash made at construction.
    pub fn hash128(&self) -> u128 {
        self.0.hash
    }

    /// Whether both are the very same allocation.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.hash);
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl<T> Eq for Shared<T> {}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}
