use std::time::Duration;

use navarch_authority::{
    Authority, AuthorityError, CaFiles, KeyKind, Lifetimes, MAX_REQUEST_BYTES,
};
use rcgen::KeyPair;

use crate::forge::{DAY, NOW, authority, cart, own_root, plugged_in, request};

fn refusal(csr: &str) -> String {
    let authority = authority(&own_root(KeyKind::EcdsaP256));
    let refused = authority.sign_workload(csr, &cart(), Duration::ZERO, NOW);
    match refused {
        Err(AuthorityError::Request(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn with_block(tag: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut der = pem::parse(request()).unwrap().into_contents();
    change(&mut der);
    pem::encode(&pem::Pem::new(tag, der))
}

/// Whoever does not hold the key gets no certificate for it, and what is no request is refused with a reason.
#[test]
fn requests_that_are_none_are_refused() {
    assert_eq!(refusal(""), "is not PEM");
    assert_eq!(refusal(&"x".repeat(MAX_REQUEST_BYTES + 1)), "is too large");
    assert_eq!(
        refusal(&with_block("CERTIFICATE", |_| ())),
        "is no CERTIFICATE REQUEST"
    );
    let tag = "CERTIFICATE REQUEST";
    let flip_last = |der: &mut Vec<u8>| *der.last_mut().unwrap() ^= 1;
    assert_eq!(
        refusal(&with_block(tag, flip_last)),
        "is not signed by the key in it"
    );
    assert_eq!(
        refusal(&with_block(tag, |der| der.push(0))),
        "has bytes after its end"
    );
    assert_eq!(
        refusal(&with_block(tag, |der| der.truncate(40))),
        "can't be read as PKCS#10"
    );
}

#[test]
fn a_life_longer_than_the_limit_is_refused() {
    let authority = authority(&own_root(KeyKind::EcdsaP256));
    let asked = Duration::from_secs(91 * DAY);
    let refused = authority.sign_workload(&request(), &cart(), asked, NOW);
    assert!(matches!(refused, Err(AuthorityError::Lifetime { .. })));
}

#[test]
fn names_that_no_server_has_are_refused() {
    let authority = authority(&own_root(KeyKind::EcdsaP256));
    for name in [
        "",
        "a b",
        "a..b",
        "*",
        "*.*.b",
        "spiffe://a/ns/b/sa/c",
        "ä.b",
    ] {
        let refused = authority.issue_server(&[name], Duration::from_secs(60), NOW);
        assert!(
            matches!(refused, Err(AuthorityError::ServerName(_))),
            "{name}"
        );
    }
    assert!(
        authority
            .issue_server(&["*.b.svc"], Duration::from_secs(60), NOW)
            .is_ok()
    );
}

fn fault(files: &CaFiles, now: i64) -> String {
    match Authority::new(files, Lifetimes::default(), now) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the files were taken"),
    }
}

/// Files that can't lead to trusted certificates are refused before anything is signed by them.
#[test]
fn files_that_do_not_fit_are_refused() {
    let good = plugged_in(100);
    let with = |change: fn(&mut CaFiles)| {
        let mut files = good.clone();
        change(&mut files);
        fault(&files, NOW)
    };
    let other_key =
        with(|files| files.key_pem = KeyPair::generate().unwrap().serialize_pem().into());
    assert_eq!(other_key, "ca-key.pem is not the key of ca-cert.pem");
    let no_key = with(|files| files.key_pem = files.certificate_pem.clone().into());
    assert!(
        no_key.starts_with("ca-key.pem is no private key"),
        "{no_key}"
    );
    let other_root = with(|files| files.root_pem = own_root(KeyKind::EcdsaP256).root_pem);
    assert!(
        other_root.starts_with("ca-cert.pem does not lead to a root"),
        "{other_root}"
    );
    let no_chain = with(|files| files.chain_pem.clear());
    assert!(
        no_chain.starts_with("ca-cert.pem does not lead to a root"),
        "{no_chain}"
    );
    let broken_root = with(|files| files.root_pem = "nothing".to_owned());
    assert_eq!(broken_root, "root-cert.pem holds no certificate");
    assert_eq!(fault(&good, NOW + 101 * 86_400), "ca-cert.pem has expired");
    assert_eq!(fault(&good, NOW - 86_400), "ca-cert.pem is not valid yet");

    let authority = authority(&good);
    let leaf = authority
        .issue_server(&["a.b"], Duration::from_secs(DAY), NOW)
        .unwrap();
    let no_authority = CaFiles {
        certificate_pem: leaf.chain_pem.clone(),
        key_pem: leaf.key_pem.clone(),
        chain_pem: leaf.chain_pem,
        root_pem: good.root_pem.clone(),
    };
    assert!(fault(&no_authority, NOW).starts_with("ca-cert.pem may not sign"));
}

/// No text that can reach a log has a key in it.
#[test]
fn keys_are_in_no_debug_text() {
    let files = own_root(KeyKind::EcdsaP256);
    let server = authority(&files)
        .issue_server(&["a.b"], Duration::from_secs(60), NOW)
        .unwrap();
    for text in [format!("{files:?}"), format!("{server:?}")] {
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}
