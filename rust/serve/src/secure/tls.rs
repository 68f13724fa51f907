//! The server's side of TLS: a certificate that the mesh's authority makes and that is renewed in time, and the roots by
//! which callers' certificates are verified.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use navarch_authority::{Authority, AuthorityError};
use navarch_identity::pem_chain::read_chain;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, crypto};

use super::figures::Figures;

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// gRPC is HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority makes no certificate.
    #[error("the server gets no certificate")]
    Authority(#[from] AuthorityError),
    /// The authority's own words can't be read back.
    #[error("the server's certificate can't be used: {0}")]
    Material(String),
    /// The library refuses them.
    #[error("the server's certificate can't be used")]
    Library(#[from] rustls::Error),
    /// The roots verify nobody.
    #[error("the roots can't verify callers")]
    Roots(#[from] VerifierBuilderError),
}

struct Built {
    config: Arc<ServerConfig>,
    roots: String,
    renew_at: i64,
    ends_at: i64,
}

/// The configuration of new connections.
pub(super) struct ServerTls {
    authority: Arc<Authority>,
    names: Vec<String>,
    built: ArcSwap<Built>,
}

impl ServerTls {
    pub(super) fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        now: i64,
    ) -> Result<Self, TlsError> {
        let built = ArcSwap::from_pointee(build(&authority, &names, now)?);
        Ok(Self {
            authority,
            names,
            built,
        })
    }

    /// For the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.built.load().config)
    }

    /// Renew the certificate at half of its life, or at once when the authority has other roots.
    pub(super) fn refresh(&self, now: i64) -> Result<(), TlsError> {
        let built = self.built.load();
        if now < built.renew_at && built.roots == self.authority.root_bundle() {
            return Ok(());
        }
        self.built
            .store(Arc::new(build(&self.authority, &self.names, now)?));
        Ok(())
    }

    /// Count down to the ends of what it stands on.
    pub(super) fn tell_ends(&self, figures: &Figures, now: i64) {
        figures.set_ends(self.authority.ends(), self.built.load().ends_at, now);
    }
}

fn build(authority: &Authority, names: &[String], now: i64) -> Result<Built, TlsError> {
    let material = |fault: String| TlsError::Material(fault);
    let issued = authority.issue_server(names, LIFETIME, now)?;
    let chain = read_chain(&issued.chain_pem).map_err(|e| material(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())
        .map_err(|e| material(e.to_string()))?;
    let roots = authority.root_bundle();
    let mut store = RootCertStore::empty();
    for root in read_chain(&roots).map_err(|e| material(e.to_string()))? {
        store.add(root)?;
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    // Who has no certificate yet shows a token; who shows a certificate must show a good one.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Each connection proves itself anew: agents keep no sessions, and a resumed one would outlive a root.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Built {
        config: Arc::new(config),
        roots,
        ends_at: issued.not_after,
        renew_at: now + (issued.not_after - now) / 2,
    })
}
