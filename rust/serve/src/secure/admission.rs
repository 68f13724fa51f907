//! A caller on a stream: who it may say that it is, how long it may stay, how much it may send.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use navarch_model::{Proxy, Shared};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream as _;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::caller::{Caller, Revocation};
use super::gate::{Gate, check_revoked};
use super::rate::Bucket;
use super::secret_lane::{SecretLane, SecretSource};
use super::wall_clock;

/// The most messages a second that a stream is read; an Envoy answers each response by one.
const MESSAGES_PER_SECOND: f64 = 500.0;

/// A caller that was let in, and by which gate.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(super) caller: Arc<Caller>,
    pub(super) gate: Arc<Gate>,
    pub(super) secrets: SecretSource,
}

/// The rights of one stream.
pub(crate) struct Standing {
    admission: Admission,
    expiry: Pin<Box<Sleep>>,
    revocations: WatchStream<Arc<[Revocation]>>,
    messages: Bucket,
}

impl Standing {
    pub(crate) fn new(admission: Admission) -> Self {
        let seconds = admission.caller.expires_at.saturating_sub(wall_clock());
        let left = Duration::from_secs(seconds.try_into().unwrap_or(0));
        Self {
            expiry: Box::pin(sleep(left)),
            revocations: WatchStream::new(admission.gate.watch_revocations()),
            messages: Bucket::new(MESSAGES_PER_SECOND, Instant::now()),
            admission,
        }
    }

    /// Who it is.
    pub(crate) fn caller(&self) -> &Caller {
        &self.admission.caller
    }

    /// The secrets of the caller's stream.
    pub(crate) fn secrets_of(&self, proxy: Shared<Proxy>) -> SecretLane {
        SecretLane::new(&self.admission, proxy)
    }

    /// Whether a node is the caller's own (istio `pilot/pkg/xds/auth.go`).
    pub(crate) fn check_node(&self, proxy: &Proxy) -> Result<(), Status> {
        let identity = &self.caller().identity;
        let account = proxy.metadata.service_account.as_str();
        let is_own = *proxy.namespace == *identity.namespace()
            && (account.is_empty() || account == identity.service_account());
        if is_own {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "node `{}` of namespace `{}` and service account `{account}` is not {identity}, who calls: \
             NAMESPACE and SERVICE_ACCOUNT in node.metadata must be the caller's own",
            proxy.id, proxy.namespace,
        )))
    }

    /// Count a message.
    pub(crate) fn take_message(&mut self) -> Result<(), Status> {
        if self.messages.take(MESSAGES_PER_SECOND, Instant::now()) {
            return Ok(());
        }
        Err(Status::resource_exhausted(
            "the stream sends too many messages",
        ))
    }

    /// Why the stream must end now, if it must; registers for the time when it may have to.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<Status> {
        if self.expiry.as_mut().poll(cx).is_ready() {
            return Some(Status::unauthenticated(
                "the certificate or token of this stream has expired: connect again with a new one",
            ));
        }
        while let Poll::Ready(Some(revoked)) = Pin::new(&mut self.revocations).poll_next(cx) {
            if let Err(status) = check_revoked(&revoked, &self.admission.caller.identity) {
                return Some(status);
            }
        }
        None
    }
}
