//! The workload's certificate and key as they are held: in memory, and never shown in a log.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use navarch_identity::CertificateFacts;
use navarch_identity::pem_chain::{read_chain, to_pem};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// A key, the certificates that vouch for it, and the roots of the mesh as its signer told them.
pub(crate) struct Workload {
    key_pem: Zeroizing<String>,
    chain_pem: String,
    roots: Vec<String>,
    not_after: SystemTime,
    serial: String,
}

impl fmt::Debug for Workload {
    /// Which certificate it is, and nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl Workload {
    /// Put together a key and what `CreateCertificate` answered: the certificate, intermediates, roots.
    ///
    /// The last block is a root by the protocol; others are if they vouch for themselves.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn from_answer(
        key_pem: Zeroizing<String>,
        answer: &[String],
    ) -> Result<Self, String> {
        let blocks = read_chain(&answer.join("\n")).map_err(|e| format!("the answer {e}"))?;
        let facts = CertificateFacts::read(&blocks[0])?;
        let last = blocks.len() - 1;
        let (mut chain_pem, mut roots) = (String::new(), Vec::new());
        for (i, block) in blocks.iter().enumerate() {
            let is_root = i > 0 && (i == last || is_self_issued(block));
            if is_root {
                roots.push(to_pem(block));
            } else {
                chain_pem += &to_pem(block);
            }
        }
        Ok(Self {
            key_pem,
            chain_pem,
            roots,
            not_after: moment(facts.not_after),
            serial: facts.serial,
        })
    }

    /// Read what a machine was provisioned with; `None` if that is not there, or no longer valid.
    pub(crate) fn read_provisioned(directory: &Path) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
        let key_pem = Zeroizing::new(read("key.pem")?);
        let chain_pem = read("cert-chain.pem")?;
        let first = read_chain(&chain_pem).ok()?;
        let facts = CertificateFacts::read(&first[0]).ok()?;
        Some(Self {
            key_pem,
            chain_pem,
            roots: Vec::new(),
            not_after: moment(facts.not_after),
            serial: facts.serial,
        })
    }

    /// The key, in PEM.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate and its intermediates, in PEM.
    pub(crate) fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The roots that the signer told, one PEM block each.
    pub(crate) fn roots(&self) -> &[String] {
        &self.roots
    }

    /// The certificate's number, by which logs name it.
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }

    /// How long it is still valid.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

fn moment(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, read)| read.issuer() == read.subject())
}
