//! ADS behind the gate.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::admission::Admission;
use super::figures::Figures;
use super::gate::{Gate, Purpose};
use super::peer::Peer;
use super::secret_lane::SecretSource;
use crate::ads::{AggregatedDiscovery, refuse};

/// The discovery service for callers that the gate lets in.
#[derive(Clone)]
pub(super) struct GuardedDiscovery {
    pub(super) inner: AggregatedDiscovery,
    pub(super) gate: Arc<Gate>,
    pub(super) secrets: SecretSource,
    pub(super) figures: Figures,
}

impl NamedService for GuardedDiscovery {
    const NAME: &'static str = AggregatedDiscovery::NAME;
}

impl Service<Request<Body>> for GuardedDiscovery {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Self {
            mut inner,
            gate,
            secrets,
            figures,
        } = self.clone();
        Box::pin(async move {
            let Some(peer) = request.extensions().get::<Peer>().cloned() else {
                return Ok(refuse(&Status::internal("the connection has no peer")));
            };
            match gate
                .admit(request.headers(), &peer, Purpose::Discovery)
                .await
            {
                Err(status) => {
                    figures.count_refused(&status);
                    Ok(refuse(&status))
                }
                Ok(caller) => {
                    let caller = Arc::new(caller);
                    request.extensions_mut().insert(peer.line);
                    request.extensions_mut().insert(Admission {
                        caller,
                        gate,
                        secrets,
                    });
                    inner.call(request).await
                }
            }
        })
    }
}
