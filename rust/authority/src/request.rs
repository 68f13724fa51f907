//! Requests for certificates (PKCS#10). Of a request only the public key is taken, once it is proved that the sender
//! holds the private one; the names in it are not even read.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use crate::AuthorityError;

/// The largest request that is read; one of RSA 8192 has 2.5 kB.
pub const MAX_REQUEST_BYTES: usize = 32 * 1024;
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;

/// The public key of a request in PEM.
pub(crate) fn read_public_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, AuthorityError> {
    let refuse = |fault: &str| AuthorityError::Request(fault.to_owned());
    if csr_pem.len() > MAX_REQUEST_BYTES {
        return Err(refuse("is too large"));
    }
    let block = pem::parse(csr_pem).map_err(|_| refuse("is not PEM"))?;
    if !matches!(
        block.tag(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"
    ) {
        return Err(refuse("is no CERTIFICATE REQUEST"));
    }
    let (rest, request) = X509CertificationRequest::from_der(block.contents())
        .map_err(|_| refuse("can't be read as PKCS#10"))?;
    if !rest.is_empty() {
        return Err(refuse("has bytes after its end"));
    }
    let public_key = &request.certification_request_info.subject_pki;
    check_strength(public_key)?;
    request
        .verify_signature()
        .map_err(|_| refuse("is not signed by the key in it"))?;
    SubjectPublicKeyInfo::from_der(public_key.raw).map_err(|_| refuse("has a key of unknown kind"))
}

fn check_strength(
    public_key: &x509_parser::x509::SubjectPublicKeyInfo<'_>,
) -> Result<(), AuthorityError> {
    let bits = match public_key.parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size(),
        Ok(PublicKey::EC(_) | PublicKey::Unknown(_)) => return Ok(()),
        _ => {
            return Err(AuthorityError::Request(
                "has a key that is neither RSA, ECDSA nor Ed25519".to_owned(),
            ));
        }
    };
    if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Ok(());
    }
    Err(AuthorityError::Request(format!(
        "has an RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken"
    )))
}
