use std::time::Duration;

use navarch_authority::KeyKind;
use navarch_identity::{CertificateFacts, pem_chain::read_chain};
use proptest::prelude::*;
use rcgen::KeyPair;

use crate::forge::{NOW, authority, cart, greedy_request, own_root};

/// Each change replaces a byte at a place of the DER, cuts there, or puts a byte in.
fn changed(pem_text: &str, changes: &[(usize, u8, u8)]) -> String {
    let block = pem::parse(pem_text).unwrap();
    let (tag, mut der) = (block.tag().to_owned(), block.into_contents());
    for (place, byte, how) in changes {
        let at = place % der.len().max(1);
        match how % 8 {
            0 => der.truncate(at),
            1 => der.insert(at, *byte),
            _ if at < der.len() => der[at] = *byte,
            _ => {}
        }
    }
    pem::encode(&pem::Pem::new(tag, der))
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A damaged request ends in an answer; a certificate, if there is one, names the caller alone.
    #[test]
    fn no_request_breaks_the_authority(changes in changes()) {
        let authority = authority(&own_root(KeyKind::EcdsaP256));
        let request = greedy_request(&KeyPair::generate().unwrap());
        let request = changed(&request, &changes);
        if let Ok(issued) = authority.sign_workload(&request, &cart(), Duration::ZERO, NOW) {
            let chain = read_chain(&issued.chain[0]).unwrap();
            prop_assert_eq!(CertificateFacts::read(&chain[0]).unwrap().spiffe_id(), Some(cart()));
        }
    }

    /// A damaged chain is read or refused, and any text is.
    #[test]
    fn no_chain_breaks_its_reader(changes in changes(), text in ".{0,200}") {
        let root = own_root(KeyKind::EcdsaP256).root_pem;
        let _ = read_chain(&changed(&root, &changes));
        let _ = read_chain(&text);
        let _ = read_chain(&format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"));
    }
}
