//! Bytes made on first use and shared by all who send them at the same time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Bodies up to this size stay; larger ones live as long as a stream sends them.
///
/// A mesh's whole configuration is then in memory once (its resources) at rest, and a second time
/// (one contiguous body) only while it goes out. What stays is what one endpoint's change sends: to make
/// more anew costs less than the system's call that sends it.
const KEEP_BYTES: usize = 4 * 1024;

#[derive(Debug)]
enum Slot {
    Kept(Bytes),
    Lent(Weak<Vec<u8>>),
}

/// A cell for one body.
#[derive(Debug)]
pub(crate) struct SharedBody(Mutex<Slot>);

impl Default for SharedBody {
    fn default() -> Self {
        Self(Mutex::new(Slot::Lent(Weak::new())))
    }
}

struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl SharedBody {
    /// The body; `make` runs if nobody holds it now, once however many ask.
    pub(crate) fn get(&self, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let mut slot = lock(&self.0);
        match &*slot {
            Slot::Kept(body) => return body.clone(),
            Slot::Lent(weak) => {
                if let Some(body) = weak.upgrade() {
                    return Bytes::from_owner(Lent(body));
                }
            }
        }
        let body = make();
        if body.len() <= KEEP_BYTES {
            let body = Bytes::from(body);
            *slot = Slot::Kept(body.clone());
            return body;
        }
        let body = Arc::new(body);
        *slot = Slot::Lent(Arc::downgrade(&body));
        Bytes::from_owner(Lent(body))
    }
}

/// Lock, also after a panic elsewhere: what is guarded is replaced whole, never left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{KEEP_BYTES, SharedBody};

    #[test]
    fn a_large_body_is_one_allocation_while_it_is_held() {
        let cell = SharedBody::default();
        let first = cell.get(|| vec![1; KEEP_BYTES + 1]);
        let second = cell.get(|| unreachable!("held by `first`"));
        assert_eq!(first.as_ptr(), second.as_ptr());
        drop((first, second));
        assert_eq!(cell.get(|| vec![2; KEEP_BYTES + 1])[0], 2);
    }

    #[test]
    fn a_small_body_is_made_once() {
        let cell = SharedBody::default();
        drop(cell.get(|| vec![1]));
        assert_eq!(cell.get(|| vec![2])[0], 1);
    }
}
