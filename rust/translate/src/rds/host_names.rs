//! What virtual hosts are called.

use std::ops::Range;

use navarch_envoy::field::envoy::config::route::v3::virtual_host;
use navarch_envoy::wire::{Writer, read_field};

/// The name and the domains of a virtual host, encoded as they begin its message: in one allocation, and written by one copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostNames {
    fields: Writer,
    name: Range<usize>,
}

impl HostNames {
    /// A name made of parts, and no domain; with room for so many bytes of domains.
    pub(super) fn new(name: &[&str], capacity_bytes: usize) -> Self {
        let len: usize = name.iter().map(|part| part.len()).sum();
        // A key and a length of up to two bytes.
        let mut fields = Writer::with_capacity(len + capacity_bytes + 3);
        fields.text(virtual_host::NAME, name);
        let end = fields.len();
        Self {
            fields,
            name: end - len..end,
        }
    }

    /// A name and its only domain.
    pub(super) fn of(name: &str, domain: &str) -> Self {
        // A key and a length.
        let mut names = Self::new(&[name], domain.len() + 2);
        names.push(&[domain]);
        names
    }

    /// Add a domain made of parts; its text.
    pub(super) fn push(&mut self, parts: &[&str]) -> &[u8] {
        self.fields.text(virtual_host::DOMAINS, parts);
        let len: usize = parts.iter().map(|part| part.len()).sum();
        &self.fields.as_slice()[self.fields.len() - len..]
    }

    /// How many bytes they are, for [`Self::truncate`].
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Take away what was pushed since it had this length.
    pub(super) fn truncate(&mut self, len: usize) {
        self.fields.truncate(len);
    }

    /// The virtual host's own name.
    pub fn name(&self) -> &str {
        text(self.name_bytes())
    }

    /// The same as bytes, which are in the same order.
    pub(super) fn name_bytes(&self) -> &[u8] {
        &self.fields.as_slice()[self.name.clone()]
    }

    /// The domains, in their order.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let mut rest = &self.fields.as_slice()[self.name.end..];
        std::iter::from_fn(move || read_field(&mut rest).map(|(_, domain)| text(domain)))
    }

    /// With the domains that are wanted.
    #[must_use]
    pub(super) fn filtered(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let mut names = Self::new(&[self.name()], self.fields.len() - self.name.end);
        for domain in self.domains().filter(|domain| is_wanted(domain)) {
            names.push(&[domain]);
        }
        names
    }

    /// Whether there is any domain.
    pub fn has_domains(&self) -> bool {
        self.fields.len() > self.name.end
    }

    /// The domains as fields of the message.
    pub(super) fn domain_fields(&self) -> &[u8] {
        &self.fields.as_slice()[self.name.end..]
    }

    /// Name and domains as fields of the message.
    pub(super) fn fields(&self) -> &[u8] {
        self.fields.as_slice()
    }
}

/// Bytes that were written as text.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::HostNames;

    #[test]
    fn names_come_back_as_they_went_in() {
        let long = "d".repeat(200);
        let mut names = HostNames::new(&["a", ":", "80"], 0);
        assert!(!names.has_domains());
        assert_eq!(names.push(&["", "b", "c"]), b"bc");
        let len = names.len();
        names.push(&["gone"]);
        names.truncate(len);
        names.push(&[&long]);
        assert_eq!(names.name(), "a:80");
        assert_eq!(names.domains().collect::<Vec<_>>(), ["bc", &long]);
        let short = names.filtered(|domain| domain.len() < 3);
        assert_eq!(short.domains().collect::<Vec<_>>(), ["bc"]);
        assert_eq!(HostNames::of(&long, "*").name(), long);
    }
}
