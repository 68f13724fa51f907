//! The threads that play the sidecars, each its share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::Context;
use navarch_envoy::envoy::config::core::v3::Node;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::connection::{Counters, Plan, Report, Shared, run};
use crate::marker::Change;
use crate::names::{Interner, VersionTable};
use crate::request::NamesCache;

/// A change to wait for from now on; answered when the thread's sidecars watch for it.
type Order = (
    u64,
    Arc<[(navarch_envoy::TypeUrl, String)]>,
    oneshot::Sender<()>,
);

/// All threads.
pub(crate) struct Crew {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    pub(crate) counters: Arc<Counters>,
}

impl Crew {
    /// Start the threads; their sidecars connect at once.
    pub(crate) fn start(
        plan: Plan,
        nodes: Vec<Node>,
        n_threads: usize,
        reports: &Sender<Report>,
    ) -> anyhow::Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut shares: Vec<Vec<(usize, Node)>> = vec![Vec::new(); n_threads];
        for (sidecar, node) in nodes.into_iter().enumerate() {
            shares[sidecar % n_threads].push((sidecar, node));
        }
        let mut orders = Vec::new();
        for share in shares {
            let (sender, receiver) = mpsc::unbounded_channel();
            orders.push(sender);
            let (counters, reports) = (Arc::clone(&counters), reports.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            std::thread::Builder::new()
                .name("sidecars".to_owned())
                .spawn(move || {
                    let shared = Rc::new(Shared {
                        plan,
                        counters,
                        reports,
                        change: RefCell::default(),
                        interner: RefCell::new(Interner::default()),
                        versions: RefCell::new(VersionTable::default()),
                        cache: RefCell::new(NamesCache::default()),
                    });
                    runtime.block_on(LocalSet::new().run_until(work(shared, share, receiver)));
                })?;
        }
        Ok(Self { orders, counters })
    }

    /// Let every sidecar watch for a change, from now on.
    pub(crate) fn watch_for(
        &self,
        id: u64,
        texts: Vec<(navarch_envoy::TypeUrl, String)>,
    ) -> anyhow::Result<()> {
        let texts: Arc<[_]> = texts.into();
        for thread in &self.orders {
            let (sender, receiver) = oneshot::channel();
            thread
                .send((id, Arc::clone(&texts), sender))
                .ok()
                .context("a thread of sidecars has ended")?;
            receiver.blocking_recv()?;
        }
        Ok(())
    }
}

async fn work(
    shared: Rc<Shared>,
    share: Vec<(usize, Node)>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    for (sidecar, node) in share {
        tokio::task::spawn_local(run(Rc::clone(&shared), sidecar, node));
    }
    while let Some((id, texts, done)) = orders.recv().await {
        *shared.change.borrow_mut() = Some(Rc::new(Change::new(id, &texts)));
        // The asker waits for it unless the program ends.
        _ = done.send(());
    }
}
