//! The push thread: the one place where proxies' resources are built and streams are woken.
//!
//! Changes and new streams only ring its bell. While it works, later rings merge into one, so there is
//! at most one pending push however fast the mesh changes, and a storm of new streams is built for once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use navarch_encode::ResourceSnapshot;
use navarch_model::Proxy;

use crate::registry::{Connection, Fleet, lock};

/// Where a proxy's resources come from: the mesh, or a test's own.
pub trait ResourceSource: Send + Sync + 'static {
    /// The resources of a proxy, of the newest state.
    ///
    /// Called on the push thread only; equal views are expected to share their lists.
    fn snapshot_for(&self, proxy: &Proxy) -> Arc<ResourceSnapshot>;

    /// Something changed: called once before the calls of [`Self::snapshot_for`] of one push.
    fn begin_push(&self) {}
}

#[derive(Debug, Default)]
struct Bell {
    /// The earliest change that was not pushed yet.
    changed_at: Option<Instant>,
    newcomers: Vec<Arc<Connection>>,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Signal {
    bell: Mutex<Bell>,
    rung: Condvar,
}

/// A handle to the push thread. Dropping it stops the thread.
pub struct Pusher {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pusher {
    /// Start the push thread of a fleet.
    pub fn start(source: Arc<dyn ResourceSource>, fleet: Arc<Fleet>) -> std::io::Result<Arc<Self>> {
        let signal = Arc::new(Signal::default());
        let theirs = Arc::clone(&signal);
        let thread = std::thread::Builder::new()
            .name("navarch-push".to_owned())
            .spawn(move || run(&theirs, source.as_ref(), &fleet))?;
        Ok(Arc::new(Self {
            signal,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// The source changed: lead all streams to its new resources.
    pub fn notify(&self) {
        let mut bell = lock(&self.signal.bell);
        bell.changed_at.get_or_insert_with(Instant::now);
        self.signal.rung.notify_one();
    }

    /// A stream wants its first resources.
    pub(crate) fn welcome(&self, connection: Arc<Connection>) {
        lock(&self.signal.bell).newcomers.push(connection);
        self.signal.rung.notify_one();
    }

    /// Stop after the push under way.
    pub fn stop(&self) {
        lock(&self.signal.bell).is_stopping = true;
        self.signal.rung.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic outside a proxy's own build has ended the thread already; nothing is left to do.
            let _ = thread.join();
        }
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(signal: &Signal, source: &dyn ResourceSource, fleet: &Fleet) {
    loop {
        let mut bell = lock(&signal.bell);
        while bell.changed_at.is_none() && bell.newcomers.is_empty() && !bell.is_stopping {
            bell = signal
                .rung
                .wait(bell)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if bell.is_stopping {
            return;
        }
        let changed_at = bell.changed_at.take();
        let newcomers = std::mem::take(&mut bell.newcomers);
        drop(bell);
        source.begin_push();
        let (reason, connections) = match changed_at {
            Some(_) => ("config", fleet.connections()),
            None => ("proxy", newcomers),
        };
        fleet.metrics().count_trigger(reason);
        let changed_at = changed_at.unwrap_or_else(Instant::now);
        for connection in connections {
            push(source, fleet, &connection, changed_at);
        }
    }
}

/// Build one proxy's resources and lead its stream to them, if they differ from what it has.
fn push(source: &dyn ResourceSource, fleet: &Fleet, connection: &Connection, changed_at: Instant) {
    let built = catch_unwind(AssertUnwindSafe(|| source.snapshot_for(connection.proxy())));
    match built {
        Ok(target) => {
            let is_same = connection
                .target()
                .is_some_and(|last| last.is_same(&target));
            if !is_same {
                connection.lead_to(&target, changed_at);
            }
        }
        // The last good resources stay in force; a stream without any waits for the next push.
        Err(_) => fleet.metrics().count_push_panic(),
    }
}
