//! Small values by the hash of what they belong to.

#![expect(
    clippy::disallowed_types,
    reason = "one that can't be walked: its order reaches nothing, and names are asked for ten times as often as there are any"
)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Values by 128-bit hashes, which are taken for what they were made from, as everywhere.
///
/// It is only asked: it has no order that could reach an output.
#[derive(Debug)]
pub(super) struct ByHash<V>(HashMap<u128, V, BuildHasherDefault<LowBits>>);

impl<V: Copy> ByHash<V> {
    /// With room for so many.
    pub(super) fn with_capacity(n: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(
            n,
            BuildHasherDefault::default(),
        ))
    }

    /// The value of a hash; what `new` says where it has none yet.
    pub(super) fn of(&mut self, hash: u128, new: V) -> &mut V {
        self.0.entry(hash).or_insert(new)
    }

    /// The value of a hash, if it has one.
    pub(super) fn find(&self, hash: u128) -> Option<V> {
        self.0.get(&hash).copied()
    }
}

/// Half of a hash is a hash.
#[derive(Debug, Default)]
struct LowBits(u64);

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        let bytes = hash.to_le_bytes();
        self.write(&bytes[..8]);
    }
}

#[cfg(test)]
mod tests {
    use super::ByHash;

    #[test]
    fn the_first_value_of_a_hash_stays() {
        let mut by_hash = ByHash::with_capacity(0);
        assert_eq!(*by_hash.of(7, 'a'), 'a');
        assert_eq!(*by_hash.of(7, 'b'), 'a');
        *by_hash.of(7, 'b') = 'c';
        assert_eq!((by_hash.find(7), by_hash.find(8)), (Some('c'), None));
    }
}
