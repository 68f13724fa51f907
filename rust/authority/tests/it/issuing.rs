use std::time::Duration;

use navarch_authority::KeyKind;
use navarch_identity::{CertificateFacts, pem_chain::read_chain};

use crate::forge::{DAY, NOW, authority, cart, own_root, plugged_in, request};
use crate::trust::is_trusted;

fn facts(pem: &str) -> CertificateFacts {
    CertificateFacts::read(&read_chain(pem).unwrap()[0]).unwrap()
}

/// A certificate has the caller's name and nothing that its request asked for.
#[test]
fn the_identity_is_the_callers_whatever_the_request_says() {
    let authority = authority(&own_root(KeyKind::EcdsaP256));
    let issued = authority
        .sign_workload(&request(), &cart(), Duration::ZERO, NOW)
        .unwrap();
    let facts = facts(&issued.chain[0]);
    assert_eq!(facts.uris, [cart().to_string()]);
    assert_eq!(facts.spiffe_id(), Some(cart()));
    assert!(facts.dns_names.is_empty());
    assert!(!facts.is_ca);
    assert_eq!(facts.not_after, NOW + 86_400);
    assert_eq!(issued.not_after, facts.not_after);
}

/// Each kind of authority issues chains that its roots are enough to trust, and lists leaf, intermediates, roots.
#[test]
fn chains_lead_to_the_roots_of_the_bundle() {
    let kinds = [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Rsa2048];
    let own = kinds.map(|kind| (own_root(kind), 2));
    for (files, n_certificates) in own.into_iter().chain([(plugged_in(100), 4)]) {
        let authority = authority(&files);
        let issued = authority
            .sign_workload(&request(), &cart(), Duration::ZERO, NOW)
            .unwrap();
        assert_eq!(issued.chain.len(), n_certificates);
        assert!(
            issued
                .chain
                .iter()
                .all(|pem| read_chain(pem).unwrap().len() == 1)
        );
        let chain = issued.chain[..n_certificates - 1].concat();
        assert!(is_trusted(&chain, &authority.root_bundle(), NOW));
        assert!(!is_trusted(&chain, &authority.root_bundle(), NOW + 86_401));
        let stranger = own_root(KeyKind::EcdsaP256);
        assert!(!is_trusted(&chain, &stranger.root_pem, NOW));

        let server = authority
            .issue_server(
                &["navarch.navarch.svc", "10.0.0.1"],
                Duration::from_secs(60),
                NOW,
            )
            .unwrap();
        assert!(is_trusted(&server.chain_pem, &authority.root_bundle(), NOW));
        assert_eq!(facts(&server.chain_pem).dns_names, ["navarch.navarch.svc"]);
    }
}

/// No certificate outlives the authority that signed it.
#[test]
fn a_life_ends_with_that_of_the_authority() {
    let authority = authority(&plugged_in(2));
    let issued = authority
        .sign_workload(&request(), &cart(), Duration::from_secs(80 * DAY), NOW)
        .unwrap();
    assert_eq!(facts(&issued.chain[0]).not_after, NOW + 2 * 86_400);
}

/// Two certificates for one key are two certificates.
#[test]
fn serial_numbers_differ() {
    let authority = authority(&own_root(KeyKind::EcdsaP256));
    let request = request();
    let serials = [(); 2].map(|()| {
        let issued = authority.sign_workload(&request, &cart(), Duration::ZERO, NOW);
        facts(&issued.unwrap().chain[0]).serial
    });
    assert_ne!(serials[0], serials[1]);
}
