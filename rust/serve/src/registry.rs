//! The connected streams: who they are, what each is to be led to, where each stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Instant;

use atomic_waker::AtomicWaker;
use navarch_encode::ResourceSnapshot;
use navarch_model::{Proxy, Shared};

use crate::health::HealthNews;
use crate::limits::StreamLimits;
use crate::line::Line;
use crate::metrics::{Metrics, StreamEnd};
use crate::push::Since;
use crate::session::{NameSets, Rejection, TypeStatus, Variant};

/// How many rejections are remembered, the latest for each proxy and type.
const MAX_REJECTIONS: usize = 1000;

/// What lies in a stream's mailbox: at most one of each, the newest.
#[derive(Debug, Default)]
pub(crate) struct Letter {
    /// The snapshot to lead to, and since when the changes behind it are known.
    pub(crate) target: Option<(Arc<ResourceSnapshot>, Since)>,
    /// When the oldest of it came.
    pub(crate) came_at: Option<Instant>,
    /// The stream is to end.
    pub(crate) is_closing: bool,
}

/// How a client takes what it is sent.
#[derive(Debug)]
struct Progress {
    /// When it last took a piece or sent a request, or more began to wait for it.
    at: Instant,
    /// Whether more waits, for room or for the answer to what it was sent before.
    is_owed: bool,
}

/// One open stream.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    proxy: Shared<Proxy>,
    variant: Variant,
    letter: Mutex<Letter>,
    waker: AtomicWaker,
    target: Mutex<Option<Arc<ResourceSnapshot>>>,
    statuses: Mutex<Vec<TypeStatus>>,
    progress: Mutex<Progress>,
    line: OnceLock<Line>,
    /// Its first resources are still to be built, when others have got theirs.
    is_waiting: AtomicBool,
    /// It has got all for the first time, or is gone.
    is_synced: AtomicBool,
}

impl Connection {
    /// The number of the stream, counted up over the process's life.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who asks.
    pub fn proxy(&self) -> &Shared<Proxy> {
        &self.proxy
    }

    /// Which form of the protocol it speaks.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// What it is led to; `None` before its first snapshot is built.
    pub fn target(&self) -> Option<Arc<ResourceSnapshot>> {
        lock(&self.target).clone()
    }

    /// Where it stands with each type.
    pub fn statuses(&self) -> Vec<TypeStatus> {
        lock(&self.statuses).clone()
    }

    /// Replace what the stream is led to. A former target that it did not take yet is forgotten, but
    /// the time of the oldest change that it has not got stays.
    pub(crate) fn lead_to(&self, target: &Arc<ResourceSnapshot>, since: Since) {
        *lock(&self.target) = Some(Arc::clone(target));
        {
            let mut letter = lock(&self.letter);
            let before = letter.target.as_ref();
            let since = before.map_or(since, |(_, before)| before.merge(since));
            letter.target = Some((Arc::clone(target), since));
            letter.came_at.get_or_insert_with(Instant::now);
        }
        self.waker.wake();
    }

    pub(crate) fn close(&self) {
        lock(&self.letter).is_closing = true;
        self.waker.wake();
    }

    /// Register for the next wake-up, then take what has come: nothing is missed in between.
    pub(crate) fn take_letter(&self, waker: &Waker) -> Letter {
        self.waker.register(waker);
        std::mem::take(&mut *lock(&self.letter))
    }

    /// Whether more waits for the client, and whether it has taken or sent something since this was last noted.
    pub(crate) fn note_progress(&self, is_owed: bool, has_moved: bool) {
        let mut progress = lock(&self.progress);
        if has_moved || !progress.is_owed {
            progress.at = Instant::now();
        }
        progress.is_owed = is_owed;
    }

    /// Since when something waits for the client, of which it takes nothing.
    fn waits_since(&self) -> Option<Instant> {
        let Progress { at, is_owed } = *lock(&self.progress);
        let came_at = lock(&self.letter).came_at.map(|came_at| came_at.max(at));
        is_owed.then_some(at).or(came_at)
    }

    /// What the stream is transported by.
    pub(crate) fn attach(&self, line: Line) {
        // A stream has one.
        let _ = self.line.set(line);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced.load(Ordering::SeqCst)
    }

    /// It has got all for the first time. Whether that is new.
    pub(crate) fn note_synced(&self) -> bool {
        !self.is_synced.swap(true, Ordering::SeqCst)
    }

    fn set_status(&self, status: TypeStatus) {
        let mut statuses = lock(&self.statuses);
        let index = status.type_url.index();
        match statuses.binary_search_by_key(&index, |known| known.type_url.index()) {
            Ok(at) => statuses[at] = status,
            Err(at) => statuses.insert(at, status),
        }
    }
}

/// A rejection and who made it.
#[derive(Clone, Debug)]
pub struct ProxyRejection {
    /// The node id.
    pub proxy_id: Arc<str>,
    /// What was rejected, and why.
    pub rejection: Rejection,
}

#[derive(Debug, Default)]
struct Connections {
    by_id: BTreeMap<u64, Arc<Connection>>,
    /// By the hash of the proxy.
    of_proxy: BTreeMap<u128, BTreeSet<u64>>,
    /// By the node id.
    of_node: BTreeMap<Arc<str>, BTreeSet<u64>>,
}

impl Connections {
    fn insert(&mut self, connection: &Arc<Connection>) {
        let (id, proxy) = (connection.id, &connection.proxy);
        self.by_id.insert(id, Arc::clone(connection));
        self.of_proxy.entry(proxy.hash128()).or_default().insert(id);
        self.of_node.entry(proxy.id.clone()).or_default().insert(id);
    }

    /// Whether it was there.
    fn remove(&mut self, connection: &Connection) -> bool {
        let (id, proxy) = (connection.id, &connection.proxy);
        remove_from(&mut self.of_proxy, &proxy.hash128(), id);
        remove_from(&mut self.of_node, &proxy.id, id);
        self.by_id.remove(&id).is_some()
    }
}

fn remove_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// All open streams of this process.
#[derive(Debug, Default)]
pub struct Fleet {
    connections: Mutex<Connections>,
    rejections: Mutex<BTreeMap<(Arc<str>, &'static str), Rejection>>,
    /// Whether there may be any, to be asked without the lock.
    has_rejections: AtomicBool,
    next_id: AtomicU64,
    names: Arc<NameSets>,
    metrics: Metrics,
    limits: StreamLimits,
    health: Arc<HealthNews>,
}

impl Fleet {
    /// No streams yet.
    pub fn new(metrics: Metrics) -> Arc<Self> {
        Self::with_limits(metrics, StreamLimits::default())
    }

    /// No streams yet; those that come have these limits.
    pub fn with_limits(metrics: Metrics, limits: StreamLimits) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            limits,
            ..Self::default()
        })
    }

    /// How long streams may take.
    pub fn limits(&self) -> &StreamLimits {
        &self.limits
    }

    /// The counters of this fleet.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What agents say of their workloads, for the mesh to take.
    pub fn health(&self) -> &Arc<HealthNews> {
        &self.health
    }

    /// The sets of names that its streams share.
    pub(crate) fn names(&self) -> &Arc<NameSets> {
        &self.names
    }

    /// The open streams, oldest first.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.connections).by_id.values().cloned().collect()
    }

    /// The open streams of proxies, by their hashes and in their order; each once.
    pub(crate) fn connections_of(&self, proxies: &[u128]) -> Vec<Arc<Connection>> {
        let connections = lock(&self.connections);
        let mut seen = BTreeSet::new();
        let ids = proxies
            .iter()
            .filter_map(|key| connections.of_proxy.get(key));
        ids.flatten()
            .filter(|id| seen.insert(**id))
            .filter_map(|id| connections.by_id.get(id).cloned())
            .collect()
    }

    /// How many streams are open.
    pub(crate) fn n_connections(&self) -> usize {
        lock(&self.connections).by_id.len()
    }

    /// The latest rejection of each proxy and type that was not followed by an acceptance.
    pub fn rejections(&self) -> Vec<ProxyRejection> {
        lock(&self.rejections)
            .iter()
            .map(|((id, _), r)| ProxyRejection {
                proxy_id: Arc::clone(id),
                rejection: r.clone(),
            })
            .collect()
    }

    pub(crate) fn connect(&self, proxy: Shared<Proxy>, variant: Variant) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            proxy,
            variant,
            letter: Mutex::default(),
            waker: AtomicWaker::new(),
            target: Mutex::default(),
            statuses: Mutex::default(),
            progress: Mutex::new(Progress {
                at: Instant::now(),
                is_owed: false,
            }),
            line: OnceLock::new(),
            is_waiting: AtomicBool::new(false),
            is_synced: AtomicBool::new(false),
        });
        let mut connections = lock(&self.connections);
        connections.insert(&connection);
        self.metrics.count_connect(version_of(&connection.proxy));
        connection
    }

    pub(crate) fn disconnect(&self, connection: &Connection) {
        connection.note_synced();
        let mut connections = lock(&self.connections);
        if connections.remove(connection) {
            self.health.end(connection);
            self.metrics.count_disconnect(version_of(&connection.proxy));
        }
        let id = &connection.proxy.id;
        if !connections.of_node.contains_key(id) {
            lock(&self.rejections).retain(|(proxy, _), _| proxy != id);
        }
    }

    pub(crate) fn note_rejection(&self, connection: &Connection, rejection: Rejection) {
        self.metrics.count_reject(rejection.type_url);
        let key = (
            Arc::clone(&connection.proxy.id),
            rejection.type_url.short_name(),
        );
        let mut rejections = lock(&self.rejections);
        if rejections.len() < MAX_REJECTIONS || rejections.contains_key(&key) {
            rejections.insert(key, rejection);
            self.has_rejections.store(true, Ordering::SeqCst);
        }
    }

    /// Where a stream stands now with one type. A rejection that is over is forgotten.
    pub(crate) fn note_status(&self, connection: &Connection, status: TypeStatus) {
        if status.rejection.is_none() && self.has_rejections.load(Ordering::SeqCst) {
            let mut rejections = lock(&self.rejections);
            let key = (
                Arc::clone(&connection.proxy.id),
                status.type_url.short_name(),
            );
            rejections.remove(&key);
            self.has_rejections
                .store(!rejections.is_empty(), Ordering::SeqCst);
        }
        connection.set_status(status);
    }

    /// Cut off clients that take nothing for too long of what waits for them.
    pub(crate) fn cut_stalled(&self, now: Instant) {
        let max_stall = self.limits.max_stall;
        let is_stalled = |since| now.saturating_duration_since(since) > max_stall;
        for connection in self.connections() {
            if connection.waits_since().is_some_and(is_stalled)
                && connection.line.get().is_some_and(Line::cut)
            {
                self.metrics.count_end(StreamEnd::SlowReader);
            }
        }
    }

    /// Ask all streams to end.
    pub(crate) fn close_all(&self) {
        for connection in self.connections() {
            connection.close();
        }
    }
}

/// The version of Istio that a proxy is of, as metrics label it.
fn version_of(proxy: &Proxy) -> &str {
    match proxy.metadata.istio_version.as_str() {
        "" => "stock",
        version => version,
    }
}

/// Lock, also after a panic elsewhere: what is guarded is replaced whole, never left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
