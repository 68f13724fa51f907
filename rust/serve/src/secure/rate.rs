//! How often one peer may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use crate::registry::lock;

/// The most peers that are counted at once.
const MAX_PEERS: usize = 65_536;
/// A peer that was quiet may ask for this many seconds' worth at once.
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
        let seconds = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.left = (self.left + seconds * per_second).min(per_second * BURST_SECONDS);
        self.filled_at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// A bucket for each address.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: f64,
    peers: Mutex<HashMap<IpAddr, Bucket>>,
}

impl RateLimit {
    /// `per_second` of 0 is no limit.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.into(),
            peers: Mutex::default(),
        }
    }

    /// Whether this peer may ask once more.
    pub(super) fn take(&self, peer: IpAddr, now: Instant) -> bool {
        if self.per_second <= 0.0 {
            return true;
        }
        let mut peers = lock(&self.peers);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            // Who has not asked for a burst's time has a full bucket again: nothing is lost with it.
            peers.retain(|_, bucket| {
                let quiet = now.saturating_duration_since(bucket.filled_at);
                quiet.as_secs_f64() < BURST_SECONDS
            });
            if peers.len() >= MAX_PEERS {
                return false;
            }
        }
        peers
            .entry(peer)
            .or_insert_with(|| Bucket::new(self.per_second, now))
            .take(self.per_second, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use super::RateLimit;

    #[test]
    fn one_peer_is_held_back_and_no_other() {
        let (limit, now) = (RateLimit::new(10), Instant::now());
        let peer = |last: u8| IpAddr::from([10, 0, 0, last]);
        let taken = (0..100).filter(|_| limit.take(peer(1), now)).count();
        assert_eq!(taken, 40);
        assert!(limit.take(peer(2), now));
        let later = now + Duration::from_secs(1);
        let taken = (0..100).filter(|_| limit.take(peer(1), later)).count();
        assert_eq!(taken, 10);
    }
}
