//! Roots that navarch makes for itself.

use std::time::Duration;

use navarch_identity::pem_chain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
};
use zeroize::Zeroizing;

use crate::signer::{CLOCK_SKEW_SECONDS, random_serial, set_validity};
use crate::{AuthorityError, CaFiles};

/// The keys that navarch makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA of 2048 bits, as Istio's own root.
    Rsa2048,
    /// RSA of 4096 bits.
    Rsa4096,
}

impl KeyKind {
    /// Every kind by its name in settings.
    pub const ALL: [(&'static str, Self); 4] = [
        ("ecdsa-p256", Self::EcdsaP256),
        ("ecdsa-p384", Self::EcdsaP384),
        ("rsa-2048", Self::Rsa2048),
        ("rsa-4096", Self::Rsa4096),
    ];

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(each, _)| *each == name);
        found.map(|(_, kind)| kind)
    }

    pub(crate) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        }
    }
}

/// How a root is made.
#[derive(Debug, Clone)]
pub struct RootOptions {
    /// Its organization; Istio writes the trust domain.
    pub trust_domain: String,
    /// Its key.
    pub key: KeyKind,
    /// Its life.
    pub lifetime: Duration,
}

/// Make a root that signs by itself. `now` is in seconds since 1970.
pub fn make_root(options: &RootOptions, now: i64) -> Result<CaFiles, AuthorityError> {
    self_sign(options, &options.key.generate()?, now)
}

/// The same root with a new life: the key stays, so what it signed stays valid under either certificate, and both are
/// in the bundle (istio security/pkg/pki/ca/selfsignedcarootcertrotator.go).
pub fn renew_root(
    files: &CaFiles,
    options: &RootOptions,
    now: i64,
) -> Result<CaFiles, AuthorityError> {
    let key = KeyPair::from_pem(&files.key_pem).map_err(|_| AuthorityError::Key)?;
    let mut renewed = self_sign(options, &key, now)?;
    renewed.key_pem.clone_from(&files.key_pem);
    renewed.root_pem.push_str(&files.root_pem);
    Ok(renewed)
}

fn self_sign(options: &RootOptions, key: &KeyPair, now: i64) -> Result<CaFiles, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, options.trust_domain.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(random_serial()?);
    let until = now.saturating_add_unsigned(options.lifetime.as_secs());
    set_validity(&mut params, now - CLOCK_SKEW_SECONDS, until)?;
    let pem = pem_chain::to_pem(params.self_signed(key)?.der());
    Ok(CaFiles {
        certificate_pem: pem.clone(),
        key_pem: Zeroizing::new(key.serialize_pem()),
        chain_pem: String::new(),
        root_pem: pem,
    })
}
