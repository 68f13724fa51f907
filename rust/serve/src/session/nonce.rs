//! Nonces: which response a request answers.

use std::fmt;

/// The nonce of one response; unique within its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What a request's nonce says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceMatch {
    /// None given: no answer to a response.
    Absent,
    /// The latest response of the type.
    Latest,
    /// An older response, or one of another stream.
    Stale,
}

/// The nonces of one stream, counted up.
#[derive(Debug, Default)]
pub(super) struct Nonces(u64);

impl Nonces {
    pub(super) fn next(&mut self) -> Nonce {
        self.0 += 1;
        Nonce(self.0)
    }
}

/// Compare a request's nonce with the latest one sent for the type.
pub(super) fn match_nonce(given: &str, latest: Option<Nonce>) -> NonceMatch {
    if given.is_empty() {
        return NonceMatch::Absent;
    }
    match latest {
        Some(latest) if latest.to_string() == given => NonceMatch::Latest,
        _ => NonceMatch::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::{NonceMatch, Nonces, match_nonce};

    #[test]
    fn only_the_latest_nonce_counts() {
        let mut nonces = Nonces::default();
        let (first, second) = (nonces.next(), nonces.next());
        assert_eq!(match_nonce("", Some(second)), NonceMatch::Absent);
        assert_eq!(
            match_nonce(&second.to_string(), Some(second)),
            NonceMatch::Latest
        );
        assert_eq!(
            match_nonce(&first.to_string(), Some(second)),
            NonceMatch::Stale
        );
        assert_eq!(match_nonce("of another stream", None), NonceMatch::Stale);
    }
}
