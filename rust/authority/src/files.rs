//! The authority's files, in a directory or as their user holds them (a Secret's data), under the names of Istio's
//! `cacerts` (istio security/pkg/pki/ca/ca.go).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::AuthorityError;

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOT: &str = "root-cert.pem";
/// The names of a Secret of type kubernetes.io/tls (cert-manager) for the same, in the order above; it has no chain of
/// its own, the certificate's file holds it.
const TLS_SECRET: [(&str, &str); 4] = [
    (CERTIFICATE, "tls.crt"),
    (KEY, "tls.key"),
    (CHAIN, "tls.crt"),
    (ROOT, "ca.crt"),
];

/// All that an authority is made from.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// The certificate that signs; more after it are passed over.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: Zeroizing<String>,
    /// What leads from the signing certificate to a root, that certificate first; "" if it is a root itself.
    pub chain_pem: String,
    /// All roots to trust: while a root is replaced, the former and the next.
    pub root_pem: String,
}

impl CaFiles {
    /// From contents by file name; `tls.crt`, `tls.key`, `ca.crt` serve too, other names are passed over.
    pub fn from_contents(contents: BTreeMap<String, Vec<u8>>) -> Result<Self, AuthorityError> {
        let contents: BTreeMap<String, Zeroizing<Vec<u8>>> = contents
            .into_iter()
            .map(|(name, bytes)| (name, Zeroizing::new(bytes)))
            .collect();
        let has_own_names = contents.contains_key(KEY);
        let find = |name: &'static str| -> Result<Option<String>, AuthorityError> {
            let other = TLS_SECRET.iter().find(|(own, _)| *own == name);
            let stored = match other {
                Some((_, other)) if !has_own_names => other,
                _ => name,
            };
            let Some(bytes) = contents.get(stored) else {
                return Ok(None);
            };
            let text = std::str::from_utf8(bytes)
                .map_err(|_| AuthorityError::Unusable(format!("{stored} is no text")))?;
            Ok(Some(text.to_owned()))
        };
        let need = |name| find(name)?.ok_or(AuthorityError::Missing(name));
        Ok(Self {
            certificate_pem: need(CERTIFICATE)?,
            key_pem: Zeroizing::new(need(KEY)?),
            chain_pem: find(CHAIN)?.unwrap_or_default(),
            root_pem: need(ROOT)?,
        })
    }

    /// The contents by file name.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        [
            (CERTIFICATE, self.certificate_pem.as_str()),
            (KEY, &self.key_pem),
            (CHAIN, &self.chain_pem),
            (ROOT, &self.root_pem),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .collect()
    }

    /// Read a directory; `None` if it has none of the files (or is not there).
    pub fn find(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let mut contents = BTreeMap::new();
        for name in [
            CERTIFICATE,
            KEY,
            CHAIN,
            ROOT,
            "tls.crt",
            "tls.key",
            "ca.crt",
        ] {
            let path = directory.join(name);
            match fs::read(&path) {
                Ok(bytes) => {
                    contents.insert(name.to_owned(), bytes);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => {}
                Err(source) => return Err(AuthorityError::File { path, source }),
            }
        }
        if contents.is_empty() {
            return Ok(None);
        }
        Self::from_contents(contents).map(Some)
    }

    /// Write into a directory, readable by its owner alone; each file is replaced whole, the key first: a reader that
    /// comes between two files sees a pair that does not fit, which is refused, and never a wrong one in use.
    pub fn write(&self, directory: &Path) -> Result<(), AuthorityError> {
        fs::create_dir_all(directory).map_err(|source| AuthorityError::File {
            path: directory.to_owned(),
            source,
        })?;
        for name in [KEY, CERTIFICATE, CHAIN, ROOT] {
            let text = match name {
                KEY => self.key_pem.as_str(),
                CERTIFICATE => &self.certificate_pem,
                CHAIN => &self.chain_pem,
                _ => &self.root_pem,
            };
            let path = directory.join(name);
            replace(&path, text).map_err(|source| AuthorityError::File { path, source })?;
        }
        Ok(())
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("pem.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

impl fmt::Debug for CaFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaFiles")
            .field("certificate_pem", &self.certificate_pem)
            .field("chain_pem", &self.chain_pem)
            .field("root_pem", &self.root_pem)
            .finish_non_exhaustive()
    }
}
