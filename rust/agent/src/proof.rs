//! How the agent proves whom it acts for: by a token while that is taken, else by the certificate that it got.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use crate::renewal::Held;
use crate::settings::Authority;
use crate::workload::Workload;

/// What is shown at one connection: a token, or a certificate where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// `Bearer ...`.
    pub(crate) bearer: Option<HeaderValue>,
    /// The workload's certificate and key.
    pub(crate) certificate: Option<Arc<Workload>>,
    /// What is held, shown or not: its signer's roots are known by it.
    pub(crate) held: Option<Arc<Workload>>,
}

/// Where credentials come from, and which token is of no use any longer.
pub(crate) struct Proof {
    token_file: PathBuf,
    provisioned_dir: Option<PathBuf>,
    held: Held,
    /// The token that was refused last. One that may be used once only, such as a join token, is refused from then on.
    refused: Mutex<Option<HeaderValue>>,
}

impl Proof {
    pub(crate) fn new(authority: &Authority, held: Held) -> Self {
        Self {
            token_file: authority.token_file.clone(),
            provisioned_dir: authority.provisioned_dir.clone(),
            held,
            refused: Mutex::new(None),
        }
    }

    /// The file's token, read anew; the certificate that is held, or else was provisioned, if there is no token, or only
    /// one that was refused.
    pub(crate) fn credentials(&self) -> Credentials {
        let bearer = self.read_token();
        let held = self.held.borrow().clone();
        let is_refused = bearer.is_some() && *self.lock() == bearer;
        if bearer.is_some() && !is_refused {
            return Credentials {
                bearer,
                certificate: None,
                held,
            };
        }
        let provisioned = || {
            let directory = self.provisioned_dir.as_deref()?;
            Workload::read_provisioned(directory).map(Arc::new)
        };
        let certificate = held.clone().or_else(provisioned);
        Credentials {
            // Without any certificate a refused token is shown again: its verifier may have been away.
            bearer: bearer.filter(|_| certificate.is_none()),
            certificate,
            held,
        }
    }

    /// Remember that a peer does not know who shows these.
    pub(crate) fn refuse(&self, shown: &Credentials) {
        if shown.bearer.is_some() {
            self.lock().clone_from(&shown.bearer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_token(&self) -> Option<HeaderValue> {
        let text = std::fs::read_to_string(&self.token_file).ok()?;
        let token = text.trim();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        bearer.set_sensitive(true);
        (!token.is_empty()).then_some(bearer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::watch;
    use zeroize::Zeroizing;

    use super::Proof;
    use crate::workload::Workload;

    fn workload() -> Arc<Workload> {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let chain = [made.cert.pem(), made.cert.pem()];
        let key = Zeroizing::new(made.signing_key.serialize_pem());
        Arc::new(Workload::from_answer(key, &chain).unwrap())
    }

    fn proof(token_file: &Path, held: Option<Arc<Workload>>) -> Proof {
        Proof {
            token_file: token_file.to_owned(),
            provisioned_dir: None,
            held: watch::Sender::new(held).subscribe(),
            refused: std::sync::Mutex::default(),
        }
    }

    #[test]
    fn a_refused_token_gives_way_to_the_certificate_until_another_comes() {
        let directory = std::env::temp_dir().join(format!("navarch-proof-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("token");
        std::fs::write(&file, "first\n").unwrap();
        let proof = proof(&file, Some(workload()));
        let shown = proof.credentials();
        assert_eq!(shown.bearer.as_ref().unwrap(), "Bearer first");
        assert!(
            !format!("{shown:?}").contains("first"),
            "a token is in no log"
        );
        proof.refuse(&shown);
        assert!(proof.credentials().certificate.is_some());
        assert!(proof.credentials().bearer.is_none());
        std::fs::write(&file, "two").unwrap();
        assert_eq!(proof.credentials().bearer.unwrap(), "Bearer two");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_refused_token_is_shown_again_where_there_is_nothing_else() {
        let file = std::env::temp_dir().join(format!("navarch-token-{}", std::process::id()));
        std::fs::write(&file, "one").unwrap();
        let proof = proof(&file, None);
        proof.refuse(&proof.credentials());
        assert!(proof.credentials().bearer.is_some());
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_key_is_in_no_log() {
        let text = format!("{:?}", workload());
        assert!(!text.contains("PRIVATE") && !text.contains("key"), "{text}");
    }
}
