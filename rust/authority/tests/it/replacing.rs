use std::time::Duration;

use navarch_authority::{CaFiles, KeyKind, renew_root};

use crate::forge::{NOW, authority, cart, own_root, plugged_in, request, root_options};
use crate::trust::is_trusted;

fn leaf(authority: &navarch_authority::Authority) -> String {
    let issued = authority.sign_workload(&request(), &cart(), Duration::ZERO, NOW);
    issued.unwrap().chain.concat()
}

/// While a root is replaced, both are trusted: what either signed is taken by who has the bundle.
#[test]
fn a_new_root_is_trusted_beside_the_former() {
    let (former, mut next) = (own_root(KeyKind::EcdsaP256), own_root(KeyKind::Rsa2048));
    let authority = authority(&former);
    let old_leaf = leaf(&authority);

    let mut announced = former.clone();
    announced.root_pem.push_str(&next.root_pem);
    authority.replace(&announced, NOW).unwrap();
    let both = authority.root_bundle();
    next.root_pem = both.clone();
    authority.replace(&next, NOW).unwrap();
    let new_leaf = leaf(&authority);

    assert!(is_trusted(&old_leaf, &both, NOW) && is_trusted(&new_leaf, &both, NOW));
    assert!(!is_trusted(&new_leaf, &former.root_pem, NOW));
}

/// A renewed root has the same key: what it signed before and after is trusted under either certificate.
#[test]
fn a_renewed_root_takes_nothing_from_anyone() {
    let former = own_root(KeyKind::EcdsaP256);
    let old_leaf = leaf(&authority(&former));
    let renewed = renew_root(&former, &root_options(KeyKind::EcdsaP256), NOW).unwrap();
    let new_leaf = leaf(&authority(&renewed));
    for roots in [
        &former.root_pem,
        &renewed.root_pem,
        &renewed.certificate_pem,
    ] {
        assert!(is_trusted(&old_leaf, roots, NOW));
        assert!(is_trusted(&new_leaf, roots, NOW));
    }
}

/// Files that can't be used change nothing.
#[test]
fn a_bad_replacement_leaves_the_former_in_use() {
    let authority = authority(&plugged_in(100));
    let before = authority.root_bundle();
    let mut bad = plugged_in(100);
    bad.key_pem = plugged_in(100).key_pem;
    assert!(authority.replace(&bad, NOW).is_err());
    assert_eq!(authority.root_bundle(), before);
    assert!(is_trusted(&leaf(&authority), &before, NOW));
}

/// A directory gives back what was written into it, and keeps it from others.
#[test]
fn a_directory_keeps_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = std::env::temp_dir().join(format!("navarch-authority-{}", std::process::id()));
    assert!(CaFiles::find(&directory).unwrap().is_none());
    let files = plugged_in(100);
    files.write(&directory).unwrap();
    let found = CaFiles::find(&directory).unwrap().unwrap();
    let mode = std::fs::metadata(directory.join("ca-key.pem"))
        .unwrap()
        .permissions()
        .mode();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(found == files);
    assert_eq!(mode & 0o777, 0o600);
}
