//! Envoy as a process: its bootstrap, its start, what happens when it ends, and how it is sent away without a lost request.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use navarch_bootstrap::{Address, AgentPlan, Discovery, Plan, RemoteService};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::connect::split_address;
use crate::http_client;
use crate::metrics::Metrics;
use crate::settings::{RestartPolicy, Settings};

const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long Envoy may take to go once its connections have had their time.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// An Envoy that lived this long was not the victim of what ended the one before.
const STEADY: Duration = Duration::from_secs(60);
const DRAIN_PATH: &str = "/drain_listeners?inboundonly&graceful";
const CONNECTIONS_PATH: &str = "/stats?usedonly&filter=downstream_cx_active$";

/// Why Envoy can't be started.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The node lacks a part.
    #[error(transparent)]
    Bootstrap(#[from] navarch_bootstrap::BootstrapError),
    /// The bootstrap can't be written, or the binary is not there.
    #[error("{file}: {source}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

/// The socket on which Envoy finds the relay.
pub(crate) fn ads_path(settings: &Settings) -> PathBuf {
    settings.proxy.config_path.join("XDS")
}

/// Envoy's bootstrap, as it is written.
///
/// # Errors
/// The node lacks a part.
pub fn build_bootstrap(
    settings: &Settings,
) -> Result<navarch_bootstrap::Bootstrap, navarch_bootstrap::BootstrapError> {
    let proxy = &settings.proxy;
    let matcher = proxy.proxy_stats_matcher.clone();
    let plan = Plan {
        node: settings.node.clone(),
        discovery: Discovery::Pipe(ads_path(settings).display().to_string()),
        admin: Address::new(localhost(settings), proxy.proxy_admin_port),
        is_delta: settings
            .node
            .metadata
            .get("PROXY_XDS_TYPE")
            .is_none_or(|kind| kind != "GRPC"),
        agent: Some(AgentPlan {
            sds_path: settings.sds_path.display().to_string(),
            status_port: proxy.status_port,
            envoy_status_port: settings.envoy_status_port,
            envoy_prometheus_port: settings.envoy_prometheus_port,
            is_ipv6: settings.is_ipv6,
            stats_prefixes: matcher.inclusion_prefixes,
            stats_suffixes: matcher.inclusion_suffixes,
            stats_regexes: matcher.inclusion_regexps,
            extra_stat_tags: proxy.extra_stat_tags.clone(),
            runtime_values: proxy.runtime_values.clone(),
            max_connections: proxy.connection_settings.global_downstream_connection_limit,
            remote_services: remote_services(settings),
        }),
    };
    navarch_bootstrap::build(&plan)
}

/// The clusters that translated configuration names for tracers and log services.
fn remote_services(settings: &Settings) -> Vec<RemoteService> {
    let proxy = &settings.proxy;
    let tracing = proxy.tracing.clone().unwrap_or_default();
    let told = [
        ("zipkin", &tracing.zipkin, false),
        ("datadog_agent", &tracing.datadog, false),
        (
            "envoy_accesslog_service",
            &proxy.envoy_access_log_service,
            true,
        ),
        ("envoy_metrics_service", &proxy.envoy_metrics_service, true),
    ];
    let found = told.into_iter().filter_map(|(cluster, remote, is_http2)| {
        let address = &remote.as_ref()?.address;
        match split_address(address) {
            Ok((host, port)) => Some(RemoteService {
                cluster: cluster.to_owned(),
                address: Address::new(host, port),
                is_http2,
            }),
            Err(error) => {
                tracing::error!("ProxyConfig: {cluster} is left out: {error}");
                None
            }
        }
    });
    found.collect()
}

pub(crate) fn localhost(settings: &Settings) -> &'static str {
    if settings.is_ipv6 { "::1" } else { "127.0.0.1" }
}

/// `http://127.0.0.1:15000`.
pub(crate) fn admin_origin(settings: &Settings) -> String {
    let host = if settings.is_ipv6 {
        "[::1]"
    } else {
        "127.0.0.1"
    };
    format!("http://{host}:{}", settings.proxy.proxy_admin_port)
}

/// What is told to Envoy as flags.
fn arguments(settings: &Settings, config: &Path) -> Vec<String> {
    let proxy = &settings.proxy;
    let mut made: Vec<String> = vec!["-c".into(), config.display().to_string()];
    let mut add = |flag: &str, value: String| made.extend([flag.to_owned(), value]);
    add("--drain-time-s", proxy.drain_duration.as_secs().to_string());
    add("--drain-strategy", "immediate".into());
    let version = if settings.is_ipv6 { "v6" } else { "v4" };
    add("--local-address-ip-version", version.into());
    add(
        "--file-flush-interval-msec",
        proxy.file_flush_interval.as_millis().to_string(),
    );
    add("--log-level", settings.flags.proxy_log_level.clone());
    if !settings.flags.proxy_component_log_level.is_empty() {
        add(
            "--component-log-level",
            settings.flags.proxy_component_log_level.clone(),
        );
    }
    // None is told where there is a limit of CPUs, which Envoy finds by itself.
    if let Some(concurrency) = proxy.concurrency.filter(|n| *n > 0) {
        add("--concurrency", concurrency.to_string());
    }
    made.extend(["--disable-hot-restart", "--allow-unknown-static-fields"].map(String::from));
    made
}

/// Envoy, from the first start to the end.
pub(crate) struct Supervisor {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    config: PathBuf,
}

impl Supervisor {
    /// Write the bootstrap, unless the operator has one.
    pub(crate) fn prepare(
        settings: Arc<Settings>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, EnvoyError> {
        let config = match &settings.proxy.custom_config_file {
            Some(file) => file.clone(),
            None => write_bootstrap(&settings)?,
        };
        Ok(Self {
            settings,
            metrics,
            config,
        })
    }

    /// Run Envoy until it ends or `stop` is told; told again, it gets no more time. Return the exit code to end with.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<u8, EnvoyError> {
        let mut n_failures = 0;
        loop {
            let mut child = self.start()?;
            let began = tokio::time::Instant::now();
            tokio::select! {
                ended = child.wait() => {
                    let code = exit_code(ended.ok());
                    tracing::error!("Envoy ended by itself with {code}");
                    if code == 0 || self.settings.flags.restart_policy == RestartPolicy::Never {
                        return Ok(code);
                    }
                    n_failures = if began.elapsed() > STEADY { 0 } else { n_failures + 1 };
                }
                () = told(&mut stop) => {
                    tokio::select! {
                        () = self.drain(&mut child) => {}
                        () = told_again(&mut stop) => {
                            tracing::info!("told again: connections get no more time");
                        }
                    }
                    return Ok(self.stop(&mut child).await);
                }
            }
            let pause = FIRST_PAUSE
                .saturating_mul(1 << n_failures.min(16))
                .min(LAST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told(&mut stop) => return Ok(0),
            }
        }
    }

    fn start(&self) -> Result<Child, EnvoyError> {
        let binary = &self.settings.proxy.binary_path;
        let mut command = Command::new(binary);
        command
            .args(arguments(&self.settings, &self.config))
            // Of its own group: a Ctrl-C at the terminal is the agent's to handle.
            .process_group(0)
            .kill_on_drop(true);
        let started = command.spawn().map_err(|source| EnvoyError::File {
            file: binary.clone(),
            source,
        })?;
        self.metrics.count_envoy_start();
        tracing::info!(
            "Envoy is started as process {}",
            started.id().unwrap_or_default()
        );
        Ok(started)
    }

    /// Let connections end: Envoy asks its peers to leave, new ones go elsewhere, old ones have their time.
    async fn drain(&self, child: &mut Child) {
        let drain = &self.settings.drain;
        let uri = format!("{}{DRAIN_PATH}", admin_origin(&self.settings));
        if let Err(fault) = http_client::fetch("POST", &uri, ADMIN_TIMEOUT).await {
            tracing::warn!("Envoy can't be told to drain: {fault}");
        }
        let time = if drain.is_until_idle {
            drain.minimum
        } else {
            drain.duration
        };
        tracing::info!("Envoy drains for {} s", time.as_secs_f64());
        tokio::select! {
            () = self.rest(time) => {}
            _ = child.wait() => {}
        }
    }

    async fn rest(&self, time: Duration) {
        tokio::time::sleep(time).await;
        if !self.settings.drain.is_until_idle {
            return;
        }
        loop {
            match self.count_connections().await {
                Ok(0) => {
                    tracing::info!("no connection is left");
                    return;
                }
                Ok(n_left) => tracing::debug!("{n_left} connections are left"),
                Err(fault) => return tracing::warn!("connections can't be counted: {fault}"),
            }
            tokio::time::sleep(IDLE_CHECK_INTERVAL).await;
        }
    }

    /// How many connections of peers there are; those of probes, scrapes and the admin page don't count.
    async fn count_connections(&self) -> Result<u64, String> {
        let uri = format!("{}{CONNECTIONS_PATH}", admin_origin(&self.settings));
        let (_, text) = http_client::fetch("GET", &uri, ADMIN_TIMEOUT).await?;
        let settings = &self.settings;
        let own = [settings.envoy_status_port, settings.envoy_prometheus_port];
        Ok(sum_connections(&text, &own))
    }

    async fn stop(&self, child: &mut Child) -> u8 {
        let id = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(id) = id else {
            return exit_code(child.try_wait().ok().flatten());
        };
        // It may have ended in between.
        let _ = kill_process(id, Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            return exit_code(ended.ok());
        }
        tracing::warn!("Envoy does not go: it is ended by force");
        // As above.
        let _ = child.kill().await;
        0
    }
}

/// Wait until `stop` is told. What it is told in is let go of here: who tells it anew waits for that.
async fn told(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the agent.
    let _ = stop.wait_for(|is_stopped| *is_stopped).await;
}

async fn told_again(stop: &mut watch::Receiver<bool>) {
    if stop.changed().await.is_err() {
        // Nobody is left who could tell.
        std::future::pending::<()>().await;
    }
}

fn write_bootstrap(settings: &Settings) -> Result<PathBuf, EnvoyError> {
    let directory = &settings.proxy.config_path;
    let file = directory.join("envoy-rev.json");
    let made = build_bootstrap(settings)?;
    let text = serde_json::to_string_pretty(&made).unwrap_or_default();
    let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&file, text));
    written.map_err(|source| EnvoyError::File {
        file: file.clone(),
        source,
    })?;
    Ok(file)
}

/// Lines `listener.0.0.0.0_15006.downstream_cx_active: 3`, without those of workers and of own ports.
fn sum_connections(text: &str, own_ports: &[u16]) -> u64 {
    let is_peers = |name: &str| {
        let is_own = own_ports
            .iter()
            .any(|port| name.contains(&format!("_{port}.")));
        name.starts_with("listener.")
            && !name.starts_with("listener.admin.")
            && !is_own
            && !name.contains(".worker_")
    };
    let count = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        is_peers(name)
            .then(|| value.trim().parse::<u64>().ok())
            .flatten()
    };
    text.lines().filter_map(count).sum()
}

/// A shell's form: 128 and the signal where there was one.
fn exit_code(status: Option<ExitStatus>) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(status) = status else {
        return 1;
    };
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::sum_connections;

    #[test]
    fn only_connections_of_peers_are_counted() {
        let text = "listener.0.0.0.0_15006.downstream_cx_active: 3\n\
            listener.0.0.0.0_15006.worker_0.downstream_cx_active: 3\n\
            listener.0.0.0.0_15021.downstream_cx_active: 1\n\
            listener.admin.downstream_cx_active: 1\n\
            http.inbound.downstream_cx_active: 3\n\
            listener.10.0.0.1_8080.downstream_cx_active: 2\n";
        assert_eq!(sum_connections(text, &[15021, 15090]), 5);
    }
}
