//! The class `Core`: one mesh, its translation, its server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use navarch_encode::json::{plural_name, resources_to_json};
use navarch_model::Proxy;
use navarch_serve::secure::{
    CredentialReferences, SecretSource, SecretStore, SecureOptions, SecureServer, join,
};
use navarch_serve::{AdsServer, Fleet, MeshEpochs, Metrics, Pusher, StreamLimits, TypeUrl, debug};
use navarch_snapshot::MeshOptions;
use pyo3::types::PyBytes;
use pyo3::{Bound, PyErr, Python, pyclass, pyfunction, pymethods};
use serde::Deserialize;

use crate::authority::Authority;
use crate::boundary::cross;
use crate::convert::{
    ChangeRow, DiagnosticRow, batch_from_rows, row_from_rejection, rows_from_diagnostics,
};
use crate::error::Failure;
use crate::{secure, simulation, status};

/// I/O threads of the server; pushing and building have a thread of their own.
const N_SERVER_THREADS: usize = 2;

/// What Python tells the core at its making.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    domain_suffix: Option<String>,
    cluster_id: Option<String>,
    /// 0 for never.
    max_connection_age_seconds: f64,
}

struct Server {
    ads: AdsServer,
    pusher: Arc<Pusher>,
}

/// How the authenticated port is reached once it is open; questions are awaited without holding its place.
type Secure = Arc<SecureServer>;

/// One mesh: its state, its translation, and once `serve` was called its ADS server.
#[pyclass(frozen, module = "navarch._core")]
pub(crate) struct Core {
    epochs: Arc<MeshEpochs>,
    fleet: Arc<Fleet>,
    server: Mutex<Option<Server>>,
    secure: Mutex<Option<Secure>>,
    secrets: Arc<SecretStore>,
}

impl Core {
    fn server(&self) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn secure(&self) -> std::sync::MutexGuard<'_, Option<Secure>> {
        self.secure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Core {
    #[new]
    fn new(options_json: &[u8]) -> Result<Self, PyErr> {
        let options: Options = serde_json::from_slice(options_json).map_err(Failure::Options)?;
        let defaults = MeshOptions::default();
        let epochs = MeshEpochs::new(MeshOptions {
            domain_suffix: options
                .domain_suffix
                .map_or(defaults.domain_suffix, Into::into),
            cluster_id: options.cluster_id.map_or(defaults.cluster_id, Into::into),
        });
        let age = Duration::try_from_secs_f64(options.max_connection_age_seconds).ok();
        let limits = StreamLimits {
            max_age: age.filter(|age| !age.is_zero()),
            ..StreamLimits::default()
        };
        let fleet = Fleet::with_limits(Metrics::new(), limits);
        Ok(Self {
            epochs: Arc::new(epochs.hearing(fleet.health())),
            fleet,
            server: Mutex::new(None),
            secure: Mutex::new(None),
            secrets: Arc::default(),
        })
    }

    /// Apply a batch as one; return what in it could not be decoded (the last good version stays).
    ///
    /// `age_seconds` is how long ago the oldest of the changes was told, for the metrics of what proxies wait for.
    #[pyo3(signature = (changes, age_seconds=0.0))]
    fn apply(
        &self,
        py: Python<'_>,
        changes: Vec<ChangeRow>,
        age_seconds: f64,
    ) -> Result<Vec<DiagnosticRow>, PyErr> {
        let now = Instant::now();
        let age = Duration::try_from_secs_f64(age_seconds).unwrap_or_default();
        let told_at = now.checked_sub(age).unwrap_or(now);
        Ok(cross(py, || {
            let (own, remote) = batch_from_rows(changes);
            // Secrets first: a listener that names one must find it.
            self.secrets.apply(&own);
            let (is_changed, diagnostics) = self.epochs.apply_clusters(own, remote);
            if is_changed && let Some(server) = &*self.server() {
                server.pusher.notify(told_at);
            }
            Ok(rows_from_diagnostics(diagnostics))
        })?)
    }

    /// Return all resources of one proxy as protobuf JSON, by `clusters`, `endpoints`, `listeners`, ….
    fn translate(
        &self,
        py: Python<'_>,
        node_json: &[u8],
    ) -> Result<BTreeMap<&'static str, Vec<String>>, PyErr> {
        Ok(cross(py, || {
            let proxy = Proxy::from_node_json(node_json)?;
            let (snapshot, _) = self.epochs.translate(&proxy);
            let is_told = |t: &TypeUrl| {
                // Most proxies have none apart from their route configurations.
                *t != TypeUrl::VirtualHost || !snapshot.resources(*t).is_empty()
            };
            let resources = TypeUrl::ALL
                .into_iter()
                .filter(is_told)
                .map(|type_url| {
                    let texts = resources_to_json(&snapshot, type_url);
                    (
                        plural_name(type_url),
                        texts.iter().map(ToString::to_string).collect(),
                    )
                })
                .collect();
            Ok(resources)
        })?)
    }

    /// Return what translating for one proxy has to say of the objects it is made from.
    fn diagnose(&self, py: Python<'_>, node_json: &[u8]) -> Result<Vec<DiagnosticRow>, PyErr> {
        Ok(cross(py, || {
            let proxy = Proxy::from_node_json(node_json)?;
            Ok(rows_from_diagnostics(self.epochs.translate(&proxy).1))
        })?)
    }

    /// Return as JSON where a request lands, and why; with a receiver, what that one's sidecar does with it.
    #[pyo3(signature = (node_json, request_json, receiver_json=None))]
    fn simulate<'py>(
        &self,
        py: Python<'py>,
        node_json: &[u8],
        request_json: &[u8],
        receiver_json: Option<&[u8]>,
    ) -> Result<Bound<'py, PyBytes>, PyErr> {
        let text = cross(py, || {
            let sender = Proxy::from_node_json(node_json)?;
            let receiver = receiver_json.map(Proxy::from_node_json).transpose()?;
            simulation::run(&self.epochs, &sender, request_json, receiver.as_ref())
        })?;
        Ok(PyBytes::new(py, text.as_bytes()))
    }

    /// Start the ADS server on threads of its own; return the address with the port that was bound.
    fn serve(&self, py: Python<'_>, grpc_address: &str) -> Result<String, PyErr> {
        Ok(cross(py, || {
            let mut server = self.server();
            if server.is_some() {
                return Err(Failure::Running);
            }
            let address: SocketAddr = grpc_address
                .parse()
                .map_err(|_| Failure::Address(grpc_address.to_owned()))?;
            let source = Arc::clone(&self.epochs);
            let pusher = Pusher::start(source, Arc::clone(&self.fleet))
                .map_err(navarch_serve::ServeError::Threads)?;
            let fleet = Arc::clone(&self.fleet);
            let ads = AdsServer::start(address, N_SERVER_THREADS, fleet, Arc::clone(&pusher))?;
            let bound = ads.address().to_string();
            *server = Some(Server { ads, pusher });
            Ok(bound)
        })?)
    }

    /// Start the authenticated port beside it, once `serve` runs; return the address that was bound.
    fn serve_secure(
        &self,
        py: Python<'_>,
        address: &str,
        authority: &Authority,
        options_json: &[u8],
    ) -> Result<String, PyErr> {
        let authority = Arc::clone(&authority.inner);
        Ok(cross(py, || {
            let server = self.server();
            let Some(pusher) = server.as_ref().map(|server| Arc::clone(&server.pusher)) else {
                return Err(Failure::NotRunning);
            };
            let mut secure = self.secure();
            if secure.is_some() {
                return Err(Failure::Running);
            }
            let mesh = self.epochs.mesh();
            let secrets = SecretSource {
                store: Arc::clone(&self.secrets),
                references: Arc::clone(&self.epochs) as Arc<dyn CredentialReferences>,
            };
            let (address, names, gate) = secure::read_options(address, options_json, &mesh)?;
            let options = SecureOptions {
                address,
                server_names: names,
                authority,
                gate,
                secrets,
            };
            let started = SecureServer::start(options, Arc::clone(&self.fleet), pusher)?;
            let bound = started.address().to_string();
            *secure = Some(Arc::new(started));
            Ok(bound)
        })?)
    }

    /// Take a question that only the platform can answer, or None when none came in time.
    fn next_review<'py>(
        &self,
        py: Python<'py>,
        timeout_seconds: f64,
    ) -> Result<Option<(u64, Bound<'py, PyBytes>)>, PyErr> {
        let taken = cross(py, || {
            let Some(secure) = self.secure().clone() else {
                return Err(Failure::NotRunning);
            };
            let timeout = Duration::try_from_secs_f64(timeout_seconds).unwrap_or_default();
            let desk = Arc::clone(secure.gate().desk());
            drop(secure);
            let posed = desk.next(timeout);
            Ok(posed.map(|(id, question)| (id, secure::question_json(question))))
        })?;
        Ok(taken.map(|(id, text)| (id, PyBytes::new(py, text.as_bytes()))))
    }

    /// Hand in the answer to a question.
    fn answer_review(&self, py: Python<'_>, review: u64, answer_json: &[u8]) -> Result<(), PyErr> {
        Ok(cross(py, || {
            let answer = secure::read_answer(answer_json)?;
            if let Some(secure) = &*self.secure() {
                secure.gate().desk().answer(review, answer);
            }
            Ok(())
        })?)
    }

    /// Turn these away from the authenticated port from now on, and only these.
    fn revoke(&self, py: Python<'_>, rows: Vec<(String, Option<String>)>) -> Result<(), PyErr> {
        Ok(cross(py, || {
            if let Some(secure) = &*self.secure() {
                secure.gate().revoke(secure::read_revocations(rows));
            }
            Ok(())
        })?)
    }

    /// Stop accepting, let streams finish, close what is left after the timeout; once.
    fn drain(&self, py: Python<'_>, timeout_seconds: f64) -> Result<(), PyErr> {
        Ok(cross(py, || {
            let timeout = Duration::try_from_secs_f64(timeout_seconds).unwrap_or_default();
            if let Some(secure) = self.secure().take() {
                secure.drain(timeout);
            }
            if let Some(server) = self.server().take() {
                server.ads.drain(timeout);
                server.pusher.stop();
            }
            Ok(())
        })?)
    }

    /// Return all current diagnostics of translation, and what proxies rejected (NACKs).
    fn diagnostics(&self, py: Python<'_>) -> Result<Vec<DiagnosticRow>, PyErr> {
        Ok(cross(py, || {
            let mut rows = rows_from_diagnostics(self.epochs.diagnostics());
            rows.extend(self.fleet.rejections().into_iter().map(row_from_rejection));
            Ok(rows)
        })?)
    }

    /// Return the statuses of objects of Gateway API and of Ingresses as a JSON list, and the epoch that they are of;
    /// of the epoch that is named already, None.
    fn statuses<'py>(
        &self,
        py: Python<'py>,
        known_epoch: u64,
    ) -> Result<Option<(u64, Bound<'py, PyBytes>)>, PyErr> {
        let made = cross(py, || {
            let (epoch, statuses) = self.epochs.statuses();
            Ok((epoch != known_epoch).then(|| (epoch, status::to_json(&statuses))))
        })?;
        Ok(made.map(|(epoch, text)| (epoch, PyBytes::new(py, text.as_bytes()))))
    }

    /// Return the statuses of WorkloadEntries whose workloads tell of their health, as `statuses` does, and a number
    /// that turns when they may be others; if it is the one that is named already, None.
    fn workload_health<'py>(
        &self,
        py: Python<'py>,
        known: u64,
    ) -> Result<Option<(u64, Bound<'py, PyBytes>)>, PyErr> {
        let made = cross(py, || {
            let (turn, reported) = self.epochs.reported_health();
            Ok((turn != known).then(|| (turn, status::health_to_json(&reported))))
        })?;
        Ok(made.map(|(turn, text)| (turn, PyBytes::new(py, text.as_bytes()))))
    }

    /// Return the addresses of key sets that policies need, with the seconds that a fetch may take (0: unsaid).
    fn wanted_key_sets(&self, py: Python<'_>) -> Result<BTreeMap<String, f64>, PyErr> {
        Ok(cross(py, || {
            let wanted = self.epochs.mesh().wanted_key_sets().into_iter();
            let seconds = |span: Option<navarch_model::Span>| span.unwrap_or_default().as_seconds();
            Ok(wanted
                .map(|(address, span)| (address, seconds(span)))
                .collect())
        })?)
    }

    /// Return what each connected proxy has acknowledged or rejected, as a JSON list.
    fn sync_status<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, PyErr> {
        let text = cross(py, || Ok(debug::sync_status(&self.fleet).to_string()))?;
        Ok(PyBytes::new(py, text.as_bytes()))
    }

    /// Return what a connected proxy was sent, as JSON.
    fn config_dump<'py>(
        &self,
        py: Python<'py>,
        proxy_id: &str,
    ) -> Result<Bound<'py, PyBytes>, PyErr> {
        let text = cross(py, || {
            debug::config_dump(&self.fleet, proxy_id)
                .map(|dump| dump.to_string())
                .ok_or_else(|| Failure::UnknownProxy(proxy_id.to_owned()))
        })?;
        Ok(PyBytes::new(py, text.as_bytes()))
    }

    /// Return all counters in Prometheus' text format.
    fn metrics(&self, py: Python<'_>) -> Result<String, PyErr> {
        Ok(cross(py, || {
            let mesh = self.epochs.mesh();
            let metrics = self.fleet.metrics();
            metrics.set_mesh_size(mesh.services().len(), mesh.virtual_services().len());
            Ok(metrics.to_text())
        })?)
    }
}

/// Make a join token for a workload and keep its record in the directory.
#[pyfunction]
pub(crate) fn mint_join_token(
    py: Python<'_>,
    directory: PathBuf,
    namespace: &str,
    service_account: &str,
    expires_at: i64,
) -> Result<String, PyErr> {
    Ok(cross(py, move || {
        Ok(join::mint(
            &directory,
            namespace,
            service_account,
            expires_at,
        )?)
    })?)
}
