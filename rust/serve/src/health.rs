//! What agents say of their workloads' health, on its way from the streams to the mesh.
//!
//! An agent asks for a type that has no resources: without an error its workload is healthy, and with one it is not
//! (istio `pilot/pkg/xds/ads.go`, `HealthInfoType`). Nobody answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use navarch_model::{Proxy, Shared};

use crate::registry::{Connection, lock};

/// The type that an agent asks for.
pub(crate) const HEALTH_TYPE: &str = "type.googleapis.com/istio.v1.HealthInformation";
/// The longest text that is kept of a fault: it becomes part of an object's status.
const MAX_FAULT_CHARS: usize = 500;

/// What is new of a stream.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) proxy: Shared<Proxy>,
    /// What its workload says of itself, if it has said more.
    pub(crate) told: Option<Result<(), Arc<str>>>,
    /// Whether it has ended, after all that.
    pub(crate) has_ended: bool,
}

/// What the mesh has not taken in yet: the newest of each stream, by its number.
#[derive(Debug, Default)]
pub struct HealthNews {
    waiting: Mutex<BTreeMap<u64, News>>,
}

impl HealthNews {
    /// A workload tells of itself. Whether it is one that can: a WorkloadEntry stands for it.
    pub(crate) fn tell(&self, connection: &Connection, health: Result<(), &str>) -> bool {
        let cut = |fault: &str| fault.chars().take(MAX_FAULT_CHARS).collect::<String>();
        let health = health.map_err(|fault| cut(fault).into());
        self.note(connection, |news| news.told = Some(health))
    }

    /// A stream has ended.
    pub(crate) fn end(&self, connection: &Connection) {
        self.note(connection, |news| news.has_ended = true);
    }

    /// All that waits, by the streams that it came on.
    pub(crate) fn take(&self) -> BTreeMap<u64, News> {
        std::mem::take(&mut *lock(&self.waiting))
    }

    fn note(&self, connection: &Connection, change: impl FnOnce(&mut News)) -> bool {
        let is_entry = connection.proxy().workload_entry().is_some();
        if is_entry {
            let mut waiting = lock(&self.waiting);
            change(waiting.entry(connection.id()).or_insert_with(|| News {
                proxy: connection.proxy().clone(),
                told: None,
                has_ended: false,
            }));
        }
        is_entry
    }
}
