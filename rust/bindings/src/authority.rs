//! The class `Authority`: the mesh's certificate authority for those who issue by it from Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use navarch_authority::{
    Authority as CertificateAuthority, CaFiles, KeyKind, Lifetimes, RootOptions, make_root,
    renew_root,
};
use pyo3::types::PyBytes;
use pyo3::{Py, PyErr, Python, pyclass, pyfunction, pymethods};
use serde::Deserialize;

use crate::boundary::cross;
use crate::error::Failure;

const YEAR_SECONDS: u64 = 365 * 24 * 3600;

/// How an authority is made; what is left out is Istio's default.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    trust_domain: String,
    root_key: String,
    root_lifetime_seconds: u64,
    default_lifetime_seconds: u64,
    max_lifetime_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        let lifetimes = Lifetimes::default();
        Self {
            trust_domain: "cluster.local".to_owned(),
            root_key: KeyKind::ALL[0].0.to_owned(),
            root_lifetime_seconds: 10 * YEAR_SECONDS,
            default_lifetime_seconds: lifetimes.default.as_secs(),
            max_lifetime_seconds: lifetimes.max.as_secs(),
        }
    }
}

impl Options {
    fn read(json: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(json).map_err(Failure::Options)
    }

    fn root(&self) -> Result<RootOptions, Failure> {
        let key = KeyKind::from_name(&self.root_key);
        Ok(RootOptions {
            trust_domain: self.trust_domain.clone(),
            key: key.ok_or_else(|| Failure::RootKey(self.root_key.clone()))?,
            lifetime: Duration::from_secs(self.root_lifetime_seconds),
        })
    }

    fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            default: Duration::from_secs(self.default_lifetime_seconds),
            max: Duration::from_secs(self.max_lifetime_seconds),
        }
    }
}

/// File contents by name.
type Contents = BTreeMap<String, Vec<u8>>;
type PyContents = BTreeMap<String, Py<PyBytes>>;

fn to_python(py: Python<'_>, files: &CaFiles) -> PyContents {
    files
        .contents()
        .into_iter()
        .map(|(name, text)| (name, PyBytes::new(py, &text).unbind()))
        .collect()
}

/// An authority in use; its files can be replaced while it signs.
#[pyclass(frozen, module = "navarch._core")]
pub(crate) struct Authority {
    pub(crate) inner: Arc<CertificateAuthority>,
}

#[pymethods]
impl Authority {
    /// Use an authority's files, by name.
    #[new]
    fn new(
        py: Python<'_>,
        options_json: &[u8],
        contents: Contents,
        now_seconds: i64,
    ) -> Result<Self, PyErr> {
        Ok(cross(py, move || {
            let lifetimes = Options::read(options_json)?.lifetimes();
            let files = CaFiles::from_contents(contents)?;
            let inner = CertificateAuthority::new(&files, lifetimes, now_seconds)?;
            Ok(Self {
                inner: Arc::new(inner),
            })
        })?)
    }

    /// Sign by other files from now on; on error the former stay in use.
    fn replace(&self, py: Python<'_>, contents: Contents, now_seconds: i64) -> Result<(), PyErr> {
        Ok(cross(py, move || {
            let files = CaFiles::from_contents(contents)?;
            Ok(self.inner.replace(&files, now_seconds)?)
        })?)
    }

    /// Return the roots to trust, in PEM.
    fn root_bundle(&self) -> String {
        self.inner.root_bundle()
    }

    /// Make a key and a certificate for a server; return chain and key in PEM and the second of its end.
    fn issue_server(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        lifetime_seconds: u64,
        now_seconds: i64,
    ) -> Result<(String, String, i64), PyErr> {
        Ok(cross(py, move || {
            let lifetime = Duration::from_secs(lifetime_seconds);
            let issued = self.inner.issue_server(&names, lifetime, now_seconds)?;
            let key = issued.key_pem.as_str().to_owned();
            Ok((issued.chain_pem, key, issued.not_after))
        })?)
    }
}

/// Return the files of a new root that signs by itself.
#[pyfunction]
pub(crate) fn make_authority(
    py: Python<'_>,
    options_json: &[u8],
    now_seconds: i64,
) -> Result<PyContents, PyErr> {
    let files = cross(py, move || {
        let root = Options::read(options_json)?.root()?;
        Ok(make_root(&root, now_seconds)?)
    })?;
    Ok(to_python(py, &files))
}

/// Return the files of the same root with a new life; both certificates are in the bundle.
#[pyfunction]
pub(crate) fn renew_authority(
    py: Python<'_>,
    options_json: &[u8],
    contents: Contents,
    now_seconds: i64,
) -> Result<PyContents, PyErr> {
    let files = cross(py, move || {
        let root = Options::read(options_json)?.root()?;
        let former = CaFiles::from_contents(contents)?;
        Ok(renew_root(&former, &root, now_seconds)?)
    })?;
    Ok(to_python(py, &files))
}

/// Return the files of an authority's directory by name, or None if it has none.
#[pyfunction]
pub(crate) fn find_authority(
    py: Python<'_>,
    directory: PathBuf,
) -> Result<Option<PyContents>, PyErr> {
    let files = cross(py, move || Ok(CaFiles::find(&directory)?))?;
    Ok(files.map(|files| to_python(py, &files)))
}

/// Write an authority's files into a directory, readable by their owner alone.
#[pyfunction]
pub(crate) fn write_authority(
    py: Python<'_>,
    directory: PathBuf,
    contents: Contents,
) -> Result<(), PyErr> {
    Ok(cross(py, move || {
        Ok(CaFiles::from_contents(contents)?.write(&directory)?)
    })?)
}
