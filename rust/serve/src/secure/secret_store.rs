//! What Secrets and ConfigMaps hold, for proxies that may have it. Nothing of it is in a mesh's snapshot, a log or a page.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use navarch_encode::EncodedResource;
use navarch_envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use navarch_model::gateway_api::{GROUP, ReferenceGrant};
use navarch_model::{ConfigKey, Kind};
use navarch_snapshot::Change;
use serde::Deserialize;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::credential_name::{CredentialName, Form};
use crate::registry::lock;

/// The keys of a Secret: those of a generic one come before those of a TLS one
/// (istio `pilot/pkg/credentials/kube/secrets.go`).
const CERTIFICATE: [&str; 2] = ["cert", "tls.crt"];
const PRIVATE_KEY: [&str; 2] = ["key", "tls.key"];
const TRUST_ANCHORS: [&str; 2] = ["cacert", "ca.crt"];
const REVOCATION_LIST: [&str; 2] = ["crl", "ca.crl"];
const STAPLE: &str = "tls.ocsp-staple";

type Contents = BTreeMap<String, Zeroizing<Vec<u8>>>;
/// (namespace, name)
type ObjectName = (String, String);

#[derive(Default)]
struct Objects {
    secrets: BTreeMap<ObjectName, Contents>,
    config_maps: BTreeMap<ObjectName, Contents>,
    grants: BTreeMap<ObjectName, ReferenceGrant>,
}

/// The credentials of a mesh.
pub struct SecretStore {
    objects: Mutex<Objects>,
    changes: watch::Sender<u64>,
}

impl Default for SecretStore {
    fn default() -> Self {
        Self {
            objects: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStore").finish_non_exhaustive()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Form64 {
    data: Option<BTreeMap<String, Zeroizing<String>>>,
    #[serde(rename = "stringData")]
    string_data: Option<BTreeMap<String, Zeroizing<String>>>,
}

impl SecretStore {
    /// Take what a batch has of credentials; an object that can't be read leaves its last good version in force.
    pub fn apply<'a>(&self, batch: impl IntoIterator<Item = &'a Change>) {
        let mut is_changed = false;
        let mut objects = lock(&self.objects);
        for Change { key, payload } in batch {
            is_changed |= objects.take(key, payload.as_deref());
        }
        drop(objects);
        if is_changed {
            self.changes.send_modify(|generation| *generation += 1);
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether Gateways of a namespace may refer to a Secret of another.
    pub(super) fn is_granted(&self, from_namespace: &str, to: &CredentialName) -> bool {
        let name = to.trust_anchors_of().unwrap_or(&to.name);
        let objects = lock(&self.objects);
        objects.grants.iter().any(|((namespace, _), grant)| {
            let is_from = grant.spec.from.iter().any(|from| {
                from.group == GROUP && from.kind == "Gateway" && from.namespace == from_namespace
            });
            let is_to = grant.spec.to.iter().any(|to| {
                let wanted = to.name.as_deref().unwrap_or_default();
                to.group.is_empty() && to.kind == "Secret" && (wanted.is_empty() || wanted == name)
            });
            *namespace == to.namespace && is_from && is_to
        })
    }

    /// The resource that a name stands for, called `resource_name`.
    pub(super) fn find(
        &self,
        asked: &CredentialName,
        resource_name: &str,
    ) -> Option<EncodedResource> {
        let objects = lock(&self.objects);
        let key = |name: &str| (asked.namespace.clone(), name.to_owned());
        let kind = if asked.form == Form::ConfigMap {
            validation(objects.config_maps.get(&key(&asked.name))?)?
        } else if let Some(bare) = asked.trust_anchors_of() {
            // A Secret of the very name comes before the one whose trust anchors the suffix asks for.
            let own = objects.secrets.get(&key(&asked.name));
            validation(own.or_else(|| objects.secrets.get(&key(bare)))?)?
        } else {
            key_pair(objects.secrets.get(&key(&asked.name))?)?
        };
        let mut made = EncodedResource::encode(&Secret {
            name: resource_name.to_owned(),
            r#type: Some(kind),
        });
        // Versions are seen in status pages: a fast hash of a key could tell of the key.
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &made.any);
        made.version = navarch_encode::Version::of_bytes(digest.as_ref());
        Some(made)
    }
}

impl Objects {
    /// Whether the change changed anything.
    fn take(&mut self, key: &ConfigKey, payload: Option<&[u8]>) -> bool {
        let name = (key.namespace.to_string(), key.name.to_string());
        match key.kind {
            Kind::Secret => put(&mut self.secrets, name, payload, |json| read(json, true)),
            Kind::ConfigMap => put(&mut self.config_maps, name, payload, |json| {
                read(json, false)
            }),
            Kind::ReferenceGrant => put(&mut self.grants, name, payload, |json| {
                serde_json::from_slice(json).ok()
            }),
            _ => false,
        }
    }
}

fn put<T: PartialEq>(
    objects: &mut BTreeMap<ObjectName, T>,
    name: ObjectName,
    payload: Option<&[u8]>,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> bool {
    let Some(json) = payload else {
        return objects.remove(&name).is_some();
    };
    let Some(made) = read(json) else {
        return false;
    };
    if objects.get(&name) == Some(&made) {
        return false;
    }
    objects.insert(name, made);
    true
}

/// The entries that a proxy can be given.
fn read(json: &[u8], is_base64: bool) -> Option<Contents> {
    let form: Form64 = serde_json::from_slice(json).ok()?;
    let known = [CERTIFICATE, PRIVATE_KEY, TRUST_ANCHORS, REVOCATION_LIST].concat();
    let is_known = |key: &str| key == STAPLE || known.contains(&key);
    let mut contents = Contents::new();
    for (key, text) in form.data.unwrap_or_default() {
        if is_known(&key) {
            let bytes = if is_base64 {
                STANDARD.decode(text.as_bytes()).ok()?
            } else {
                text.as_bytes().to_vec()
            };
            contents.insert(key, Zeroizing::new(bytes));
        }
    }
    // As the API server merges them when it stores a Secret.
    for (key, text) in form.string_data.filter(|_| is_base64).unwrap_or_default() {
        if is_known(&key) {
            contents.insert(key, Zeroizing::new(text.as_bytes().to_vec()));
        }
    }
    Some(contents)
}

fn source(contents: &Contents, keys: &[&str]) -> Option<DataSource> {
    let bytes = keys.iter().find_map(|key| contents.get(*key))?;
    (!bytes.is_empty()).then(|| DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.to_vec())),
        ..DataSource::default()
    })
}

fn validation(contents: &Contents) -> Option<Type> {
    Some(Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(source(contents, &TRUST_ANCHORS)?),
        crl: source(contents, &REVOCATION_LIST),
        ..CertificateValidationContext::default()
    }))
}

fn key_pair(contents: &Contents) -> Option<Type> {
    Some(Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(source(contents, &CERTIFICATE)?),
        private_key: Some(source(contents, &PRIVATE_KEY)?),
        ocsp_staple: source(contents, &[STAPLE]),
        ..TlsCertificate::default()
    }))
}
