//! Secrets and ConfigMaps, as far as references to them depend on what they hold.
//!
//! What they hold stays out: a snapshot of a mesh has no keys in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::Metadata;
use crate::metadata::null_as_default;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// A v1 Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SecretFacts {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Why its certificate and key can't be used; `None` when they can.
    pub key_pair_fault: Option<&'static str>,
    /// Why its trust anchors can't be used; `None` when they can.
    pub trust_anchors_fault: Option<&'static str>,
}

/// A v1 ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ConfigMapFacts {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Why its trust anchors can't be used; `None` when they can.
    pub trust_anchors_fault: Option<&'static str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Form {
    metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    data: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for SecretFacts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let text = |keys: &[&str]| {
            let value = keys.iter().find_map(|key| form.data.get(*key))?;
            Some(String::from_utf8_lossy(&decode_base64(value)?).into_owned())
        };
        // Istio `pilot/pkg/credentials/kube/secrets.go`: generic keys come before those of TLS Secrets.
        let key_pair_fault = match (text(&["cert", "tls.crt"]), text(&["key", "tls.key"])) {
            (None, _) => Some("it has no `tls.crt`"),
            (_, None) => Some("it has no `tls.key`"),
            (Some(certificate), _) if !certificate.contains(CERTIFICATE) => {
                Some("the certificate is malformed")
            }
            (_, Some(key)) if !has_private_key(&key) => Some("the key is malformed"),
            _ => None,
        };
        let anchors = text(&["cacert", "ca.crt"]);
        Ok(Self {
            metadata: form.metadata,
            key_pair_fault,
            trust_anchors_fault: trust_anchors_fault(anchors.as_deref()),
        })
    }
}

impl<'de> Deserialize<'de> for ConfigMapFacts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let anchors = form.data.get("ca.crt").or_else(|| form.data.get("cacert"));
        Ok(Self {
            metadata: form.metadata,
            trust_anchors_fault: trust_anchors_fault(anchors.map(String::as_str)),
        })
    }
}

fn trust_anchors_fault(anchors: Option<&str>) -> Option<&'static str> {
    match anchors {
        None => Some("it has no `ca.crt`"),
        Some(text) if !text.contains(CERTIFICATE) => Some("the certificate is malformed"),
        Some(_) => None,
    }
}

fn has_private_key(text: &str) -> bool {
    text.lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))
}

/// Standard base64 with padding; `None` for anything else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.chunks(4) {
        let mut bits: u32 = 0;
        for byte in chunk {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        if chunk.len() == 1 {
            return None;
        }
        let bytes = (bits << (6 * (4 - chunk.len()))).to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{ConfigMapFacts, SecretFacts, decode_base64};

    #[test]
    fn base64_is_read_and_nothing_else() {
        assert_eq!(decode_base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decode_base64("aGVsbA==").as_deref(), Some(&b"hell"[..]));
        assert_eq!(decode_base64("").as_deref(), Some(&b""[..]));
        assert_eq!(decode_base64("a"), None);
        assert_eq!(decode_base64("a-b="), None);
    }

    #[test]
    fn faults_tell_what_a_secret_lacks_and_never_what_it_holds() {
        // "-----BEGIN CERTIFICATE-----" and "-----BEGIN PRIVATE KEY-----"
        let certificate = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";
        let key = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t";
        for (data, want) in [
            (
                format!(r#"{{"tls.crt":"{certificate}","tls.key":"{key}"}}"#),
                None,
            ),
            (
                format!(r#"{{"tls.crt":"{certificate}"}}"#),
                Some("it has no `tls.key`"),
            ),
            (
                format!(r#"{{"tls.crt":"{key}","tls.key":"{key}"}}"#),
                Some("the certificate is malformed"),
            ),
        ] {
            let json = format!(r#"{{"metadata":{{"name":"s"}},"data":{data}}}"#);
            let secret: SecretFacts = serde_json::from_str(&json).unwrap();
            assert_eq!(secret.key_pair_fault, want, "{data}");
            assert!(!format!("{secret:?}").contains("BEGIN"));
        }
        let empty: ConfigMapFacts = serde_json::from_str(r#"{"metadata":{"name":"c"}}"#).unwrap();
        assert_eq!(empty.trust_anchors_fault, Some("it has no `ca.crt`"));
    }
}
