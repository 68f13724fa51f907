//! Short texts, one behind the other.

/// A list of texts in one allocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TextList {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl TextList {
    /// With room for so many texts of so many bytes in all.
    pub(super) fn with_capacity(n_texts: usize, n_bytes: usize) -> Self {
        Self {
            text: String::with_capacity(n_bytes),
            ends: Vec::with_capacity(n_texts),
        }
    }

    /// One text.
    pub(super) fn of(text: &str) -> Self {
        let mut list = Self::with_capacity(1, text.len());
        list.push(&[text]);
        list
    }

    /// Add a text made of parts.
    pub(super) fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.text.push_str(part);
        }
        self.ends.push(self.text.len());
    }

    /// Take the last one away.
    pub(super) fn pop(&mut self) {
        self.ends.pop();
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Add those of another list.
    pub(super) fn extend(&mut self, other: &Self) {
        for text in other.iter() {
            self.push(&[text]);
        }
    }

    /// Those that are wanted.
    #[must_use]
    pub(super) fn filtered(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let mut list = Self::default();
        for text in self.iter().filter(|text| is_wanted(text)) {
            list.push(&[text]);
        }
        list
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.text[start..*end])
    }

    /// The first.
    pub fn first(&self) -> Option<&str> {
        self.iter().next()
    }

    /// The last.
    pub(super) fn last(&self) -> Option<&str> {
        let end = *self.ends.last()?;
        let start = match self.ends.len() {
            1 => 0,
            n => self.ends[n - 2],
        };
        Some(&self.text[start..end])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::TextList;

    #[test]
    fn texts_come_back_as_they_went_in() {
        let mut list = TextList::of("a");
        list.push(&["", "b", "c"]);
        list.push(&[""]);
        assert_eq!((list.first(), list.last()), (Some("a"), Some("")));
        list.pop();
        assert_eq!(list.last(), Some("bc"));
        list.extend(&TextList::of("d"));
        assert_eq!(list.iter().collect::<Vec<_>>(), ["a", "bc", "d"]);
        let long = list.filtered(|text| text.len() > 1);
        assert_eq!(long.iter().collect::<Vec<_>>(), ["bc"]);
        list.pop();
        list.pop();
        list.pop();
        assert!(list.is_empty() && list.last().is_none());
    }
}
