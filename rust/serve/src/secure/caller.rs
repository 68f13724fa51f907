//! Who has been proved to call, and who may not any more.

use navarch_identity::SpiffeId;

/// A caller whose identity is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it is.
    pub identity: SpiffeId,
    /// The second, since 1970, after which the proof counts no more.
    pub expires_at: i64,
}

/// A namespace, or one service account of it, that gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The namespace.
    pub namespace: String,
    /// The service account; `None` for all of the namespace.
    pub service_account: Option<String>,
}

impl Revocation {
    /// Whether it takes the rights of that identity.
    pub fn covers(&self, identity: &SpiffeId) -> bool {
        self.namespace == identity.namespace()
            && self
                .service_account
                .as_deref()
                .is_none_or(|name| name == identity.service_account())
    }
}
