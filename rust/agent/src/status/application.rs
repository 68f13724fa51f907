//! The application's probes: Kubernetes asks the agent, since what it asks the pod goes through Envoy, which wants TLS.
//!
//! Source: istio `pilot/cmd/pilot-agent/status/server.go` (`handleAppProbe`).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use super::{Answer, Status, plain};
use crate::envoy::localhost;
use crate::probe;
use crate::settings::{AppProbe, Header, HttpGet};

pub(super) async fn answer(request: &Request<Incoming>, status: &Status) -> Answer {
    let path = request.uri().path();
    let Some(told) = status.settings.app_probes.get(path) else {
        return plain(
            StatusCode::NOT_FOUND,
            &format!("no probe is told for {path}\n"),
        );
    };
    let timeout = Duration::from_secs(told.timeout_seconds.max(1).into());
    let here = localhost(&status.settings);
    match told {
        AppProbe {
            http_get: Some(get),
            ..
        } => pass_on(request.headers(), get, here, timeout).await,
        AppProbe {
            tcp_socket: Some(tcp),
            ..
        } => {
            let host = if tcp.host.is_empty() { here } else { &tcp.host };
            judged(probe::check_tcp(host, tcp.port, timeout).await)
        }
        AppProbe {
            grpc: Some(grpc), ..
        } => {
            let service = grpc.service.as_deref().unwrap_or_default();
            judged(probe::check_grpc(here, grpc.port, service, timeout).await)
        }
        _ => plain(StatusCode::BAD_REQUEST, "the probe tells nothing to ask\n"),
    }
}

fn judged(outcome: Result<(), String>) -> Answer {
    match outcome {
        Ok(()) => plain(StatusCode::OK, ""),
        Err(fault) => plain(StatusCode::INTERNAL_SERVER_ERROR, &fault),
    }
}

/// Ask the application what the kubelet asked, with its headers, and give back what it says.
async fn pass_on(asked: &HeaderMap, get: &HttpGet, here: &str, timeout: Duration) -> Answer {
    let host = if get.host.is_empty() { here } else { &get.host };
    let mut headers = asked.clone();
    headers.remove(header::HOST);
    headers.remove(header::CONNECTION);
    // The agent's own word on reuse would keep a connection for each probe.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for Header { name, value } in &get.http_headers {
        let parsed = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        );
        if let (Ok(name), Ok(value)) = parsed {
            headers.insert(name, value);
        }
    }
    let uri = probe::http_uri(host, get);
    let mut request = match Request::builder().uri(uri).body(Full::new(Bytes::new())) {
        Ok(request) => request,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    *request.headers_mut() = headers;
    match crate::http_client::send(request, timeout).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let mut made = plain(head.status, "");
            *made.body_mut() = body.boxed();
            made
        }
        Err(fault) => plain(StatusCode::INTERNAL_SERVER_ERROR, &fault),
    }
}
