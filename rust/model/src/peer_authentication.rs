//! PeerAuthentication (security.istio.io), as the Python half validated it.
//!
//! Fields and meanings: <https://istio.io/latest/docs/reference/config/security/peer_authentication/>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Metadata, WorkloadSelector};

/// A PeerAuthentication.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct PeerAuthentication {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// Which mode for whom.
    pub spec: PeerAuthenticationSpec,
}

/// Which mode for whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct PeerAuthenticationSpec {
    pub selector: Option<WorkloadSelector>,
    pub mtls: Option<MutualTls>,
    /// Keyed by the workload's port number in decimal.
    pub port_level_mtls: BTreeMap<String, MutualTls>,
}

/// One mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct MutualTls {
    /// The mode.
    pub mode: MutualTlsMode,
}

/// Mutual TLS on the server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// Inherited from the wider level.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
