//! Which new streams get their first resources now, and which wait: the oldest first, so many at once.
//!
//! After a restart a whole fleet connects within a second. What is on its way to all of them at once would fill the
//! kernel's buffers and let nobody finish; a bounded number finishes one after another in the same time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::registry::Connection;

/// How many streams get their first resources at once.
pub(super) const MAX_SYNCING: usize = 128;
/// After this a stream that has not got all leaves its place to the next: it has a slow network, or asks for little.
const MAX_SYNC: Duration = Duration::from_secs(2);

/// New streams, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Admission {
    waiting: VecDeque<Arc<Connection>>,
    syncing: Vec<(Arc<Connection>, Instant)>,
}

impl Admission {
    /// Streams that came.
    pub(super) fn enqueue(&mut self, newcomers: impl IntoIterator<Item = Arc<Connection>>) {
        self.waiting.extend(newcomers);
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Those whose turn has come.
    pub(super) fn admit(&mut self, now: Instant) -> Vec<Arc<Connection>> {
        self.syncing
            .retain(|(connection, since)| !connection.is_synced() && now < *since + MAX_SYNC);
        let mut admitted = Vec::new();
        while self.syncing.len() < MAX_SYNCING
            && let Some(connection) = self.waiting.pop_front()
        {
            connection.set_waiting(false);
            // One that has left needs nothing any more.
            if !connection.is_synced() {
                self.syncing.push((Arc::clone(&connection), now));
                admitted.push(connection);
            }
        }
        admitted
    }

    /// When somebody who waits has a place at the latest.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let places = self.syncing.iter().map(|(_, since)| *since + MAX_SYNC);
        places.min().filter(|_| !self.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use navarch_model::{Proxy, Shared};

    use super::{Admission, MAX_SYNC, MAX_SYNCING};
    use crate::metrics::Metrics;
    use crate::registry::{Connection, Fleet};
    use crate::session::Variant;

    fn connect(n: usize) -> (Arc<Fleet>, Vec<Arc<Connection>>) {
        let fleet = Fleet::new(Metrics::new());
        let node = r#"{"id": "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local", "metadata": {}}"#;
        let proxy = Shared::new(Proxy::from_node_json(node.as_bytes()).unwrap());
        let connect = |_| fleet.connect(proxy.clone(), Variant::Delta);
        let connections = (0..n).map(connect).collect();
        (fleet, connections)
    }

    fn ids(connections: &[Arc<Connection>]) -> Vec<u64> {
        connections
            .iter()
            .map(|connection| connection.id())
            .collect()
    }

    #[test]
    fn the_oldest_go_first_and_each_that_is_done_lets_another_in() {
        let (fleet, all) = connect(MAX_SYNCING + 3);
        let (now, mut admission) = (Instant::now(), Admission::default());
        admission.enqueue(all.iter().cloned());
        assert_eq!(ids(&admission.admit(now)), ids(&all[..MAX_SYNCING]));
        assert_eq!((admission.admit(now).len(), admission.n_waiting()), (0, 3));
        all[5].note_synced();
        assert_eq!(
            ids(&admission.admit(now)),
            ids(&all[MAX_SYNCING..=MAX_SYNCING])
        );
        fleet.disconnect(&all[7]);
        fleet.disconnect(&all[MAX_SYNCING + 1]);
        let next = ids(&admission.admit(now));
        assert_eq!(
            next,
            ids(&all[MAX_SYNCING + 2..]),
            "one that left is passed over"
        );
        assert_eq!(admission.next_turn(), None);
    }

    #[test]
    fn streams_that_are_never_done_lose_their_places() {
        let (_fleet, all) = connect(MAX_SYNCING + 1);
        let (now, mut admission) = (Instant::now(), Admission::default());
        admission.enqueue(all.iter().cloned());
        admission.admit(now);
        assert_eq!(admission.next_turn(), Some(now + MAX_SYNC));
        let next = admission.admit(now + MAX_SYNC);
        assert_eq!(ids(&next), ids(&all[MAX_SYNCING..]));
    }
}
