//! Getting the certificate and renewing it: by `CreateCertificate`, long before the one that is held ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use navarch_identity::certificate_service::{
    IstioCertificateRequest, IstioCertificateServiceClient,
};
use prost_types::value::Kind;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::connect::{ConnectError, Connection, Upstream};
use crate::metrics::Metrics;
use crate::proof::Proof;
use crate::settings::Authority;
use crate::workload::Workload;

/// The pauses between attempts grow from the first to the second, each shortened by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// However short a certificate lives, attempts do not follow each other faster.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A certificate that is renewed at its very beginning would be renewed without end.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The certificate that is held, for all who use it; `None` until the first is there.
pub(crate) type Held = watch::Receiver<Option<Arc<Workload>>>;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No key, or no request for it.
    #[error("no key can be made: {0}")]
    Key(#[from] rcgen::Error),
    /// The authority refuses, or does not answer.
    #[error("{0}")]
    Refused(Box<tonic::Status>),
    /// The answer is no certificate.
    #[error("{0}")]
    Answer(String),
    /// Nothing in time.
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
}

/// Who renews.
pub(crate) struct Renewer {
    authority: Authority,
    upstream: Upstream,
    held: watch::Sender<Option<Arc<Workload>>>,
    proof: Arc<Proof>,
    metrics: Arc<Metrics>,
}

impl Renewer {
    /// A renewer that holds nothing yet.
    pub(crate) fn new(authority: Authority, is_plaintext: bool, metrics: Arc<Metrics>) -> Self {
        let root_file: PathBuf = authority.root_file.clone();
        let held = watch::Sender::new(None);
        Self {
            proof: Arc::new(Proof::new(&authority, held.subscribe())),
            upstream: Upstream {
                address: authority.address.clone(),
                server_name: authority.server_name.clone(),
                root_file: (!is_plaintext).then_some(root_file),
                is_known_by_authority: true,
            },
            authority,
            held,
            metrics,
        }
    }

    /// What is held.
    pub(crate) fn held(&self) -> Held {
        self.held.subscribe()
    }

    /// How the workload proves itself.
    pub(crate) fn proof(&self) -> Arc<Proof> {
        Arc::clone(&self.proof)
    }

    /// Get certificates for ever.
    pub(crate) async fn run(self) {
        let mut n_failures = 0;
        loop {
            match self.renew().await {
                Ok(workload) => {
                    n_failures = 0;
                    self.metrics.count_renewal(true);
                    let rest = self.rest(&workload, now());
                    tracing::info!(
                        "certificate {} of {} held; renewed in {} s",
                        workload.serial(),
                        self.authority.spiffe_id,
                        rest.as_secs()
                    );
                    self.held.send_replace(Some(Arc::new(workload)));
                    tokio::time::sleep(rest).await;
                }
                Err(error) => {
                    self.metrics.count_renewal(false);
                    let pause = self.pause(n_failures);
                    n_failures += 1;
                    tracing::warn!(
                        "no certificate from {}: {error}; again in {:.1} s{}",
                        self.authority.address,
                        pause.as_secs_f64(),
                        self.remainder()
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// How long to hold a certificate: to half of its life, give or take, so that those who started together part.
    ///
    /// Its life begins when it is got: authorities date it back, for clocks that are behind.
    fn rest(&self, workload: &Workload, now: SystemTime) -> Duration {
        let chance = fastrand::f64().mul_add(2.0, -1.0);
        let part = 1.0 - self.authority.renewal_ratio + self.authority.renewal_jitter * chance;
        let rest = workload.left(now).mul_f64(part.clamp(0.05, 0.95));
        rest.max(SHORTEST_REST)
    }

    /// Half of it by chance, below a doubling limit, which stays small against the life that is left.
    fn pause(&self, n_failures: u32) -> Duration {
        let left = self.held.borrow().as_ref().map(|held| held.left(now()));
        let last = left.map_or(LAST_PAUSE, |left| {
            (left / 10).clamp(SHORTEST_PAUSE, LAST_PAUSE)
        });
        let limit = FIRST_PAUSE
            .saturating_mul(1 << n_failures.min(16))
            .min(last);
        limit.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }

    fn remainder(&self) -> String {
        let Some(held) = self.held.borrow().clone() else {
            return String::new();
        };
        format!(
            "; the one held is valid for {} s",
            held.left(now()).as_secs()
        )
    }

    async fn renew(&self) -> Result<Workload, RenewalError> {
        let asked = tokio::time::timeout(REQUEST_TIMEOUT, self.ask());
        asked.await.map_err(|_| RenewalError::Timeout)?
    }

    async fn ask(&self) -> Result<Workload, RenewalError> {
        let (key_pem, csr) = make_request(&self.authority)?;
        let shown = self.proof.credentials();
        let connection = Connection::open(&self.upstream, &shown).await?;
        let mut client = IstioCertificateServiceClient::new(connection);
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr,
            validity_duration: i64::try_from(self.authority.ttl.as_secs()).unwrap_or(i64::MAX),
            metadata: signer(&self.authority.signer),
        });
        if let Ok(cluster) = self.authority.cluster_id.parse() {
            request.metadata_mut().insert("clusterid", cluster);
        }
        let answer = client.create_certificate(request).await;
        let answer = answer.map_err(|status| {
            if status.code() == tonic::Code::Unauthenticated {
                self.proof.refuse(&shown);
            }
            RenewalError::Refused(Box::new(status))
        })?;
        Workload::from_answer(key_pem, &answer.into_inner().cert_chain)
            .map_err(RenewalError::Answer)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates end by the clock on the wall, and this is the program's edge"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A new key and the request to sign it; the name in it is a wish, the authority goes by who asks.
fn make_request(authority: &Authority) -> Result<(Zeroizing<String>, String), rcgen::Error> {
    let algorithm = if authority.is_p384 {
        &rcgen::PKCS_ECDSA_P384_SHA384
    } else {
        &rcgen::PKCS_ECDSA_P256_SHA256
    };
    let key = KeyPair::generate_for(algorithm)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(authority.spiffe_id.as_str().try_into()?)];
    let csr = params.serialize_request(&key)?.pem()?;
    Ok((Zeroizing::new(key.serialize_pem()), csr))
}

/// The signer that is asked for, as Istio's agent tells it (`CertSigner`).
fn signer(name: &str) -> Option<prost_types::Struct> {
    let value = prost_types::Value {
        kind: Some(Kind::StringValue(name.to_owned())),
    };
    (!name.is_empty()).then(|| prost_types::Struct {
        fields: [("CertSigner".to_owned(), value)].into(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use zeroize::Zeroizing;

    use super::{LAST_PAUSE, Renewer, now};
    use crate::metrics::Metrics;
    use crate::settings::Authority;
    use crate::workload::Workload;

    fn renewer() -> Renewer {
        let authority = Authority {
            address: "127.0.0.1:1".into(),
            server_name: None,
            root_file: PathBuf::new(),
            token_file: PathBuf::new(),
            provisioned_dir: None,
            ttl: Duration::from_secs(600),
            renewal_ratio: 0.5,
            renewal_jitter: 0.125,
            is_p384: false,
            spiffe_id: "spiffe://cluster.local/ns/a/sa/b".into(),
            cluster_id: String::new(),
            signer: String::new(),
        };
        Renewer::new(authority, true, Arc::new(Metrics::default()))
    }

    /// A certificate of 600 s, which its signer has dated back by an hour.
    fn workload(now: SystemTime) -> Workload {
        let mut params = rcgen::CertificateParams::new(["a".to_owned()]).unwrap();
        params.not_before = (now - Duration::from_secs(3600)).into();
        params.not_after = (now + Duration::from_secs(600)).into();
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap().pem();
        let key = Zeroizing::new(key.serialize_pem());
        Workload::from_answer(key, &[made.clone(), made]).unwrap()
    }

    #[test]
    fn renewal_lies_about_half_of_the_life_that_is_left_and_apart() {
        let (renewer, now) = (renewer(), now());
        let workload = workload(now);
        let rests: Vec<f64> = (0..1000)
            .map(|_| renewer.rest(&workload, now).as_secs_f64())
            .collect();
        assert!(rests.iter().all(|rest| (220.0..=380.0).contains(rest)));
        let in_the_middle = rests.iter().filter(|rest| (285.0..315.0).contains(*rest));
        assert!(in_the_middle.count() < 400, "spread over the whole span");
    }

    #[test]
    fn pauses_grow_and_stay_small_against_what_is_left() {
        let renewer = renewer();
        assert!(renewer.pause(0) <= Duration::from_millis(200));
        assert!(renewer.pause(30) >= LAST_PAUSE / 2);
        let soon_over = workload(now() - Duration::from_secs(580));
        renewer.held.send_replace(Some(Arc::new(soon_over)));
        assert!(renewer.pause(30) <= Duration::from_secs(2));
    }
}
