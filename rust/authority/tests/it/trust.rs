//! Whether a client that trusts some roots takes a chain, as webpki judges.

use std::time::Duration;

use navarch_identity::pem_chain::read_chain;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Whether `chain` (leaf first) is trusted by `roots` as a client's and as a server's at that second.
pub(crate) fn is_trusted(chain: &str, roots: &str, at_seconds: i64) -> bool {
    let chain = read_chain(chain).unwrap();
    let roots = read_chain(roots).unwrap();
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .map(|root| anchor_from_trusted_cert(root).unwrap())
        .collect();
    [KeyUsage::client_auth(), KeyUsage::server_auth()]
        .into_iter()
        .all(|usage| verify(&chain, &anchors, at_seconds, usage))
}

fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    at_seconds: i64,
    usage: KeyUsage,
) -> bool {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at_seconds.try_into().unwrap()));
    let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
    leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        anchors,
        &chain[1..],
        at,
        usage,
        None,
        None,
    )
    .is_ok()
}
