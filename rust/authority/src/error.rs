//! What the authority can refuse.

use std::path::PathBuf;

use navarch_identity::ChainError;

/// Why an authority can't be used, or a certificate is not given. No text of it holds key material.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the authority can't be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// One of the four files is missing.
    #[error(
        "{0} is missing; the authority's files are ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem"
    )]
    Missing(&'static str),
    /// A file's certificates can't be read.
    #[error("{file} {fault}")]
    Chain {
        /// Which file.
        file: &'static str,
        /// What is wrong in it.
        fault: ChainError,
    },
    /// The private key can't be read.
    #[error(
        "ca-key.pem is no private key in PEM (PKCS#8, PKCS#1 or SEC1; ECDSA P-256, P-384 or P-521, Ed25519, or RSA)"
    )]
    Key,
    /// The files don't fit each other, or the time.
    #[error("{0}")]
    Unusable(String),
    /// The request for a certificate is refused.
    #[error("the certificate signing request {0}")]
    Request(String),
    /// A longer life was asked for than is given.
    #[error("a life of {asked_seconds} s was asked for; at most {max_seconds} s are given")]
    Lifetime {
        /// What was asked for.
        asked_seconds: u64,
        /// The limit.
        max_seconds: u64,
    },
    /// A name that no server has.
    #[error("`{0}` is no DNS name or IP address")]
    ServerName(String),
    /// The library refused to sign.
    #[error("the certificate can't be signed")]
    Sign(#[from] rcgen::Error),
}
