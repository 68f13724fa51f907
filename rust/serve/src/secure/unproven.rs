//! Connections whose other end has not yet proved who it is: few in all, and the greediest address pays for a flood.
//!
//! An address is no caller: a whole fleet may stand behind one that translates. So no address has a limit of its own;
//! when all places are taken, the address that holds the most gives up its oldest, which is the one that stalls.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::figures::Figures;
use crate::registry::lock;

/// How many bits of an IPv6 address one customer has for itself: a flood comes from all of them.
const CUSTOMER_BITS: u32 = 64;

/// Who is one as far as limits go: an address, or a customer's network of IPv6.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let kept = u128::MAX << (u128::BITS - CUSTOMER_BITS);
            IpAddr::V6((address.to_bits() & kept).into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The connections of one network by their order of arrival, each with the word that it must go.
type Waiting = BTreeMap<u64, oneshot::Sender<()>>;

#[derive(Debug, Default)]
struct Places {
    by_network: HashMap<IpAddr, Waiting>,
    n_taken: usize,
    n_given: u64,
}

impl Places {
    fn remove(&mut self, network: IpAddr, number: u64) -> Option<oneshot::Sender<()>> {
        let waiting = self.by_network.get_mut(&network)?;
        let found = waiting.remove(&number);
        if waiting.is_empty() {
            self.by_network.remove(&network);
        }
        self.n_taken -= usize::from(found.is_some());
        found
    }

    /// Of those that hold the most the one whose oldest came first.
    fn find_greediest(&self) -> Option<(IpAddr, u64)> {
        let held = self.by_network.iter().filter_map(|(network, waiting)| {
            let oldest = *waiting.keys().next()?;
            Some((waiting.len(), std::cmp::Reverse(oldest), *network))
        });
        let (_, oldest, network) = held.max()?;
        Some((network, oldest.0))
    }
}

/// All connections without a proof.
#[derive(Debug)]
pub(super) struct Unproven {
    max: usize,
    figures: Figures,
    places: Mutex<Places>,
}

/// One connection's place among them, until it is proved or dropped.
#[derive(Debug)]
pub(super) struct Place {
    unproven: Arc<Unproven>,
    network: IpAddr,
    number: u64,
}

/// Resolves with `Ok` when the connection must make room, and with `Err` once it has proved itself.
pub(super) type Eviction = oneshot::Receiver<()>;

impl Unproven {
    /// Room for so many.
    pub(super) fn new(max: usize, figures: Figures) -> Arc<Self> {
        Arc::new(Self {
            max,
            figures,
            places: Mutex::default(),
        })
    }

    /// Take a place; if there is none, the greediest network loses its oldest.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> (Place, Eviction) {
        let network = network_of(address);
        let (evict, eviction) = oneshot::channel();
        let mut places = lock(&self.places);
        if places.n_taken >= self.max
            && let Some((network, number)) = places.find_greediest()
            && let Some(evicted) = places.remove(network, number)
        {
            // A connection that has just ended is gone as well.
            let _ = evicted.send(());
            self.figures.count_evicted();
        }
        let number = places.n_given;
        places.n_given += 1;
        places.n_taken += 1;
        let waiting = places.by_network.entry(network).or_default();
        waiting.insert(number, evict);
        let place = Place {
            unproven: Arc::clone(self),
            network,
            number,
        };
        (place, eviction)
    }
}

impl Place {
    /// The other end has proved who it is: the place is free, and the connection stays.
    pub(super) fn leave(&self) {
        lock(&self.unproven.places).remove(self.network, self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::sync::oneshot::error::TryRecvError;

    use std::sync::Arc;

    use super::super::figures::Figures;
    use super::{Eviction, Place, Unproven, network_of};

    fn room_for(max: usize) -> Arc<Unproven> {
        let figures = Figures::register(&prometheus::Registry::new());
        Unproven::new(max, figures.unwrap())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_evicted((_, eviction): &mut (Place, Eviction)) -> bool {
        eviction.try_recv() == Ok(())
    }

    #[test]
    fn a_flood_costs_its_own_network_alone() {
        let unproven = room_for(4);
        let mut other = unproven.enter(address("10.0.0.1"));
        let mut flood: Vec<_> = (0..9)
            .map(|_| unproven.enter(address("10.0.0.66")))
            .collect();
        let mut late = unproven.enter(address("10.0.0.2"));
        let evicted: Vec<bool> = flood.iter_mut().map(is_evicted).collect();
        assert_eq!(
            evicted,
            [true, true, true, true, true, true, true, false, false]
        );
        assert!(!is_evicted(&mut other) && !is_evicted(&mut late));
    }

    #[test]
    fn who_proves_itself_stays_and_leaves_room() {
        let unproven = room_for(2);
        let (first, mut eviction) = unproven.enter(address("10.0.0.1"));
        first.leave();
        assert_eq!(eviction.try_recv(), Err(TryRecvError::Closed));
        let mut more: Vec<_> = (0..2)
            .map(|_| unproven.enter(address("10.0.0.1")))
            .collect();
        assert!(!more.iter_mut().any(is_evicted));
        drop(more);
        let mut again: Vec<_> = (0..2)
            .map(|_| unproven.enter(address("10.0.0.1")))
            .collect();
        assert!(!again.iter_mut().any(is_evicted));
    }

    #[test]
    fn a_customers_network_is_one() {
        let one = network_of(address("2001:db8:1:2:3::4"));
        assert_eq!(one, network_of(address("2001:db8:1:2:ffff::")));
        assert_ne!(one, network_of(address("2001:db8:1:3::4")));
        assert_eq!(network_of(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }
}
