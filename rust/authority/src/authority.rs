//! Certificates for workloads and servers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use navarch_identity::SpiffeId;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

use crate::signer::{Ends, Signer};
use crate::{AuthorityError, CaFiles, KeyKind, request, server_name};

/// How long certificates of workloads live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// If the request names none (Istio's `DEFAULT_WORKLOAD_CERT_TTL`).
    pub default: Duration,
    /// More is refused (Istio's `MAX_WORKLOAD_CERT_TTL`).
    pub max: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            default: Duration::from_secs(24 * HOUR),
            max: Duration::from_secs(90 * 24 * HOUR),
        }
    }
}

/// A workload's certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, intermediates, roots: one PEM block each.
    pub chain: Vec<String>,
    /// The last second of its life, seconds since 1970.
    pub not_after: i64,
}

/// A server's certificate and key, in PEM.
#[derive(Clone)]
pub struct IssuedServer {
    /// The certificate and intermediates.
    pub chain_pem: String,
    /// The key, PKCS#8.
    pub key_pem: Zeroizing<String>,
    /// The last second of its life, seconds since 1970.
    pub not_after: i64,
}

impl fmt::Debug for IssuedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedServer")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// An authority in use. Its files can be replaced while it signs.
pub struct Authority {
    signer: ArcSwap<Signer>,
    lifetimes: Lifetimes,
}

impl Authority {
    /// An authority from its files, checked as a whole. `now` is in seconds since 1970.
    pub fn new(files: &CaFiles, lifetimes: Lifetimes, now: i64) -> Result<Self, AuthorityError> {
        Ok(Self {
            signer: ArcSwap::from_pointee(Signer::new(files, now)?),
            lifetimes,
        })
    }

    /// Sign by other files from now on.
    ///
    /// # Errors
    /// The files can't be used; the former stay in use.
    pub fn replace(&self, files: &CaFiles, now: i64) -> Result<(), AuthorityError> {
        self.signer.store(Arc::new(Signer::new(files, now)?));
        Ok(())
    }

    /// Sign a workload's certificate: `identity` is what the caller has proved to be, and all that is in it.
    ///
    /// A `lifetime` of zero is the default one.
    pub fn sign_workload(
        &self,
        csr_pem: &str,
        identity: &SpiffeId,
        lifetime: Duration,
        now: i64,
    ) -> Result<Issued, AuthorityError> {
        let lifetime = self.lifetime(lifetime)?;
        let public_key = request::read_public_key(csr_pem)?;
        let mut params = leaf();
        let uri = identity.to_string();
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        let signer = self.signer.load();
        let until = now.saturating_add_unsigned(lifetime.as_secs());
        let (pem, not_after) = signer.sign(params, &public_key, (now, until))?;
        let mut chain = vec![pem];
        chain.extend(signer.chain.iter().chain(&signer.roots).cloned());
        Ok(Issued { chain, not_after })
    }

    /// Make a key and a certificate for a server of these DNS names or IP addresses, at least one.
    pub fn issue_server(
        &self,
        names: &[impl AsRef<str>],
        lifetime: Duration,
        now: i64,
    ) -> Result<IssuedServer, AuthorityError> {
        let Some(first) = names.first() else {
            return Err(AuthorityError::ServerName(String::new()));
        };
        let key = KeyKind::default().generate()?;
        let mut params = leaf();
        params
            .distinguished_name
            .push(DnType::OrganizationName, first.as_ref());
        params.subject_alt_names = names
            .iter()
            .map(|name| server_name::read_name(name.as_ref()))
            .collect::<Result<_, _>>()?;
        let signer = self.signer.load();
        let until = now.saturating_add_unsigned(lifetime.as_secs());
        let (mut chain_pem, not_after) = signer.sign(params, &key, (now, until))?;
        chain_pem.extend(signer.chain.iter().map(String::as_str));
        Ok(IssuedServer {
            chain_pem,
            key_pem: Zeroizing::new(key.serialize_pem()),
            not_after,
        })
    }

    /// The roots to trust, in PEM; more than one while a root is replaced.
    pub fn root_bundle(&self) -> String {
        self.signer.load().roots.concat()
    }

    /// When the certificates that it signs by end.
    pub fn ends(&self) -> Ends {
        self.signer.load().ends
    }

    fn lifetime(&self, asked: Duration) -> Result<Duration, AuthorityError> {
        let Lifetimes { default, max } = self.lifetimes;
        if asked.is_zero() {
            return Ok(default.min(max));
        }
        if asked > max {
            return Err(AuthorityError::Lifetime {
                asked_seconds: asked.as_secs(),
                max_seconds: max.as_secs(),
            });
        }
        Ok(asked)
    }
}

/// What certificates of workloads and servers have in common (istio `security/pkg/pki/util/generate_cert.go`).
fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}
