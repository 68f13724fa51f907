//! What is served under which name: the workload's certificate, the roots, and files that operators rotate.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use navarch_envoy::any;
use navarch_envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use prost_types::Any;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::renewal::Held;
use crate::workload::Workload;

/// The workload's own certificate.
pub(crate) const DEFAULT: &str = "default";
/// The roots of the mesh.
pub(crate) const ROOTCA: &str = "ROOTCA";
const FILE_CERTIFICATE: &str = "file-cert:";
const FILE_ROOT: &str = "file-root:";
const SYSTEM: &str = "system";
const SYSTEM_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How often files are looked at. A look is one `stat` that follows links, so that Kubernetes' swapped directories are
/// seen, and file systems that tell of no changes too.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A secret's name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Default,
    Root,
    FileCertificate { certificate: PathBuf, key: PathBuf },
    FileRoot(PathBuf),
}

impl Name {
    /// Read a name; `None` if the agent serves no such secret.
    pub(crate) fn find(name: &str) -> Option<Self> {
        match name {
            DEFAULT => return Some(Self::Default),
            ROOTCA => return Some(Self::Root),
            _ => {}
        }
        if let Some(rest) = name.strip_prefix(FILE_CERTIFICATE) {
            let (certificate, key) = rest.split_once('~')?;
            return Some(Self::FileCertificate {
                certificate: certificate.into(),
                key: key.into(),
            });
        }
        let root = name.strip_prefix(FILE_ROOT)?;
        let path = if root == SYSTEM { SYSTEM_FILE } else { root };
        Some(Self::FileRoot(path.into()))
    }

    fn files<'a>(&'a self, root_file: &'a Path) -> Vec<&'a Path> {
        match self {
            Self::Default => Vec::new(),
            Self::Root => vec![root_file],
            Self::FileCertificate { certificate, key } => vec![certificate, key],
            Self::FileRoot(path) => vec![path],
        }
    }
}

/// What a file was at a look; another value means that it may have changed.
pub(crate) type Look = Vec<Option<(SystemTime, u64, u64)>>;

/// All secrets, as they are at this moment.
#[derive(Clone)]
pub(crate) struct Secrets {
    held: Held,
    root_file: PathBuf,
}

impl Secrets {
    /// Secrets of a workload, whose mesh's roots are also told by a file.
    pub(crate) fn new(held: Held, root_file: PathBuf) -> Self {
        Self { held, root_file }
    }

    /// Where changes of the workload's certificate are told.
    pub(crate) fn held(&self) -> Held {
        self.held.clone()
    }

    /// What the files of a secret are like now.
    pub(crate) fn look(&self, name: &Name) -> Look {
        let files = name.files(&self.root_file);
        files.into_iter().map(look_at).collect()
    }

    /// A secret packed for Envoy; why not, if it is not there (yet).
    pub(crate) fn read(&self, text: &str, name: &Name) -> Result<Any, String> {
        let held = self.held.borrow().clone();
        let kind = match name {
            Name::Default => {
                let held = held.ok_or("there is no certificate yet")?;
                certificate(held.chain_pem(), held.key_pem())
            }
            Name::Root => roots(&self.mesh_roots(held.as_deref())?),
            Name::FileCertificate {
                certificate: chain,
                key,
            } => {
                let (chain, key) = (read_file(chain)?, read_file(key)?);
                check_pair(&chain, &key)?;
                certificate(&chain, &key)
            }
            Name::FileRoot(path) => roots(&checked_roots(path)?),
        };
        Ok(any::pack(&Secret {
            name: text.to_owned(),
            r#type: Some(kind),
        }))
    }

    /// Roots by the signer's word and by the file's: while a root is replaced both are trusted.
    fn mesh_roots(&self, held: Option<&Workload>) -> Result<String, String> {
        let held = held.ok_or("there is no certificate yet")?;
        let mut made: Vec<String> = held.roots().to_vec();
        if let Ok(blocks) = CertificateDer::pem_file_iter(&self.root_file) {
            let told = blocks.flatten();
            made.extend(told.map(|der| navarch_identity::pem_chain::to_pem(&der)));
        }
        made.sort_unstable();
        made.dedup();
        Ok(made.concat())
    }
}

fn look_at(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

fn read_file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// A pair whose halves are of different rotations would break every connection: it is left out until both are there.
fn check_pair(chain: &str, key: &str) -> Result<(), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| format!("the certificate can't be read: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| "the key can't be read".to_owned())?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(drop)
        .map_err(|e| format!("certificate and key don't belong together: {e}"))
}

fn checked_roots(path: &Path) -> Result<String, String> {
    let text = read_file(path)?;
    let n_found = CertificateDer::pem_slice_iter(text.as_bytes())
        .flatten()
        .count();
    if n_found == 0 {
        return Err(format!("{}: holds no certificate", path.display()));
    }
    Ok(text)
}

fn inline(text: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())),
        ..DataSource::default()
    }
}

fn certificate(chain: &str, key: &str) -> secret::Type {
    secret::Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..TlsCertificate::default()
    })
}

fn roots(pem: &str) -> secret::Type {
    secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(inline(pem)),
        ..CertificateValidationContext::default()
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use tokio::sync::watch;

    use super::{Name, Secrets};

    fn write_pair(directory: &Path, is_key_too: bool) {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
        if is_key_too {
            std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_rotated_is_seen_and_half_a_rotation_is_not_served() {
        let directory = std::env::temp_dir().join(format!("navarch-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = |name: &str| directory.join(name).display().to_string();
        let text = format!("file-cert:{}~{}", path("tls.crt"), path("tls.key"));
        let name = Name::find(&text).unwrap();
        let secrets = Secrets::new(watch::Sender::new(None).subscribe(), PathBuf::new());
        assert!(secrets.read(&text, &name).is_err(), "there is none yet");
        write_pair(&directory, true);
        let (look, first) = (secrets.look(&name), secrets.read(&text, &name).unwrap());
        write_pair(&directory, false);
        assert_ne!(secrets.look(&name), look);
        let fault = secrets.read(&text, &name).unwrap_err();
        assert!(fault.contains("belong together"), "{fault}");
        write_pair(&directory, true);
        assert_ne!(secrets.read(&text, &name).unwrap(), first);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn names_are_read_as_translation_writes_them() {
        assert_eq!(Name::find("default"), Some(Name::Default));
        assert_eq!(Name::find("ROOTCA"), Some(Name::Root));
        assert_eq!(
            Name::find("file-cert:/a/tls.crt~/a/tls.key"),
            Some(Name::FileCertificate {
                certificate: "/a/tls.crt".into(),
                key: "/a/tls.key".into()
            })
        );
        let system = Name::find("file-root:system").unwrap();
        assert_eq!(
            system.files(Path::new("x")),
            [Path::new("/etc/ssl/certs/ca-certificates.crt")]
        );
        assert_eq!(Name::find("kubernetes://a"), None);
        assert_eq!(Name::find("file-cert:/a"), None);
    }
}
