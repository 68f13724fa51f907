//! All parts put together: what is started in which order, and how it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use navarch_envoy::istio::networking::nds::v1::NameTable;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::connect::Upstream;
use crate::envoy::{self, EnvoyError, Supervisor};
use crate::metrics::Metrics;
use crate::proof::Proof;
use crate::relay::Relay;
use crate::renewal::{Held, Renewer};
use crate::secrets::Secrets;
use crate::settings::{ControlPlaneAuth, Settings};
use crate::status::{self, Status};
use crate::{dns, probe, relay, sds, socket};

/// Why an agent ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port or socket is taken, or not ours.
    #[error("can't listen on {place}: {source}")]
    Listen {
        /// Which.
        place: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// Signals can't be awaited.
    #[error("signals can't be awaited: {0}")]
    Signals(#[source] io::Error),
    /// Envoy can't be started.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
}

fn listen_error(place: &dyn ToString) -> impl FnOnce(io::Error) -> RunError + use<> {
    let place = place.to_string();
    move |source| RunError::Listen { place, source }
}

/// Run until Envoy ends or the agent is told to; return the exit code to end with.
///
/// # Errors
/// What could not be started.
pub async fn run(settings: Settings) -> Result<u8, RunError> {
    let settings = Arc::new(settings);
    let metrics = Arc::new(Metrics::default());
    let stop = watch::Sender::new(false);
    await_signals(stop.clone()).map_err(RunError::Signals)?;
    let is_plaintext = settings.proxy.control_plane_auth_policy == ControlPlaneAuth::None;
    let renewer = Renewer::new(
        settings.authority.clone(),
        is_plaintext,
        Arc::clone(&metrics),
    );
    let proof = renewer.proof();
    serve_secrets(&settings, renewer.held())?;
    tokio::spawn(renewer.run());
    let names = start_dns(&settings, &metrics).await?;
    serve_relay(&settings, &metrics, proof, names.clone())?;
    let status = Status {
        settings: Arc::clone(&settings),
        metrics: Arc::clone(&metrics),
        names: names.map(|names| names.subscribe()),
        stop: stop.clone(),
    };
    let listener = status::listen(&settings).await;
    let listener = listener.map_err(listen_error(&format!(":{}", settings.proxy.status_port)))?;
    tokio::spawn(status::serve(listener, Arc::new(status)));
    let mut stopped = stop.subscribe();
    if !settings.has_envoy {
        // The sender lives in this function.
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
        return Ok(0);
    }
    Ok(Supervisor::prepare(settings, metrics)?.run(stopped).await?)
}

/// The first SIGTERM or Ctrl-C lets Envoy drain; a second one ends the agent at once, and Envoy with it.
fn await_signals(stop: watch::Sender<bool>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
                _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
            }
            stop.send_replace(true);
        }
    });
    Ok(())
}

fn serve_secrets(settings: &Settings, held: Held) -> Result<(), RunError> {
    let path = &settings.sds_path;
    let listener = socket::listen(path).map_err(listen_error(&path.display()))?;
    let secrets = Secrets::new(held, settings.authority.root_file.clone());
    tokio::spawn(socket::serve(listener, move |request| {
        std::future::ready(sds::answer(request, secrets.clone()))
    }));
    Ok(())
}

type Names = watch::Sender<Option<Arc<NameTable>>>;

async fn start_dns(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Option<Names>, RunError> {
    let Some(told) = settings.dns.clone() else {
        return Ok(None);
    };
    let sockets = dns::listen(&told.address).await;
    let sockets = sockets.map_err(listen_error(&told.address))?;
    let names = watch::Sender::new(None);
    let metrics = Arc::clone(metrics);
    tokio::spawn(dns::serve(sockets, told, names.subscribe(), metrics));
    Ok(Some(names))
}

fn serve_relay(
    settings: &Arc<Settings>,
    metrics: &Arc<Metrics>,
    proof: Arc<Proof>,
    names: Option<Names>,
) -> Result<(), RunError> {
    let path: PathBuf = envoy::ads_path(settings);
    let listener = socket::listen(&path).map_err(listen_error(&path.display()))?;
    let (told, health) = watch::channel(None);
    if let Some(readiness) = settings.proxy.readiness_probe.clone() {
        let here = envoy::localhost(settings);
        let admin = settings.has_envoy.then(|| envoy::admin_origin(settings));
        tokio::spawn(probe::watch(readiness, here, admin, told));
    }
    let is_plaintext = settings.proxy.control_plane_auth_policy == ControlPlaneAuth::None;
    let relay = Arc::new(Relay {
        upstream: Upstream {
            address: settings.proxy.discovery_address.clone(),
            server_name: settings.discovery_name.clone(),
            root_file: (!is_plaintext).then(|| settings.discovery_root_file.clone()),
            is_known_by_authority: settings.discovery_root_file == settings.authority.root_file,
        },
        proof,
        headers: stream_headers(settings),
        names,
        health,
        metrics: Arc::clone(metrics),
    });
    tokio::spawn(socket::serve(listener, move |request| {
        relay::answer(request, Arc::clone(&relay))
    }));
    Ok(())
}

/// Which cluster the workload is of, by which a control plane of several verifies its token, and the operator's own.
fn stream_headers(settings: &Settings) -> Vec<(HeaderName, HeaderValue)> {
    let cluster = ("clusterid".to_owned(), settings.node.cluster_id.clone());
    let told = std::iter::once(cluster).chain(settings.discovery_headers.iter().cloned());
    let read = |(name, value): (String, String)| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(&name), HeaderValue::try_from(&value))
        {
            return Some((name, value));
        }
        tracing::error!("header {name} of XDS_HEADER_ can't be sent and is left out");
        None
    };
    told.filter_map(read).collect()
}
