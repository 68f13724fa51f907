//! Probes of the application: for the kubelet, and for a `WorkloadGroup`, whose control plane is told of changes.
//!
//! Source: istio `pkg/istio-agent/health`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;

use crate::grpc;
use crate::relay::Health;
use crate::settings::{Header, HttpGet, ReadinessProbe};
use crate::status::ready::check_envoy;

/// `grpc.health.v1.HealthCheckResponse.SERVING`.
const SERVING: u64 = 1;
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// `scheme://host:port/path` of an HTTP probe.
pub(crate) fn http_uri(host: &str, get: &HttpGet) -> String {
    let scheme = if get.scheme.eq_ignore_ascii_case("https") {
        "https"
    } else {
        "http"
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let slash = if get.path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}:{}{slash}{}", get.port, get.path)
}

/// Whether an HTTP request is answered with 200 to 399, as Kubernetes judges.
pub(crate) async fn check_http(host: &str, get: &HttpGet, timeout: Duration) -> Result<(), String> {
    let mut request = Request::builder()
        .uri(http_uri(host, get))
        .body(Full::new(Bytes::new()))
        .map_err(|e| e.to_string())?;
    for Header { name, value } in &get.http_headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
        let value = HeaderValue::from_str(value).map_err(|e| e.to_string())?;
        request.headers_mut().insert(name, value);
    }
    let response = crate::http_client::send(request, timeout).await?;
    match response.status().as_u16() {
        200..=399 => Ok(()),
        status => Err(format!("the application answers {status}")),
    }
}

/// Whether a TCP connection is taken.
pub(crate) async fn check_tcp(host: &str, port: u16, timeout: Duration) -> Result<(), String> {
    let connecting = TcpStream::connect((host, port));
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map(drop).map_err(|e| e.to_string()),
        Err(_) => Err("no connection in time".to_owned()),
    }
}

/// Whether gRPC's health service says that a service is served.
pub(crate) async fn check_grpc(
    host: &str,
    port: u16,
    service: &str,
    timeout: Duration,
) -> Result<(), String> {
    let asked = tokio::time::timeout(timeout, ask_health(host, port, service)).await;
    asked.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn ask_health(host: &str, port: u16, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| e.to_string())?;
    let connected =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|e| e.to_string())?;
    // It ends when the sender does; errors are told to the request.
    tokio::spawn(connection);
    // `HealthCheckRequest { string service = 1 }`
    let mut message = Vec::new();
    prost::encoding::string::encode(1, &service.to_owned(), &mut message);
    let request = Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(grpc::frame(&message)))
        .map_err(|e| e.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await;
    let body = body.map_err(|e| e.to_string())?.to_bytes();
    // `HealthCheckResponse { ServingStatus status = 1 }`: a header of five bytes, the key 0x08, the value.
    match body.get(grpc::HEADER_LEN..) {
        Some([0x08, status, ..]) if u64::from(*status) == SERVING => Ok(()),
        Some([0x08, status, ..]) => Err(format!("the health service says {status}, not SERVING")),
        _ => Err("the application has no health service, or not this service".to_owned()),
    }
}

async fn check_program(command: &[String], timeout: Duration) -> Result<(), String> {
    let (program, words) = command.split_first().ok_or("the probe has no command")?;
    let mut program = Command::new(program);
    let running = program.args(words).kill_on_drop(true).status();
    match tokio::time::timeout(timeout, running).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("the program ends with {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the program does not end in time".to_owned()),
    }
}

async fn check(probe: &ReadinessProbe, here: &str, timeout: Duration) -> Result<(), String> {
    if let Some(get) = &probe.http_get {
        let host = if get.host.is_empty() { here } else { &get.host };
        return check_http(host, get, timeout).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = if tcp.host.is_empty() { here } else { &tcp.host };
        return check_tcp(host, tcp.port, timeout).await;
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.as_deref().unwrap_or_default();
        return check_grpc(here, grpc.port, service, timeout).await;
    }
    match &probe.exec {
        Some(exec) => check_program(&exec.command, timeout).await,
        None => Err("the readiness probe tells nothing to ask".to_owned()),
    }
}

/// Counts outcomes against the thresholds.
#[derive(Debug, Default)]
struct Judge {
    n_successes: u32,
    n_failures: u32,
    said: Option<bool>,
}

impl Judge {
    /// Take an outcome; what is to be told, if that has changed.
    fn take(&mut self, outcome: Result<(), String>, probe: &ReadinessProbe) -> Health {
        let is_success = outcome.is_ok();
        let (count, other, threshold) = if is_success {
            (
                &mut self.n_successes,
                &mut self.n_failures,
                probe.success_threshold.max(1),
            )
        } else {
            let threshold = if probe.failure_threshold == 0 {
                3
            } else {
                probe.failure_threshold
            };
            (&mut self.n_failures, &mut self.n_successes, threshold)
        };
        *count = count.saturating_add(1);
        *other = 0;
        if *count < threshold || self.said == Some(is_success) {
            return None;
        }
        self.said = Some(is_success);
        Some(outcome)
    }
}

/// Ask for ever, and tell changes.
pub(crate) async fn watch(
    probe: ReadinessProbe,
    here: &'static str,
    envoy: Option<String>,
    told: watch::Sender<Health>,
) {
    let seconds =
        |told: u32, other: u64| Duration::from_secs(if told == 0 { other } else { told.into() });
    let timeout = seconds(probe.timeout_seconds, 1);
    let mut ticks = tokio::time::interval(seconds(probe.period_seconds, 10));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut judge = Judge::default();
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 1)).await;
    loop {
        ticks.tick().await;
        let mut outcome = check(&probe, here, timeout).await;
        // An application behind a proxy that is not ready can't be reached either.
        if let (Ok(()), Some(envoy)) = (&outcome, &envoy) {
            outcome = check_envoy(envoy).await;
        }
        let Some(health) = judge.take(outcome, &probe) else {
            continue;
        };
        match &health {
            Ok(()) => tracing::info!("the application is healthy"),
            Err(fault) => tracing::warn!("the application is not healthy: {fault}"),
        }
        told.send_replace(Some(health));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Judge, check_program, http_uri};
    use crate::settings::{HttpGet, ReadinessProbe};

    #[test]
    fn thresholds_decide_and_only_changes_are_told() {
        let probe = ReadinessProbe {
            success_threshold: 2,
            failure_threshold: 2,
            ..ReadinessProbe::default()
        };
        let mut judge = Judge::default();
        let bad = || Err("x".to_owned());
        assert_eq!(judge.take(Ok(()), &probe), None);
        assert_eq!(judge.take(Ok(()), &probe), Some(Ok(())));
        assert_eq!(judge.take(Ok(()), &probe), None);
        assert_eq!(judge.take(bad(), &probe), None);
        assert_eq!(judge.take(Ok(()), &probe), None);
        assert_eq!(judge.take(bad(), &probe), None);
        assert_eq!(judge.take(bad(), &probe), Some(bad()));
    }

    #[test]
    fn uris_are_whole() {
        let get = HttpGet {
            path: "healthz?full=1".into(),
            port: 8080,
            scheme: "HTTPS".into(),
            ..HttpGet::default()
        };
        assert_eq!(http_uri("::1", &get), "https://[::1]:8080/healthz?full=1");
    }

    #[tokio::test]
    async fn a_programs_exit_code_tells() {
        let run = |word: &str| {
            let command = vec![word.to_owned()];
            async move { check_program(&command, Duration::from_secs(5)).await }
        };
        assert_eq!(run("true").await, Ok(()));
        assert!(run("false").await.is_err());
        assert!(run("/no/such/program").await.is_err());
    }
}
