//! Authorities and requests as others make them.

use navarch_authority::{Authority, CaFiles, KeyKind, Lifetimes, RootOptions, make_root};
use navarch_identity::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::time::Duration;

/// 2026-01-01.
pub(crate) const NOW: i64 = 1_767_225_600;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn root_options(key: KeyKind) -> RootOptions {
    RootOptions {
        trust_domain: "cluster.local".to_owned(),
        key,
        lifetime: Duration::from_secs(3650 * DAY),
    }
}

pub(crate) fn own_root(key: KeyKind) -> CaFiles {
    make_root(&root_options(key), NOW).unwrap()
}

pub(crate) fn authority(files: &CaFiles) -> Authority {
    Authority::new(files, Lifetimes::default(), NOW).unwrap()
}

pub(crate) fn cart() -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", "cart").unwrap()
}

/// A request that asks for the names of somebody else, in every place that has names.
pub(crate) fn greedy_request(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(["pay.shop.svc".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "spiffe://cluster.local/ns/shop/sa/pay");
    let uri = "spiffe://cluster.local/ns/shop/sa/pay";
    params
        .subject_alt_names
        .push(SanType::URI(uri.try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.serialize_request(key).unwrap().pem().unwrap()
}

pub(crate) fn request() -> String {
    greedy_request(&KeyPair::generate().unwrap())
}

fn authority_params(name: &str, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    params.not_before = at(NOW - 3600);
    params.not_after = at(NOW + i64::try_from(days * DAY).unwrap());
    params
}

/// A root, an intermediate and below it the one that is plugged in.
pub(crate) fn plugged_in(days: u64) -> CaFiles {
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(authority_params("root", 3650), key()).unwrap();
    let middle =
        CertifiedIssuer::signed_by(authority_params("middle", 1000), key(), &root).unwrap();
    let own = CertifiedIssuer::signed_by(authority_params("own", days), key(), &middle).unwrap();
    CaFiles {
        certificate_pem: own.pem(),
        key_pem: own.key().serialize_pem().into(),
        chain_pem: own.pem() + &middle.pem(),
        root_pem: root.pem(),
    }
}
