//! Resource names as small numbers, and sets of them: 500 sidecars share one copy of 2,800 names.

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
    use super::{Interner, NameId, NameSet};

    #[test]
    fn equal_names_have_one_number() {
        let mut interner = Interner::default();
        let (a, b) = (interner.intern(b"a"), interner.intern(b"b"));
        assert_ne!(a, b);
        assert_eq!(interner.intern(b"a"), a);
        assert_eq!(interner.name(b), b"b");
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
