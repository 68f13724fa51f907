//! The secrets of one stream: apart from the mesh's snapshots, by the caller's rights, and sent as soon as they change.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use navarch_encode::{ResourceList, ResourceSnapshot};
use navarch_envoy::TypeUrl;
use navarch_identity::SpiffeId;
use navarch_model::{Proxy, ProxyKind, Shared};
use tokio_stream::Stream as _;
use tokio_stream::wrappers::WatchStream;

use super::admission::Admission;
use super::credential_name::{CredentialName, Form, TRUST_ANCHORS_SUFFIX, resource_name};
use super::gate::Gate;
use super::secret_store::SecretStore;

/// How long until a platform that did not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The most secrets of one stream.
const MAX_SECRETS: usize = 2000;

/// Which credentials the Gateways of a proxy name.
pub trait CredentialReferences: Send + Sync {
    /// The namespaces of the Gateways that a router serves, each with the credential names in it.
    fn references_of(&self, proxy: &Proxy) -> Vec<GatewayReference>;
}

/// A credential that a Gateway names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayReference {
    /// The namespace of the Gateway.
    pub gateway_namespace: String,
    /// The credential as it is written there.
    pub credential: String,
}

/// Where secrets come from.
#[derive(Clone)]
pub struct SecretSource {
    /// What they are.
    pub store: Arc<SecretStore>,
    /// Who names them.
    pub references: Arc<dyn CredentialReferences>,
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSource").finish_non_exhaustive()
    }
}

type Pending = Pin<Box<dyn Future<Output = Arc<ResourceList>> + Send>>;

/// One stream's secrets.
pub(crate) struct SecretLane {
    caller: CallersSecrets,
    changes: WatchStream<u64>,
    asked: Vec<Arc<str>>,
    is_stale: bool,
    pending: Option<Pending>,
    list: Arc<ResourceList>,
}

impl SecretLane {
    pub(crate) fn new(admission: &Admission, proxy: Shared<Proxy>) -> Self {
        let source = admission.secrets.clone();
        Self {
            changes: WatchStream::from_changes(source.store.watch()),
            caller: CallersSecrets {
                gate: Arc::clone(&admission.gate),
                identity: admission.caller.identity.clone(),
                source,
                proxy,
            },
            asked: Vec::new(),
            is_stale: false,
            pending: None,
            list: ResourceList::empty(),
        }
    }

    /// A snapshot with what the stream may be sent of the names that it asks for.
    pub(crate) fn add_to(&self, snapshot: &ResourceSnapshot) -> Arc<ResourceSnapshot> {
        Arc::new(snapshot.with_own(TypeUrl::Secret, Arc::clone(&self.list)))
    }

    /// Whether it is being found out what may be sent.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Take these names and what has changed; whether the list is another now. Registers for wake-up.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, names: &[Arc<str>]) -> bool {
        while let Poll::Ready(Some(_)) = Pin::new(&mut self.changes).poll_next(cx) {
            self.is_stale = true;
        }
        if self.asked != names {
            self.asked = names.to_vec();
            self.is_stale = true;
        }
        let mut is_changed = false;
        loop {
            if let Some(pending) = &mut self.pending {
                let Poll::Ready(list) = pending.as_mut().poll(cx) else {
                    return is_changed;
                };
                self.pending = None;
                is_changed |= list.version() != self.list.version();
                self.list = list;
            }
            if !self.is_stale {
                return is_changed;
            }
            self.is_stale = false;
            let (caller, names) = (self.caller.clone(), self.asked.clone());
            self.pending = Some(Box::pin(async move { caller.collect(&names).await }));
        }
    }
}

/// What one caller may have.
#[derive(Clone)]
struct CallersSecrets {
    gate: Arc<Gate>,
    identity: SpiffeId,
    source: SecretSource,
    proxy: Shared<Proxy>,
}

impl CallersSecrets {
    async fn collect(&self, names: &[Arc<str>]) -> Arc<ResourceList> {
        let own = self.identity.namespace();
        let read: Vec<_> = names
            .iter()
            .take(MAX_SECRETS)
            .filter_map(|text| Some((text, CredentialName::read(text, own)?)))
            .collect();
        let verified = self.verified(
            read.iter()
                .any(|(_, name)| name.form == Form::GatewaySecret),
        );
        let needs_right = |name: &CredentialName| {
            name.form == Form::Secret && name.namespace == own && name.trust_anchors_of().is_none()
        };
        let may_read = if read.iter().any(|(_, name)| needs_right(name)) {
            self.may_read_secrets().await
        } else {
            false
        };
        let is_allowed = |text: &str, name: &CredentialName| match name.form {
            Form::ConfigMap => true,
            Form::GatewaySecret => verified.iter().any(|each| each == text),
            // Trust anchors are public within their namespace.
            Form::Secret => name.namespace == own && (may_read || !needs_right(name)),
        };
        let allowed = read.iter().filter(|(text, name)| is_allowed(text, name));
        let found = allowed.filter_map(|(text, name)| self.source.store.find(name, text));
        ResourceList::new(found.map(Arc::new).collect())
    }

    /// The names that Gateways of the caller's namespace refer to, and may: Secrets of that namespace, and others by a
    /// `ReferenceGrant` (istio `pilot/pkg/model/gateway.go` `mergeGateways`).
    fn verified(&self, is_needed: bool) -> Vec<String> {
        if !is_needed {
            return Vec::new();
        }
        let own = self.identity.namespace();
        let mut verified = Vec::new();
        for reference in self.source.references.references_of(&self.proxy) {
            let text = resource_name(&reference.credential);
            let Some(name) = CredentialName::read(&text, own) else {
                continue;
            };
            if reference.gateway_namespace == own
                && (name.namespace == own || self.source.store.is_granted(own, &name))
            {
                verified.push(format!("{text}{TRUST_ANCHORS_SUFFIX}"));
                verified.push(text);
            }
        }
        verified
    }

    /// Whether the platform lets the service account read Secrets; without a platform, gateways may read those of
    /// their own namespace. A platform that does not answer is asked until it does: until then nothing is sent anew.
    async fn may_read_secrets(&self) -> bool {
        loop {
            match self.gate.may_read_secrets(&self.identity).await {
                Ok(Some(is_allowed)) => return is_allowed,
                Ok(None) => return self.proxy.kind == ProxyKind::Router,
                Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    }
}
