//! How often one may ask.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Instant;

use crate::registry::lock;

/// The most who are counted at once; a crowd of more is not held back by this.
const MAX_COUNTED: usize = 65_536;
/// Who was quiet may ask for this many seconds' worth at once.
const BURST_SECONDS: f64 = 4.0;

/// So many a second, and a burst after a quiet time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: f64, now: Instant) -> Self {
        Self {
            left: per_second * BURST_SECONDS,
            filled_at: now,
        }
    }

    /// Whether one more is within the limit.
    pub(super) fn take(&mut self, per_second: f64, now: Instant) -> bool {
        let is_within = self.has_left(per_second, now);
        if is_within {
            self.left -= 1.0;
        }
        is_within
    }

    fn has_left(&mut self, per_second: f64, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.left = (self.left + seconds * per_second).min(per_second * BURST_SECONDS);
        self.filled_at = now;
        self.left >= 1.0
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub(super) struct RateLimit<K> {
    per_second: f64,
    counted: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash + Clone> RateLimit<K> {
    /// `per_second` of 0 is no limit.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.into(),
            counted: Mutex::default(),
        }
    }

    /// Whether this one may ask once more, which counts.
    pub(super) fn take(&self, key: &K, now: Instant) -> bool {
        if self.per_second <= 0.0 {
            return true;
        }
        let mut counted = lock(&self.counted);
        if let Some(bucket) = counted.get_mut(key) {
            return bucket.take(self.per_second, now);
        }
        if counted.len() >= MAX_COUNTED {
            // Who has not asked for a burst's time has a full bucket again: nothing is lost with it.
            counted.retain(|_, bucket| {
                let quiet = now.saturating_duration_since(bucket.filled_at);
                quiet.as_secs_f64() < BURST_SECONDS
            });
        }
        if counted.len() < MAX_COUNTED {
            let mut bucket = Bucket::new(self.per_second, now);
            bucket.left -= 1.0;
            counted.insert(key.clone(), bucket);
        }
        true
    }

    /// Whether this one may ask, without counting it.
    pub(super) fn has_left(&self, key: &K, now: Instant) -> bool {
        let mut counted = lock(&self.counted);
        self.per_second <= 0.0
            || counted
                .get_mut(key)
                .is_none_or(|bucket| bucket.has_left(self.per_second, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::RateLimit;

    #[test]
    fn one_is_held_back_and_no_other() {
        let (limit, now) = (RateLimit::new(10), Instant::now());
        let taken = (0..100).filter(|_| limit.take(&"a", now)).count();
        assert_eq!(taken, 40);
        assert!(!limit.has_left(&"a", now));
        assert!(limit.has_left(&"b", now) && limit.take(&"b", now));
        let later = now + Duration::from_secs(1);
        let taken = (0..100).filter(|_| limit.take(&"a", later)).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn zero_is_no_limit() {
        let (limit, now) = (RateLimit::new(0), Instant::now());
        assert!((0..1000).all(|_| limit.take(&"a", now)));
    }
}
