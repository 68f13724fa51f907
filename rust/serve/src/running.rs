//! A server on threads of its own: graceful drain, and the end at once.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Error, Server};

use crate::registry::lock;

/// Istio's defaults for its agents' connections (`pkg/keepalive/options.go`).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What tasks that the server has left behind get to end.
const TASKS_TIMEOUT: Duration = Duration::from_millis(100);

/// What every port of ours has: connections are probed, and after `max_age` take no new streams (GOAWAY); the streams
/// that they have end by themselves soon after.
pub(crate) fn server(max_age: Option<Duration>) -> Server {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    match max_age {
        Some(max_age) => server.max_connection_age(max_age),
        None => server,
    }
}

/// A server that was started. Dropping it stops it at once.
pub(crate) struct Running(Mutex<Option<Parts>>);

/// Comes true when the server is to stop.
pub(crate) struct Stopped(oneshot::Receiver<()>);

impl Stopped {
    pub(crate) async fn wait(self) {
        // An error means that the sender is gone, which is the same wish.
        let _ = self.0.await;
    }
}

struct Parts {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Run on `runtime` what `serve` makes of the future that says when to stop.
    pub(crate) fn start<F>(runtime: Runtime, serve: impl FnOnce(Stopped) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let served = runtime.spawn(serve(Stopped(stopped)));
        Self(Mutex::new(Some(Parts {
            runtime,
            stop,
            served,
        })))
    }

    /// Stop listening, tell connections to go (GOAWAY), and have `close` end the streams; give up after `timeout`.
    ///
    /// Returns whether all ended in time.
    pub(crate) fn drain(&self, timeout: Duration, close: impl FnOnce()) -> bool {
        let Some(Parts {
            runtime,
            stop,
            served,
        }) = lock(&self.0).take()
        else {
            return true;
        };
        // A receiver that is gone has stopped already.
        let _ = stop.send(());
        close();
        let is_clean =
            runtime.block_on(async { tokio::time::timeout(timeout, served).await.is_ok() });
        runtime.shutdown_timeout(TASKS_TIMEOUT);
        is_clean
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(parts) = lock(&self.0).take() {
            parts.runtime.shutdown_background();
        }
    }
}
