//! The aggregated discovery service as a tower service: requests decoded by prost, responses written as
//! frames of shared bytes (docs/decisions/002-ads-in-rust.md).

mod requests;
mod stream;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, header};
use navarch_envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::line::Line;
use crate::push::Pusher;
use crate::registry::Fleet;
use crate::secure::{Admission, Standing};
use crate::session::SotwRequest;
use crate::status::write_status;
use requests::Requests;
use stream::{AdsStream, Caller, XdsRequest};

/// The largest request that is read; an ACK that lists 50,000 names stays below.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct AggregatedDiscovery {
    fleet: Arc<Fleet>,
    pusher: Arc<Pusher>,
}

impl AggregatedDiscovery {
    /// A service whose streams join `fleet` and get their resources from `pusher`.
    pub fn new(fleet: Arc<Fleet>, pusher: Arc<Pusher>) -> Self {
        Self { fleet, pusher }
    }

    fn open<R: XdsRequest>(&self, body: Body, head: &http::request::Parts) -> Response<Body> {
        let timeout = head.headers.get("grpc-timeout").and_then(read_timeout);
        let stream = AdsStream::new(
            Requests::<R>::new(body, MAX_REQUEST_BYTES),
            Arc::clone(&self.fleet),
            Arc::clone(&self.pusher),
            Caller {
                deadline: timeout.map(|t| Box::pin(tokio::time::sleep(t))),
                standing: head
                    .extensions
                    .get::<Admission>()
                    .cloned()
                    .map(Standing::new),
                line: head.extensions.get::<Line>().cloned(),
            },
        );
        let mut response = Response::new(Body::new(stream));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        response
    }
}

impl tonic::server::NamedService for AggregatedDiscovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<Request<Body>> for AggregatedDiscovery {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let response = match head.uri.path().rsplit_once('/').map(|(_, method)| method) {
            _ if !is_identity(&head.headers) => {
                let text = "requests must not be compressed (grpc-encoding: identity)";
                let mut response = refuse(&Status::unimplemented(text));
                let identity = HeaderValue::from_static("identity");
                response
                    .headers_mut()
                    .insert("grpc-accept-encoding", identity);
                response
            }
            Some("StreamAggregatedResources") => self.open::<SotwRequest>(body, &head),
            Some("DeltaAggregatedResources") => self.open::<DeltaDiscoveryRequest>(body, &head),
            _ => refuse(&Status::unimplemented("no such method")),
        };
        ready(Ok(response))
    }
}

/// A response that is a status and nothing else.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    match write_status(status, response.headers_mut()) {
        Ok(()) => response,
        Err(unwritable) => unwritable.into_http(),
    }
}

fn is_identity(headers: &HeaderMap) -> bool {
    headers
        .get("grpc-encoding")
        .is_none_or(|encoding| encoding == "identity")
}

/// `TimeoutValue TimeoutUnit` of gRPC over HTTP/2, such as `500m`.
fn read_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = if number.len() <= 8 {
        number.parse().ok()?
    } else {
        return None;
    };
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::read_timeout;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text| read_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("500m"), Some(Duration::from_millis(500)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        for text in ["", "m", "5", "5x", "123456789S", "-1S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
