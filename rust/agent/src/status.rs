//! The agent's own HTTP port, 15020: readiness, merged metrics, the application's probes, the end.
//!
//! Source: istio `pilot/cmd/pilot-agent/status/server.go`.

mod application;
mod merge;
pub(crate) mod ready;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use navarch_envoy::istio::networking::nds::v1::NameTable;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::settings::Settings;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// What the port can be asked for.
pub(crate) struct Status {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    /// The name table, if DNS is served.
    pub(crate) names: Option<watch::Receiver<Option<Arc<NameTable>>>>,
    /// Ends the agent.
    pub(crate) stop: watch::Sender<bool>,
}

/// Listen on the status port of all of the machine's addresses.
pub(crate) async fn listen(settings: &Settings) -> std::io::Result<TcpListener> {
    let ip = if settings.is_ipv6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    TcpListener::bind(SocketAddr::new(ip, settings.proxy.status_port)).await
}

/// Answer for ever.
pub(crate) async fn serve(listener: TcpListener, status: Arc<Status>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(converse(stream, peer, Arc::clone(&status)))),
            Err(error) => {
                // Out of descriptors: those that close make room.
                tracing::warn!("a connection to the status port is not taken: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, status: Arc<Status>) {
    let service = service_fn(|request| {
        let status = Arc::clone(&status);
        async move { Ok::<_, Infallible>(answer(request, peer, &status).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a connection to the status port ended: {error}");
    }
}

async fn answer(request: Request<Incoming>, peer: SocketAddr, status: &Arc<Status>) -> Answer {
    match request.uri().path() {
        "/healthz/ready" => match ready::check(status).await {
            Ok(()) => plain(StatusCode::OK, ""),
            Err(fault) => {
                tracing::debug!("not ready: {fault}");
                plain(StatusCode::SERVICE_UNAVAILABLE, &fault)
            }
        },
        "/stats/prometheus" | "/metrics" => merge::answer(&request, status).await,
        "/debug/ndsz" if peer.ip().is_loopback() => plain(StatusCode::OK, &table_text(status)),
        "/quitquitquit" => quit(request.method(), peer, status),
        path if path.starts_with("/app-health/") => application::answer(&request, status).await,
        _ => plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn quit(method: &Method, peer: SocketAddr, status: &Status) -> Answer {
    if !peer.ip().is_loopback() {
        return plain(
            StatusCode::FORBIDDEN,
            "only this machine may end the agent\n",
        );
    }
    if method != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "POST it\n");
    }
    status.stop.send_replace(true);
    plain(StatusCode::OK, "ok\n")
}

fn table_text(status: &Status) -> String {
    let table = status
        .names
        .as_ref()
        .and_then(|names| names.borrow().clone());
    let mut out = String::new();
    for (host, told) in table.iter().flat_map(|table| &table.table) {
        out.extend([host, " ", &told.ips.join(" "), "\n"]);
    }
    out
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let mut made = Response::new(body.map_err(|never| match never {}).boxed());
    *made.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    made.headers_mut().insert(header::CONTENT_TYPE, kind);
    made
}
