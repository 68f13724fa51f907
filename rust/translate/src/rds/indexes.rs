//! Lists of indexes.

/// One index or more, in the order in which they came: mostly one, which needs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexes {
    first: usize,
    others: Vec<usize>,
}

impl Indexes {
    /// The first.
    pub(super) const fn new(first: usize) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }

    /// Add one.
    pub(super) fn push(&mut self, index: usize) {
        self.others.push(index);
    }

    /// The one that came first.
    pub(super) const fn first(&self) -> usize {
        self.first
    }

    /// In their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}
