//! What the connection managers of one group have in common, encoded once.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use navarch_envoy::wire::Writer;

use crate::http_filter::ListenerClass;

/// What makes the common part of one connection manager differ from that of another of the same group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TailKey {
    pub(super) class: ListenerClass,
    pub(super) is_http2: bool,
    pub(super) is_grpc_web: bool,
    pub(super) is_explicit_proxy: bool,
    pub(super) dynamic_host: Option<Arc<str>>,
}

/// Common parts that were encoded already. It follows from the facts that it stands in, and is no part of their identity.
#[derive(Default)]
pub(super) struct Tails(Mutex<Vec<(TailKey, Arc<[u8]>)>>);

impl Tails {
    /// The common part of a key, made when it is asked for first.
    pub(super) fn resolve(&self, key: TailKey, make: impl FnOnce() -> Writer) -> Arc<[u8]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tail)) = known.iter().find(|(other, _)| *other == key) {
            return Arc::clone(tail);
        }
        let tail: Arc<[u8]> = make().as_slice().into();
        known.push((key, Arc::clone(&tail)));
        tail
    }
}

impl fmt::Debug for Tails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tails")
    }
}

impl Clone for Tails {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Tails {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Tails {}

impl Hash for Tails {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
