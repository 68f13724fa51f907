//! The push thread: the one place where proxies' resources are built and streams are woken.
//!
//! Changes and new streams only ring its bell. While it works, later rings merge into one, so there is
//! at most one pending push however fast the mesh changes, and a storm of new streams is built for once.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use navarch_encode::ResourceSnapshot;
use navarch_model::{Proxy, hash128};

use crate::registry::{Connection, Fleet, lock};

/// Where a proxy's resources come from: the mesh, or a test's own.
pub trait ResourceSource: Send + Sync + 'static {
    /// The resources of a proxy, of the newest state.
    ///
    /// Called on the push thread only; equal views are expected to share their lists.
    fn snapshot_for(&self, proxy: &Proxy) -> Arc<ResourceSnapshot>;

    /// Take in all changes: called once before the calls of [`Self::snapshot_for`] of one push. What changed.
    fn begin_push(&self) -> Option<Trigger> {
        None
    }

    /// Between two proxies of a push: take in what changed since, if it is endpoints alone. Whether anything was.
    fn take_endpoints(&self) -> bool {
        false
    }

    /// These proxies are not connected any more.
    fn forget(&self, _proxies: &[Arc<Proxy>]) {}
}

/// What a push is for, the lesser first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Endpoints alone.
    Endpoint,
    /// Anything else of the mesh.
    Config,
}

impl Trigger {
    /// As Istio labels it (`pilot/pkg/model/push_context.go` `TriggerReason`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Config => "config",
        }
    }
}

#[derive(Debug, Default)]
struct Bell {
    /// The earliest change that was not pushed yet.
    changed_at: Option<Instant>,
    newcomers: Vec<Arc<Connection>>,
    leavers: Vec<Arc<Proxy>>,
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

    /// A stream has ended.
    pub(crate) fn part(&self, proxy: Arc<Proxy>) {
        lock(&self.signal.bell).leavers.push(proxy);
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

/// How often a long push looks for endpoints that changed since it began.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Bell {
    fn is_silent(&self) -> bool {
        self.changed_at.is_none()
            && self.newcomers.is_empty()
            && self.leavers.is_empty()
            && !self.is_stopping
    }
}

fn run(signal: &Signal, source: &dyn ResourceSource, fleet: &Fleet) {
    // A push to newcomers takes in changes whose own push is still to come.
    let mut taken: Option<Trigger> = None;
    loop {
        let mut bell = lock(&signal.bell);
        while bell.is_silent() {
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
        let leavers = std::mem::take(&mut bell.leavers);
        drop(bell);
        if changed_at.is_some() || !newcomers.is_empty() {
            taken = taken.max(source.begin_push());
            let (reason, connections) = if changed_at.is_some() {
                let trigger = taken.take().unwrap_or(Trigger::Config);
                (trigger.as_str(), fleet.connections())
            } else {
                // Nobody else may be left to get what was taken in for them.
                taken = taken.filter(|_| newcomers.len() < fleet.n_connections());
                ("proxy", newcomers)
            };
            fleet.metrics().count_trigger(reason);
            let changed_at = changed_at.unwrap_or_else(Instant::now);
            if push_all(source, fleet, &connections, changed_at) {
                taken = taken.max(Some(Trigger::Endpoint));
            }
        }
        forget(source, fleet, &leavers);
    }
}

/// Push to these streams, and endpoints that change meanwhile also to those that were served before: they
/// don't wait for the rest. Whether there were any.
fn push_all(
    source: &dyn ResourceSource,
    fleet: &Fleet,
    connections: &[Arc<Connection>],
    changed_at: Instant,
) -> bool {
    let mut is_taken = false;
    let mut looked_at = Instant::now();
    for (i, connection) in connections.iter().enumerate() {
        push(source, fleet, connection, changed_at);
        if looked_at.elapsed() >= LOOK_INTERVAL {
            if source.take_endpoints() {
                is_taken = true;
                for served in &connections[..=i] {
                    push(source, fleet, served, looked_at);
                }
            }
            looked_at = Instant::now();
        }
    }
    is_taken
}

/// Tell the source which proxies are gone: those that have no other stream.
fn forget(source: &dyn ResourceSource, fleet: &Fleet, leavers: &[Arc<Proxy>]) {
    if leavers.is_empty() {
        return;
    }
    let ids: BTreeSet<&str> = leavers.iter().map(|proxy| &*proxy.id).collect();
    let connections = fleet.connections();
    let proxies = connections.iter().map(|connection| connection.proxy());
    let present: BTreeSet<u128> = proxies
        .filter(|proxy| ids.contains(&*proxy.id))
        .map(|proxy| hash128(&**proxy))
        .collect();
    let gone: Vec<Arc<Proxy>> = leavers
        .iter()
        .filter(|proxy| !present.contains(&hash128(&***proxy)))
        .cloned()
        .collect();
    source.forget(&gone);
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use navarch_encode::{ResourcePart, ResourceSnapshot};
    use navarch_model::Proxy;

    use super::{LOOK_INTERVAL, ResourceSource, forget, push_all};
    use crate::metrics::Metrics;
    use crate::registry::{Connection, Fleet, lock};
    use crate::session::Variant;

    /// Slow to build, and endpoints change as the first is built.
    #[derive(Default)]
    struct Slow {
        built: Mutex<Vec<String>>,
        forgotten: Mutex<Vec<String>>,
        n_looks: Mutex<usize>,
    }

    impl ResourceSource for Slow {
        fn snapshot_for(&self, proxy: &Proxy) -> Arc<ResourceSnapshot> {
            lock(&self.built).push(proxy.name.to_string());
            std::thread::sleep(LOOK_INTERVAL + Duration::from_millis(10));
            let none = ResourcePart::default();
            Arc::new(ResourceSnapshot::new(&none, &none))
        }

        fn take_endpoints(&self) -> bool {
            *lock(&self.n_looks) += 1;
            *lock(&self.n_looks) == 1
        }

        fn forget(&self, proxies: &[Arc<Proxy>]) {
            lock(&self.forgotten).extend(proxies.iter().map(|proxy| proxy.name.to_string()));
        }
    }

    fn connect(fleet: &Fleet, name: &str) -> Arc<Connection> {
        let node = format!(
            r#"{{"id": "sidecar~10.0.0.1~{name}.shop~shop.svc.cluster.local", "metadata": {{}}}}"#
        );
        let proxy = Proxy::from_node_json(node.as_bytes()).unwrap();
        fleet.connect(Arc::new(proxy), Variant::Delta)
    }

    #[test]
    fn endpoints_that_change_during_a_long_push_go_out_at_once() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let connections = ["a", "b", "c"].map(|name| connect(&fleet, name));
        assert!(push_all(&source, &fleet, &connections, Instant::now()));
        let built = lock(&source.built).join(" ");
        assert_eq!(built, "a.shop a.shop b.shop c.shop");
    }

    #[test]
    fn only_proxies_without_another_stream_are_forgotten() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let [gone, back] = ["gone", "back"].map(|name| connect(&fleet, name));
        let leavers = [&gone, &back].map(|connection| Arc::clone(connection.proxy()));
        fleet.disconnect(&gone);
        fleet.disconnect(&back);
        let _again = connect(&fleet, "back");
        forget(&source, &fleet, &leavers);
        assert_eq!(*lock(&source.forgotten), ["gone.shop"]);
    }
}
