//! The push thread: the one place where proxies' resources are built and streams are woken.
//!
//! Changes and new streams only ring its bell. While it works, later rings merge into one, so there is
//! at most one pending push however fast the mesh changes, and a storm of new streams is built for once.

mod admission;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use navarch_encode::ResourceSnapshot;
use navarch_model::{Proxy, Shared};

use admission::Admission;

use crate::registry::{Connection, Fleet, lock};

/// Where a proxy's resources come from: the mesh, or a test's own.
pub trait ResourceSource: Send + Sync + 'static {
    /// The resources of a proxy, of the newest state.
    ///
    /// Called on the push thread only; equal views are expected to share their lists.
    fn snapshot_for(&self, proxy: &Shared<Proxy>) -> Arc<ResourceSnapshot>;

    /// Take in all changes, before the calls of [`Self::snapshot_for`] of one push. What changed, and for whom.
    fn begin_push(&self) -> Option<Push> {
        Some(Push {
            trigger: Trigger::Config,
            touched: Touched::All,
        })
    }

    /// Between two proxies of a push: take in what changed since, if it is endpoints alone. Whom they touch.
    fn take_endpoints(&self) -> Option<Touched> {
        None
    }

    /// These proxies are not connected any more.
    fn forget(&self, _proxies: &[Shared<Proxy>]) {}
}

/// What a push is for, the lesser first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// A proxy that connects.
    Proxy,
    /// Endpoints alone.
    Endpoint,
    /// Anything else of the mesh.
    Config,
}

impl Trigger {
    /// Every trigger, the lesser first.
    pub const ALL: [Self; 3] = [Self::Proxy, Self::Endpoint, Self::Config];

    /// As Istio labels it (`pilot/pkg/model/push_context.go` `TriggerReason`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Endpoint => "endpoint",
            Self::Config => "config",
        }
    }
}

/// Whose resources a change may make others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Everybody's.
    All,
    /// Those of proxies, by their hashes, in the order in which they are best led.
    Proxies(Vec<u128>),
}

/// Changes that were taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Of which sort.
    pub trigger: Trigger,
    /// Whom they touch.
    pub touched: Touched,
}

impl Push {
    /// Add what was taken in later.
    fn merge(self, later: Self) -> Self {
        Self {
            trigger: self.trigger.max(later.trigger),
            touched: match (self.touched, later.touched) {
                (Touched::Proxies(mut first), Touched::Proxies(then)) => {
                    first.extend(then);
                    Touched::Proxies(first)
                }
                _ => Touched::All,
            },
        }
    }
}

/// When the oldest change behind a push was told, and what sort of changes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) at: Instant,
    pub(crate) trigger: Trigger,
}

impl Since {
    /// Of both what is older, and what is more.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            at: self.at.min(other.at),
            trigger: self.trigger.max(other.trigger),
        }
    }
}

#[derive(Debug, Default)]
struct Bell {
    /// The earliest change that was not pushed yet.
    changed_at: Option<Instant>,
    newcomers: Vec<Arc<Connection>>,
    leavers: Vec<Shared<Proxy>>,
    /// A stream has got its first resources while others wait for theirs.
    has_room: bool,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Signal {
    bell: Mutex<Bell>,
    rung: Condvar,
    /// New streams that wait for older ones.
    n_waiting: AtomicUsize,
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

    /// The source changed, by what was told at `changed_at`: lead all streams that it touches to its new resources.
    pub fn notify(&self, changed_at: Instant) {
        let mut bell = lock(&self.signal.bell);
        let oldest = bell.changed_at.map_or(changed_at, |at| at.min(changed_at));
        bell.changed_at = Some(oldest);
        self.signal.rung.notify_one();
    }

    /// A stream wants its first resources.
    pub(crate) fn welcome(&self, connection: Arc<Connection>) {
        connection.set_waiting(true);
        lock(&self.signal.bell).newcomers.push(connection);
        self.signal.rung.notify_one();
    }

    /// A stream has got its first resources.
    pub(crate) fn make_room(&self) {
        // Told after the stream was marked; who waits is counted before marks are read: none is missed.
        if self.signal.n_waiting.load(Ordering::SeqCst) > 0 {
            lock(&self.signal.bell).has_room = true;
            self.signal.rung.notify_one();
        }
    }

    /// A stream has ended.
    pub(crate) fn part(&self, proxy: Shared<Proxy>) {
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
/// How long changes are gathered after a push, for each stream that it led: the first change goes at once, and under
/// churn the streams' share of the processor stays bounded.
const PACE_PER_STREAM: Duration = Duration::from_micros(115);
const MAX_PACE: Duration = Duration::from_millis(115);

impl Bell {
    fn is_silent(&self) -> bool {
        self.newcomers.is_empty() && self.leavers.is_empty() && !self.has_room && !self.is_stopping
    }
}

fn run(signal: &Signal, source: &dyn ResourceSource, fleet: &Fleet) {
    let mut thread = PushThread {
        source,
        fleet,
        taken: None,
        paced_until: Instant::now(),
        admission: Admission::default(),
        n_waiting: &signal.n_waiting,
    };
    loop {
        let mut bell = lock(&signal.bell);
        loop {
            let now = Instant::now();
            let change = bell.changed_at.map(|_| thread.paced_until);
            let due = change.into_iter().chain(thread.admission.next_turn()).min();
            if !bell.is_silent() || due.is_some_and(|due| due <= now) {
                break;
            }
            bell = match due {
                Some(due) => {
                    let waited = signal.rung.wait_timeout(bell, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => signal
                    .rung
                    .wait(bell)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        if bell.is_stopping {
            return;
        }
        let is_paced = Instant::now() < thread.paced_until;
        let changed_at = bell.changed_at.take_if(|_| !is_paced);
        let newcomers = std::mem::take(&mut bell.newcomers);
        let leavers = std::mem::take(&mut bell.leavers);
        bell.has_room = false;
        drop(bell);
        thread.serve(changed_at, newcomers);
        thread.forget(&leavers);
    }
}

struct PushThread<'a> {
    source: &'a dyn ResourceSource,
    fleet: &'a Fleet,
    /// Changes that a push to newcomers took in, whose own push is still to come.
    taken: Option<Push>,
    paced_until: Instant,
    admission: Admission,
    n_waiting: &'a AtomicUsize,
}

impl PushThread<'_> {
    fn serve(&mut self, changed_at: Option<Instant>, newcomers: Vec<Arc<Connection>>) {
        let newcomers = self.admit(newcomers);
        if changed_at.is_none() && newcomers.is_empty() {
            return;
        }
        let began = Instant::now();
        self.begin();
        if !newcomers.is_empty() {
            self.fleet.metrics().count_trigger(Trigger::Proxy.as_str());
        }
        let since = Since {
            at: began,
            trigger: Trigger::Proxy,
        };
        self.push_all(&newcomers, since);
        let Some(at) = changed_at else {
            // Nobody else may be left to get what was taken in for them.
            let has_others = newcomers.len() < self.fleet.n_connections();
            self.taken = self.taken.take().filter(|_| has_others);
            return;
        };
        let Some(Push { trigger, touched }) = self.taken.take() else {
            return;
        };
        self.fleet.metrics().count_trigger(trigger.as_str());
        let connections = match &touched {
            Touched::All => self.fleet.connections(),
            Touched::Proxies(keys) => self.fleet.connections_of(keys),
        };
        self.push_all(&connections, Since { at, trigger });
        let n_streams = u32::try_from(connections.len()).unwrap_or(u32::MAX);
        let pace = PACE_PER_STREAM.saturating_mul(n_streams).min(MAX_PACE);
        self.paced_until = began + pace;
    }

    /// The streams that get their first resources now: older ones before these.
    fn admit(&mut self, newcomers: Vec<Arc<Connection>>) -> Vec<Arc<Connection>> {
        self.admission.enqueue(newcomers);
        let n_waiting = self.admission.n_waiting();
        self.n_waiting.store(n_waiting, Ordering::SeqCst);
        let admitted = self.admission.admit(Instant::now());
        let n_waiting = self.admission.n_waiting();
        self.n_waiting.store(n_waiting, Ordering::SeqCst);
        self.fleet.metrics().set_waiting(n_waiting);
        admitted
    }

    /// Let the source take in its changes.
    fn begin(&mut self) {
        let everything = || Push {
            trigger: Trigger::Config,
            touched: Touched::All,
        };
        let took = self
            .guard(|| self.source.begin_push())
            .unwrap_or_else(|| Some(everything()));
        self.take(took);
    }

    fn take(&mut self, took: Option<Push>) {
        if let Some(took) = took {
            self.taken = Some(match self.taken.take() {
                Some(before) => before.merge(took),
                None => took,
            });
        }
    }

    /// Push to these streams, and endpoints that change meanwhile also to others: they don't wait for the rest.
    fn push_all(&mut self, connections: &[Arc<Connection>], since: Since) {
        let began = Instant::now();
        let mut looked_at = began;
        let mut building = Duration::ZERO;
        for (i, connection) in connections.iter().enumerate() {
            building += self.push(connection, since);
            if looked_at.elapsed() < LOOK_INTERVAL {
                continue;
            }
            if let Some(touched) = self.guard(|| self.source.take_endpoints()).flatten() {
                let rest: BTreeSet<u64> = connections[i + 1..].iter().map(|c| c.id()).collect();
                let others = match &touched {
                    Touched::All => self.fleet.connections(),
                    Touched::Proxies(keys) => self.fleet.connections_of(keys),
                };
                let since = Since {
                    at: looked_at,
                    trigger: Trigger::Endpoint,
                };
                for served in others.iter().filter(|c| !rest.contains(&c.id())) {
                    building += self.push(served, since);
                }
                // All are led there; the bell that rang for it is still to be answered.
                self.take(Some(Push {
                    trigger: Trigger::Endpoint,
                    touched: Touched::Proxies(Vec::new()),
                }));
            }
            looked_at = Instant::now();
        }
        if !connections.is_empty() {
            let metrics = self.fleet.metrics();
            metrics.observe_push(building, began.elapsed().saturating_sub(building));
        }
    }

    /// Build one proxy's resources and lead its stream to them, if they differ from what it has; how long the
    /// building took.
    fn push(&self, connection: &Connection, since: Since) -> Duration {
        if connection.is_waiting() {
            return Duration::ZERO;
        }
        let began = Instant::now();
        // After a panic the last good resources stay in force; a stream without any waits for the next push.
        let built = self.guard(|| self.source.snapshot_for(connection.proxy()));
        let building = began.elapsed();
        if let Some(target) = built {
            let is_same = connection
                .target()
                .is_some_and(|last| last.is_same(&target));
            if !is_same {
                connection.lead_to(&target, since);
            }
        }
        building
    }

    /// Tell the source which proxies are gone: those that have no other stream.
    fn forget(&self, leavers: &[Shared<Proxy>]) {
        let gone: Vec<Shared<Proxy>> = leavers
            .iter()
            .filter(|proxy| self.fleet.connections_of(&[proxy.hash128()]).is_empty())
            .cloned()
            .collect();
        if !gone.is_empty() {
            // What stays behind after a panic is memory; the next push is not worse for it.
            let _ = self.guard(|| self.source.forget(&gone));
        }
    }

    /// Run what may panic because of a fault of ours: it is counted, the panic hook has told of it, the thread goes on.
    fn guard<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(run));
        if done.is_err() {
            self.fleet.metrics().count_push_panic();
        }
        done.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use navarch_encode::{ResourcePart, ResourceSnapshot};
    use navarch_model::{Proxy, Shared};

    use super::{
        Admission, LOOK_INTERVAL, Push, PushThread, ResourceSource, Since, Touched, Trigger,
    };
    use crate::metrics::Metrics;
    use crate::registry::{Connection, Fleet, lock};
    use crate::session::Variant;

    static NOBODY: AtomicUsize = AtomicUsize::new(0);

    /// Slow to build, and endpoints change as the first is built; panics where it is told to.
    #[derive(Default)]
    struct Slow {
        built: Mutex<Vec<String>>,
        forgotten: Mutex<Vec<String>>,
        n_looks: Mutex<usize>,
        touched: Mutex<Option<Touched>>,
        panics: bool,
    }

    impl ResourceSource for Slow {
        fn snapshot_for(&self, proxy: &Shared<Proxy>) -> Arc<ResourceSnapshot> {
            lock(&self.built).push(proxy.name.to_string());
            std::thread::sleep(LOOK_INTERVAL + Duration::from_millis(10));
            let none = ResourcePart::default();
            Arc::new(ResourceSnapshot::new(&none, &none))
        }

        fn begin_push(&self) -> Option<Push> {
            assert!(!self.panics, "as the test wished");
            let touched = lock(&self.touched).take()?;
            Some(Push {
                trigger: Trigger::Config,
                touched,
            })
        }

        fn take_endpoints(&self) -> Option<Touched> {
            assert!(!self.panics, "as the test wished");
            *lock(&self.n_looks) += 1;
            (*lock(&self.n_looks) == 1).then_some(Touched::All)
        }

        fn forget(&self, proxies: &[Shared<Proxy>]) {
            assert!(!self.panics, "as the test wished");
            lock(&self.forgotten).extend(proxies.iter().map(|proxy| proxy.name.to_string()));
        }
    }

    fn connect(fleet: &Fleet, name: &str) -> Arc<Connection> {
        let node = format!(
            r#"{{"id": "sidecar~10.0.0.1~{name}.shop~shop.svc.cluster.local", "metadata": {{}}}}"#
        );
        let proxy = Proxy::from_node_json(node.as_bytes()).unwrap();
        fleet.connect(Shared::new(proxy), Variant::Delta)
    }

    fn thread<'a>(source: &'a Slow, fleet: &'a Fleet) -> PushThread<'a> {
        PushThread {
            source,
            fleet,
            taken: None,
            paced_until: Instant::now(),
            admission: Admission::default(),
            n_waiting: &NOBODY,
        }
    }

    fn since() -> Since {
        Since {
            at: Instant::now(),
            trigger: Trigger::Config,
        }
    }

    #[test]
    fn endpoints_that_change_during_a_long_push_go_out_at_once() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let [a, b, _other] = ["a", "b", "other"].map(|name| connect(&fleet, name));
        thread(&source, &fleet).push_all(&[a, b], since());
        let built = lock(&source.built).join(" ");
        assert_eq!(built, "a.shop a.shop other.shop b.shop");
    }

    #[test]
    fn only_proxies_that_a_change_touches_are_pushed_to() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let [_a, b] = ["a", "b"].map(|name| connect(&fleet, name));
        *lock(&source.n_looks) = 1;
        *lock(&source.touched) = Some(Touched::Proxies(vec![b.proxy().hash128()]));
        let mut thread = thread(&source, &fleet);
        thread.serve(Some(Instant::now()), Vec::new());
        assert_eq!(*lock(&source.built), ["b.shop"]);
        thread.serve(Some(Instant::now()), Vec::new());
        assert_eq!(*lock(&source.built), ["b.shop"], "nothing changed");
    }

    #[test]
    fn what_newcomers_pushes_take_in_goes_to_those_it_touches() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let [a, b] = ["a", "b"].map(|name| connect(&fleet, name));
        *lock(&source.n_looks) = 1;
        *lock(&source.touched) = Some(Touched::Proxies(vec![a.proxy().hash128()]));
        let mut thread = thread(&source, &fleet);
        thread.serve(None, vec![b]);
        assert_eq!(*lock(&source.built), ["b.shop"]);
        thread.serve(Some(Instant::now()), Vec::new());
        assert_eq!(*lock(&source.built), ["b.shop", "a.shop"]);
    }

    #[test]
    fn a_stream_that_waits_for_its_turn_is_left_out_of_pushes() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let [a, b] = ["a", "b"].map(|name| connect(&fleet, name));
        b.set_waiting(true);
        *lock(&source.n_looks) = 1;
        *lock(&source.touched) = Some(Touched::All);
        let mut thread = thread(&source, &fleet);
        thread.serve(Some(Instant::now()), Vec::new());
        assert_eq!(*lock(&source.built), ["a.shop"]);
        thread.serve(None, vec![b]);
        assert_eq!(*lock(&source.built), ["a.shop", "b.shop"]);
        drop(a);
    }

    #[test]
    fn only_proxies_without_another_stream_are_forgotten() {
        let (source, fleet) = (Slow::default(), Fleet::new(Metrics::new()));
        let [gone, back] = ["gone", "back"].map(|name| connect(&fleet, name));
        let leavers = [&gone, &back].map(|connection| connection.proxy().clone());
        fleet.disconnect(&gone);
        fleet.disconnect(&back);
        let _again = connect(&fleet, "back");
        thread(&source, &fleet).forget(&leavers);
        assert_eq!(*lock(&source.forgotten), ["gone.shop"]);
    }

    #[test]
    fn a_panic_of_the_source_is_counted_and_all_are_pushed_to() {
        let source = Slow {
            panics: true,
            ..Slow::default()
        };
        let fleet = Fleet::new(Metrics::new());
        let leaver = connect(&fleet, "gone");
        fleet.disconnect(&leaver);
        let _stays = connect(&fleet, "stays");
        let mut thread = thread(&source, &fleet);
        thread.serve(Some(Instant::now()), Vec::new());
        thread.forget(&[leaver.proxy().clone()]);
        assert_eq!(*lock(&source.built), ["stays.shop"]);
        let text = fleet.metrics().to_text();
        assert!(text.contains("navarch_push_panics 3"), "{text}");
    }
}
