//! One scrape for all: Envoy's metrics, the agent's and the application's, each passed on as it comes.
//!
//! Source: istio `pilot/cmd/pilot-agent/status/server.go` (`handleStats`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use super::{Answer, Status};
use crate::http_client;
use crate::metrics::Scraped;
use crate::settings::Scrape;

/// Prometheus' own default, which a scrape that it made would be cut at.
const TIMEOUT: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text";
/// What scrapers tell of themselves and the application may go by.
const PASSED_ON: [&str; 3] = [
    "accept",
    "user-agent",
    "x-prometheus-scrape-timeout-seconds",
];

pub(super) async fn answer(request: &Request<Incoming>, status: &Status) -> Answer {
    status.metrics.count_scrape();
    let settings = &status.settings;
    let here = if settings.is_ipv6 {
        "[::1]"
    } else {
        "127.0.0.1"
    };
    let mut parts = VecDeque::new();
    if settings.has_envoy {
        let uri = format!(
            "http://{here}:{}/stats/prometheus",
            settings.envoy_prometheus_port
        );
        match fetch(&uri, &HeaderMap::new()).await {
            Ok(response) => parts.push_back(Part::Streamed(response.into_body())),
            Err(fault) => {
                status.metrics.count_scrape_failure(Scraped::Envoy);
                tracing::warn!("Envoy's metrics are missing: {fault}");
            }
        }
    }
    let mut kind = HeaderValue::from_static(TEXT);
    let mut application = None;
    if let Some(scrape) = &settings.scrape {
        match fetch(&application_uri(scrape, here), request.headers()).await {
            Ok(response) => {
                if let Some(told) = response.headers().get(header::CONTENT_TYPE) {
                    kind = told.clone();
                }
                application = Some(Part::Streamed(response.into_body()));
            }
            Err(fault) => {
                status.metrics.count_scrape_failure(Scraped::Application);
                tracing::warn!("the application's metrics are missing: {fault}");
            }
        }
    }
    let own = Bytes::from(status.metrics.to_text());
    parts.push_back(Part::Whole(own));
    // Last, since the end mark of OpenMetrics is its own.
    parts.extend(application);
    let mut response = Response::new(Merged { parts }.boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn application_uri(scrape: &Scrape, here: &str) -> String {
    let or = |told: &str, other: &str| {
        if told.is_empty() {
            other.to_owned()
        } else {
            told.to_owned()
        }
    };
    let path = or(&scrape.path, "/metrics");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!(
        "{}://{here}:{}{slash}{path}",
        or(&scrape.scheme, "http"),
        or(&scrape.port, "80")
    )
}

async fn fetch(uri: &str, told: &HeaderMap) -> Result<Response<Incoming>, String> {
    let mut request = Request::builder()
        .uri(uri)
        .body(Full::default())
        .map_err(|e| e.to_string())?;
    for name in PASSED_ON {
        if let Some(value) = told.get(name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    // OpenMetrics ends with a mark, and Envoy's and the agent's own metrics are of the plain format.
    if told.get(header::ACCEPT).is_some_and(|accept| {
        accept
            .to_str()
            .is_ok_and(|accept| accept.contains(OPEN_METRICS))
    }) {
        let plain = HeaderValue::from_static("text/plain;version=0.0.4;q=1,*/*;q=0.1");
        request.headers_mut().insert(header::ACCEPT, plain);
    }
    let response = http_client::send(request, TIMEOUT).await?;
    if !response.status().is_success() {
        return Err(format!("{uri} answers {}", response.status()));
    }
    Ok(response)
}

/// One scrape within the answer.
enum Part {
    Whole(Bytes),
    Streamed(Incoming),
}

/// Parts one after the other; nothing is put together. One that breaks off ends early, on a line of its own.
struct Merged {
    parts: VecDeque<Part>,
}

impl Body for Merged {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            let frame = match self.parts.front_mut() {
                None => return Poll::Ready(None),
                Some(Part::Whole(bytes)) => Some(Ok(Frame::data(std::mem::take(bytes)))),
                Some(Part::Streamed(body)) => ready!(Pin::new(body).poll_frame(context)),
            };
            let is_whole = matches!(self.parts.front(), Some(Part::Whole(_)));
            if is_whole || !matches!(frame, Some(Ok(_))) {
                self.parts.pop_front();
            }
            match frame {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                Some(Err(_)) => {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\n")))));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::application_uri;
    use crate::settings::Scrape;

    #[test]
    fn the_annotations_have_prometheus_defaults() {
        let told = |path: &str, port: &str| Scrape {
            path: path.into(),
            port: port.into(),
            ..Scrape::default()
        };
        assert_eq!(
            application_uri(&told("", ""), "127.0.0.1"),
            "http://127.0.0.1:80/metrics"
        );
        assert_eq!(
            application_uri(&told("m", "9"), "127.0.0.1"),
            "http://127.0.0.1:9/m"
        );
    }
}
