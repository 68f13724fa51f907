//! Resource names and versions as small numbers, and sets of names: 500 sidecars share one copy of 2,800 names.

use std::collections::HashMap;
use std::rc::Rc;

/// A name's number; dense, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NameId(u32);

/// Every name that was seen.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    ids: HashMap<Rc<[u8]>, NameId>,
    names: Vec<Rc<[u8]>>,
}

impl Interner {
    pub(crate) fn intern(&mut self, name: &[u8]) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let name: Rc<[u8]> = name.into();
        let id = NameId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(Rc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    pub(crate) fn name(&self, id: NameId) -> &[u8] {
        &self.names[id.0 as usize]
    }
}

/// A version's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionId(u32);

/// Every version that was seen.
#[derive(Debug, Default)]
pub(crate) struct VersionTable {
    interner: Interner,
    /// By name: what most sidecars will have of it as well, so that few texts are hashed.
    latest: Vec<Option<VersionId>>,
}

impl VersionTable {
    pub(crate) fn intern(&mut self, name: NameId, version: &[u8]) -> VersionId {
        let place = name.0 as usize;
        if place >= self.latest.len() {
            self.latest.resize(place + 1, None);
        }
        if let Some(latest) = self.latest[place]
            && self.text(latest) == version
        {
            return latest;
        }
        let id = VersionId(self.interner.intern(version).0);
        self.latest[place] = Some(id);
        id
    }

    pub(crate) fn text(&self, id: VersionId) -> &[u8] {
        self.interner.name(NameId(id.0))
    }
}

/// The versions of the resources that a sidecar has; cheap to write, sorted out now and then.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In the order in which they came; without a version it is gone.
    log: Vec<(NameId, Option<VersionId>)>,
    n_sorted: usize,
}

impl Held {
    pub(crate) fn note(&mut self, name: NameId, version: Option<VersionId>) {
        self.log.push((name, version));
        if self.log.len() > 2 * self.n_sorted + 64 {
            self.log = self.sorted();
            self.n_sorted = self.log.len();
        }
    }

    /// Each resource with the version that came last.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (NameId, VersionId)> {
        let sorted = self.sorted().into_iter();
        sorted.filter_map(|(name, version)| version.map(|version| (name, version)))
    }

    fn sorted(&self) -> Vec<(NameId, Option<VersionId>)> {
        let mut log = self.log.clone();
        // Stable: of equal names the last that came is the last of its run.
        log.reverse();
        log.sort_by_key(|(name, _)| *name);
        log.dedup_by_key(|(name, _)| *name);
        log.retain(|(_, version)| version.is_some());
        log
    }
}

/// A set of names, one bit each.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameSet {
    words: Vec<u64>,
    n_names: usize,
}

impl NameSet {
    /// Whether the name was not in it.
    pub(crate) fn insert(&mut self, id: NameId) -> bool {
        let (word, bit) = place(id);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.n_names += usize::from(is_new);
        is_new
    }

    /// Whether the name was in it.
    pub(crate) fn remove(&mut self, id: NameId) -> bool {
        let was_in = self.contains(id);
        if was_in {
            let (word, bit) = place(id);
            self.words[word] &= !bit;
            self.n_names -= 1;
        }
        was_in
    }

    pub(crate) fn contains(&self, id: NameId) -> bool {
        let (word, bit) = place(id);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.n_names
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NameId> {
        self.words.iter().zip(0u32..).flat_map(|(word, i)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| NameId(i * 64 + bit))
        })
    }

    /// Drop the names that another set has not.
    pub(crate) fn keep_only(&mut self, other: &Self) {
        for (i, word) in self.words.iter_mut().enumerate() {
            *word &= other.words.get(i).copied().unwrap_or(0);
        }
        self.n_names = self.words.iter().map(|w| w.count_ones() as usize).sum();
    }
}

impl FromIterator<NameId> for NameSet {
    fn from_iter<I: IntoIterator<Item = NameId>>(names: I) -> Self {
        let mut set = Self::default();
        for name in names {
            set.insert(name);
        }
        set
    }
}

impl PartialEq for NameSet {
    fn eq(&self, other: &Self) -> bool {
        self.n_names == other.n_names && self.words.iter().zip(&other.words).all(|(a, b)| a == b)
    }
}

fn place(id: NameId) -> (usize, u64) {
    (id.0 as usize / 64, 1 << (id.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::{Held, Interner, NameId, NameSet, VersionTable};

    #[test]
    fn equal_names_have_one_number() {
        let mut interner = Interner::default();
        let (a, b) = (interner.intern(b"a"), interner.intern(b"b"));
        assert_ne!(a, b);
        assert_eq!(interner.intern(b"a"), a);
        assert_eq!(interner.name(b), b"b");
    }

    #[test]
    fn of_a_resource_the_last_version_is_held() {
        let (mut versions, mut held) = (VersionTable::default(), Held::default());
        let names: Vec<_> = (0..100).map(NameId).collect();
        for text in [b"1", b"2"] {
            for name in &names {
                held.note(*name, Some(versions.intern(*name, text)));
            }
        }
        held.note(names[7], None);
        held.note(names[8], Some(versions.intern(names[8], b"3")));
        let told: Vec<_> = held
            .versions()
            .map(|(name, version)| (name, versions.text(version)))
            .collect();
        assert_eq!(told.len(), 99);
        assert_eq!(told[6], (names[6], b"2".as_slice()));
        assert_eq!(told[7], (names[8], b"3".as_slice()));
    }

    #[test]
    fn sets_are_equal_by_their_names() {
        let mut set: NameSet = [NameId(3), NameId(200)].into_iter().collect();
        assert!(!set.insert(NameId(3)));
        assert!(set.remove(NameId(200)));
        assert!(!set.remove(NameId(200)));
        assert_eq!(set, [NameId(3)].into_iter().collect());
        assert_ne!(set, [NameId(4)].into_iter().collect());
        assert_eq!(set.iter().collect::<Vec<_>>(), [NameId(3)]);
        set.keep_only(&NameSet::default());
        assert_eq!(set.len(), 0);
    }
}
