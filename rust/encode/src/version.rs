//! Versions: hashes of encoded bytes (docs/decisions/003-versions.md).

use std::fmt;
use std::hash::Hash;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128, xxh3_128_with_seed};

/// The version of a resource or of a list of resources: a hash of the content.
///
/// The same on every replica and in every build that encodes the same bytes; written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of the encoded bytes of one resource.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(xxh3_64(bytes))
    }

    /// The version of a sequence of named versions.
    pub fn of_sequence<'a>(items: impl Iterator<Item = (&'a str, Self)>) -> Self {
        let mut hasher = Xxh3::new();
        for (name, version) in items {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&version.0.to_le_bytes());
        }
        Self(hasher.digest())
    }

    /// The version of two parts together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&self.0.to_le_bytes());
        both[8..].copy_from_slice(&other.0.to_le_bytes());
        Self(xxh3_64(&both))
    }

    /// Read a version as a client sends it back; `None` if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The version of a set of named versions, kept while members come and go: it depends on the members alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct VersionSum {
    sum: u128,
    len: u64,
}

impl VersionSum {
    /// A member came.
    pub(crate) fn add(&mut self, name: &str, version: Version) {
        self.sum = self.sum.wrapping_add(member_hash(name, version));
        self.len += 1;
    }

    /// A member is gone; it must have been added before.
    pub(crate) fn remove(&mut self, name: &str, version: Version) {
        self.sum = self.sum.wrapping_sub(member_hash(name, version));
        self.len -= 1;
    }

    /// The version of the members as they are now.
    pub(crate) fn version(self) -> Version {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.sum.to_le_bytes());
        bytes[16..].copy_from_slice(&self.len.to_le_bytes());
        Version(xxh3_64(&bytes))
    }
}

fn member_hash(name: &str, version: Version) -> u128 {
    xxh3_128_with_seed(name.as_bytes(), version.0)
}

/// The key of a builder's inputs in the cache; valid within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputsKey(u128);

impl InputsKey {
    /// Hash everything that a builder may see.
    pub fn of<I: Hash + ?Sized>(inputs: &I) -> Self {
        let mut hasher = Xxh3::new();
        inputs.hash(&mut hasher);
        Self(hasher.digest128())
    }
}

/// The key under which equal bytes are found again; equality is still checked on the bytes.
pub(crate) fn content_key(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Version, VersionSum};

    #[test]
    fn versions_are_stable_over_builds() {
        let version = Version::of_bytes(b"navarch");
        assert_eq!(version.to_string(), "7a23310bfdc9985a");
        assert_eq!(Version::parse(&version.to_string()), Some(version));
    }

    #[test]
    fn foreign_versions_are_not_ours() {
        for text in ["", "1", "zzzzzzzzzzzzzzzz", "2024-01-01T00:00:00Z/12"] {
            assert_eq!(Version::parse(text), None);
        }
    }

    #[test]
    fn a_sum_depends_on_its_members_alone() {
        let (v, w) = (Version::of_bytes(b"v"), Version::of_bytes(b"w"));
        let sum = |members: &[(&str, Version)]| {
            let mut sum = VersionSum::default();
            members.iter().for_each(|(name, v)| sum.add(name, *v));
            sum
        };
        let mut changing = sum(&[("a", v), ("b", v), ("c", v)]);
        changing.remove("b", v);
        changing.add("b", w);
        changing.remove("a", v);
        assert_eq!(changing, sum(&[("b", w), ("c", v)]));
        assert_ne!(
            sum(&[("b", w), ("c", v)]).version(),
            sum(&[("b", v), ("c", w)]).version()
        );
        assert_ne!(sum(&[]).version(), sum(&[("", v)]).version());
    }

    #[test]
    fn names_and_versions_do_not_run_into_each_other() {
        let v = Version::of_bytes(b"");
        let one = Version::of_sequence([("ab", v), ("c", v)].into_iter());
        let two = Version::of_sequence([("a", v), ("bc", v)].into_iter());
        assert_ne!(one, two);
    }
}
