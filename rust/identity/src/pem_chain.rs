//! Certificate chains as text and as what they say. Nothing here decides on trust: TLS does, or the authority.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::SpiffeId;

/// The largest PEM text that is read; a bundle of all public roots is a fourth of it.
pub const MAX_PEM_BYTES: usize = 1024 * 1024;
/// The most certificates in one text.
pub const MAX_CERTIFICATES: usize = 1000;
const LABEL: &str = "CERTIFICATE";

/// Why a text is no chain of certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Larger than [`MAX_PEM_BYTES`], or of more than [`MAX_CERTIFICATES`].
    #[error("has {count} {what}; at most {limit} are read")]
    TooLarge {
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A block's frame or base64 is broken.
    #[error("is not PEM: {0}")]
    Pem(String),
    /// There is a block of another kind, or none at all.
    #[error("holds `{0}` where only CERTIFICATE blocks belong")]
    Label(String),
    /// There is no certificate.
    #[error("holds no certificate")]
    Empty,
    /// A block is no certificate.
    #[error("certificate {index} can't be read: {fault}")]
    Certificate {
        /// Which, counted from 0.
        index: usize,
        /// What the parser found.
        fault: String,
    },
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The first second of its life, seconds since 1970.
    pub not_before: i64,
    /// The last second of its life, seconds since 1970.
    pub not_after: i64,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// The URIs among its alternative names.
    pub uris: Vec<String>,
    /// The DNS names among its alternative names.
    pub dns_names: Vec<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
}

impl CertificateFacts {
    /// Read one certificate.
    ///
    /// # Errors
    /// The parser's words when it is none, or when bytes follow it.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| e.to_string())?;
        for name in names.iter().flat_map(|san| &san.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                _ => {}
            }
        }
        Ok(Self {
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_ca: certificate.is_ca(),
            uris,
            dns_names,
            serial: format!("{:x}", certificate.tbs_certificate.serial),
        })
    }

    /// The workload's name, if there is exactly one URI and it is such a name.
    ///
    /// SPIFFE forbids more than one URI (X509-SVID.md, section 2): which of two holds would be a guess.
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }
}

/// The certificates of a PEM text in order; comments between blocks are passed over.
pub fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let too_large = |count, what, limit| ChainError::TooLarge { count, what, limit };
    if text.len() > MAX_PEM_BYTES {
        return Err(too_large(text.len(), "bytes", MAX_PEM_BYTES));
    }
    let blocks = pem::parse_many(text).map_err(|e| ChainError::Pem(e.to_string()))?;
    if blocks.len() > MAX_CERTIFICATES {
        return Err(too_large(blocks.len(), "certificates", MAX_CERTIFICATES));
    }
    if let Some(other) = blocks.iter().find(|block| block.tag() != LABEL) {
        return Err(ChainError::Label(other.tag().to_owned()));
    }
    if blocks.is_empty() {
        return Err(ChainError::Empty);
    }
    let chain: Vec<CertificateDer<'static>> = blocks
        .into_iter()
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    for (index, der) in chain.iter().enumerate() {
        CertificateFacts::read(der).map_err(|fault| ChainError::Certificate { index, fault })?;
    }
    Ok(chain)
}

/// One certificate as PEM, with a line end after it.
pub fn to_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(LABEL, der), config)
}

#[cfg(test)]
mod tests {
    use super::{ChainError, MAX_PEM_BYTES, read_chain};

    #[test]
    fn what_is_no_chain_is_refused_with_a_reason() {
        assert_eq!(read_chain(""), Err(ChainError::Empty));
        let key = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            read_chain(key),
            Err(ChainError::Label("PRIVATE KEY".to_owned()))
        );
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            read_chain(broken),
            Err(ChainError::Certificate { index: 0, .. })
        ));
        let endless = " ".repeat(MAX_PEM_BYTES + 1);
        assert!(matches!(
            read_chain(&endless),
            Err(ChainError::TooLarge { .. })
        ));
    }
}
