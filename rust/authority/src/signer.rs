//! One key with its certificate, checked as a whole before it signs anything.

use navarch_identity::{CertificateFacts, pem_chain};
use rcgen::{CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SerialNumber};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::{AuthorityError, CaFiles};

/// Certificates are valid from a little before they are made: clocks differ (istio `security/pkg/pki/util/generate_cert.go`).
pub(crate) const CLOCK_SKEW_SECONDS: i64 = 120;
const SERIAL_BYTES: usize = 16;

/// A key that signs, with all that goes beside a certificate.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    not_after: i64,
    /// From the signing certificate to below the root, each in PEM.
    pub(crate) chain: Vec<String>,
    /// The roots, each in PEM.
    pub(crate) roots: Vec<String>,
    pub(crate) ends: Ends,
}

/// When what an authority stands on ends, in seconds since 1970: an operator must act before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The first of the roots to end.
    pub root: i64,
    /// The first of the signing certificate and those between it and a root.
    pub chain: i64,
}

impl Signer {
    /// Read and check an authority's files.
    pub(crate) fn new(files: &CaFiles, now: i64) -> Result<Self, AuthorityError> {
        let read = |file, text: &str| {
            pem_chain::read_chain(text).map_err(|fault| AuthorityError::Chain { file, fault })
        };
        let certificates = read("ca-cert.pem", &files.certificate_pem)?;
        let roots = read("root-cert.pem", &files.root_pem)?;
        let chain = if files.chain_pem.trim().is_empty() {
            vec![certificates[0].clone()]
        } else {
            read("cert-chain.pem", &files.chain_pem)?
        };
        let certificate = &certificates[0];
        let not_after = check_certificate(certificate, now)?;
        let path = complete(certificate, &chain);
        check_path(&path, &roots)?;
        let key = KeyPair::from_pem(&files.key_pem).map_err(|_| AuthorityError::Key)?;
        let issuer = Issuer::from_ca_cert_der(certificate, key)?;
        let signer = Self {
            ends: Ends {
                root: first_end(&roots),
                chain: first_end(&path),
            },
            issuer,
            not_after,
            chain: path
                .iter()
                .filter(|each| !roots.contains(each))
                .map(|each| pem_chain::to_pem(each))
                .collect(),
            roots: roots.iter().map(|each| pem_chain::to_pem(each)).collect(),
        };
        signer.check_key(certificate, now)?;
        Ok(signer)
    }

    /// Sign what `params` says for a public key; ends no later than the authority's own certificate.
    pub(crate) fn sign(
        &self,
        mut params: CertificateParams,
        public_key: &impl rcgen::PublicKeyData,
        (now, until): (i64, i64),
    ) -> Result<(String, i64), AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Unusable(
                "the authority's certificate has expired; put a new one in its place".to_owned(),
            ));
        }
        let until = until.min(self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(random_serial()?);
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now - CLOCK_SKEW_SECONDS, until)?;
        let certificate = params.signed_by(public_key, &self.issuer)?;
        Ok((pem_chain::to_pem(certificate.der()), until))
    }

    /// That what is signed verifies under the certificate: the key is its key, and its name survives being written again.
    fn check_key(&self, certificate: &CertificateDer<'_>, now: i64) -> Result<(), AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let (pem, _) = self.sign(params, self.issuer.key(), (now, now + 1))?;
        let probe = pem_chain::read_chain(&pem).map_err(|fault| AuthorityError::Chain {
            file: "ca-cert.pem",
            fault,
        })?;
        let (probe, authority) = (parse(&probe[0])?, parse(certificate)?);
        if probe
            .verify_signature(Some(authority.public_key()))
            .is_err()
        {
            return Err(AuthorityError::Unusable(
                "ca-key.pem is not the key of ca-cert.pem".to_owned(),
            ));
        }
        if probe.issuer().as_raw() != authority.subject().as_raw() {
            return Err(AuthorityError::Unusable(
                "the subject of ca-cert.pem has a part twice, which can't be written as an issuer; \
                 issue it with each part once"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// Those that can't be read say nothing; they verify nothing either.
fn first_end(certificates: &[CertificateDer<'_>]) -> i64 {
    let read = certificates.iter().map(|der| CertificateFacts::read(der));
    let ends = read.filter_map(|facts| Some(facts.ok()?.not_after));
    ends.min().unwrap_or_default()
}

/// The chain with the signing certificate at its head, as Istio's own may or may not have it.
fn complete<'a>(
    certificate: &CertificateDer<'a>,
    chain: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    let mut path = vec![certificate.clone()];
    path.extend(chain.iter().filter(|each| *each != certificate).cloned());
    path
}

fn check_certificate(der: &CertificateDer<'_>, now: i64) -> Result<i64, AuthorityError> {
    let facts = CertificateFacts::read(der).map_err(AuthorityError::Unusable)?;
    let fault = if !facts.is_ca {
        "ca-cert.pem may not sign certificates: its basic constraints say that it is no authority"
    } else if now < facts.not_before {
        "ca-cert.pem is not valid yet"
    } else if now >= facts.not_after {
        "ca-cert.pem has expired"
    } else {
        return Ok(facts.not_after);
    };
    Err(AuthorityError::Unusable(fault.to_owned()))
}

/// That each certificate is signed by the next and the last by a root, or is one.
fn check_path(
    path: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Result<(), AuthorityError> {
    for (position, der) in path.iter().enumerate() {
        if roots.contains(der) {
            return Ok(());
        }
        let certificate = parse(der)?;
        let is_signed_by = |issuer: &CertificateDer<'_>| {
            parse(issuer).is_ok_and(|issuer| {
                issuer.is_ca()
                    && issuer.subject().as_raw() == certificate.issuer().as_raw()
                    && certificate
                        .verify_signature(Some(issuer.public_key()))
                        .is_ok()
            })
        };
        if roots.iter().any(is_signed_by) {
            return Ok(());
        }
        if !path.get(position + 1).is_some_and(is_signed_by) {
            break;
        }
    }
    Err(AuthorityError::Unusable(
        "ca-cert.pem does not lead to a root of root-cert.pem by the certificates of cert-chain.pem"
            .to_owned(),
    ))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AuthorityError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| AuthorityError::Unusable(e.to_string()))
}

/// A number that no other certificate has (RFC 5280 4.1.2.2); the first bit is 0, so that it is positive.
pub(crate) fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0u8; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| AuthorityError::Unusable("the system has no random numbers".to_owned()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Set the first and last second, both since 1970.
pub(crate) fn set_validity(
    params: &mut CertificateParams,
    not_before: i64,
    not_after: i64,
) -> Result<(), AuthorityError> {
    let at = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| {
            AuthorityError::Unusable("the lifetime reaches beyond the calendar".to_owned())
        })
    };
    params.not_before = at(not_before)?;
    params.not_after = at(not_after)?;
    Ok(())
}
