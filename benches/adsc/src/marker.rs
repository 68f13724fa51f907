//! A change to wait for: texts that the responses which bring it are known to carry.

use memchr::memmem::Finder;
use navarch_envoy::TypeUrl;

/// A text in a response of one type.
#[derive(Debug)]
struct Marker {
    type_url: TypeUrl,
    finder: Finder<'static>,
}

/// What is waited for; it is there when each marker was seen.
#[derive(Debug)]
pub(crate) struct Change {
    /// Which one, counted by the one who asks.
    pub(crate) id: u64,
    markers: Vec<Marker>,
    longest: usize,
}

impl Change {
    /// The most markers of a change: one bit each.
    pub(crate) const MAX_MARKERS: usize = 32;

    pub(crate) fn new(id: u64, texts: &[(TypeUrl, String)]) -> Self {
        let markers: Vec<_> = texts
            .iter()
            .map(|(type_url, text)| Marker {
                type_url: *type_url,
                finder: Finder::new(text.as_bytes()).into_owned(),
            })
            .collect();
        let longest = texts.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
        Self {
            id,
            markers,
            longest,
        }
    }

    /// All markers' bits.
    pub(crate) fn all(&self) -> u32 {
        (1u32 << self.markers.len()) - 1
    }

    /// Of the texts found in a message, those that count in one of its type.
    pub(crate) fn of_type(&self, found: u32, type_url: TypeUrl) -> u32 {
        let is_of_type = |i: &usize| self.markers[*i].type_url == type_url;
        let bits = (0..self.markers.len()).filter(is_of_type);
        bits.fold(0, |all, i| all | (found & (1 << i)))
    }
}

/// Searches one message that comes in parts.
#[derive(Debug, Default)]
pub(crate) struct Search {
    found: u32,
    /// The last bytes of the part before, too few to hold a whole text.
    tail: Vec<u8>,
}

impl Search {
    pub(crate) fn feed(&mut self, change: &Change, part: &[u8]) {
        let keep = change.longest.saturating_sub(1);
        let mut border = std::mem::take(&mut self.tail);
        let n_tail = border.len();
        border.extend_from_slice(&part[..part.len().min(keep)]);
        for (i, marker) in change.markers.iter().enumerate() {
            let is_found = self.found & (1 << i) != 0
                || (n_tail > 0 && marker.finder.find(&border).is_some())
                || marker.finder.find(part).is_some();
            self.found |= u32::from(is_found) << i;
        }
        if part.len() >= keep {
            border.clear();
            border.extend_from_slice(&part[part.len() - keep..]);
        } else {
            border.drain(..border.len().saturating_sub(keep));
        }
        self.tail = border;
    }

    /// The texts found in the message that has ended; the next begins.
    pub(crate) fn take(&mut self) -> u32 {
        self.tail.clear();
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use navarch_envoy::TypeUrl;

    use super::{Change, Search};

    #[test]
    fn texts_are_found_however_a_message_is_cut() {
        let texts = [
            (TypeUrl::Endpoint, "10.99.0.7".to_owned()),
            (TypeUrl::Route, "x".to_owned()),
            (TypeUrl::Endpoint, "absent".to_owned()),
        ];
        let change = Change::new(1, &texts);
        let message = b"....10.99.0.7..x..";
        for cut in 1..=message.len() {
            let mut search = Search::default();
            for part in message.chunks(cut) {
                search.feed(&change, part);
            }
            assert_eq!(search.take(), 0b011, "cut {cut}");
        }
        assert_eq!(change.of_type(0b011, TypeUrl::Endpoint), 0b001);
        assert_eq!(change.of_type(0b011, TypeUrl::Route), 0b010);
        assert_eq!(change.all(), 0b111);
    }

    #[test]
    fn a_text_across_two_messages_is_none() {
        let change = Change::new(1, &[(TypeUrl::Route, "ab".to_owned())]);
        let mut search = Search::default();
        search.feed(&change, b"..a");
        assert_eq!(search.take(), 0);
        search.feed(&change, b"b..");
        assert_eq!(search.take(), 0);
    }
}
