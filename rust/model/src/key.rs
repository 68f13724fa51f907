//! The names of things: kinds, configuration keys, host names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The kinds of object that reach the core, named as Kubernetes names them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name),+ }

        impl Kind {
            /// Every kind, in the order in which they are declared.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The kind's name on the language border.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// The kind of that name, if the core knows it.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// v1
    Namespace,
    /// v1
    Node,
    /// v1
    ServiceAccount,
    /// v1
    Pod,
    /// v1
    Service,
    /// discovery.k8s.io/v1
    EndpointSlice,
    /// networking.istio.io
    VirtualService,
    /// networking.istio.io
    DestinationRule,
    /// networking.istio.io
    ServiceEntry,
    /// networking.istio.io
    WorkloadEntry,
    /// networking.istio.io
    Gateway,
    /// networking.istio.io
    Sidecar,
    /// security.istio.io
    PeerAuthentication,
    /// security.istio.io
    RequestAuthentication,
    /// security.istio.io
    AuthorizationPolicy,
    /// A key set as it was fetched; of namespace "", named by the address that RequestAuthentications fetch it from.
    JsonWebKeySet,
    /// v1; only whether it can serve as a credential
    Secret,
    /// v1; only whether it can serve as trust anchors
    ConfigMap,
    /// networking.k8s.io
    Ingress,
    /// networking.k8s.io
    IngressClass,
    /// gateway.networking.k8s.io
    GatewayClass,
    /// `Gateway` of gateway.networking.k8s.io
    KubernetesGateway,
    /// gateway.networking.k8s.io
    ListenerSet,
    /// gateway.networking.k8s.io
    HTTPRoute,
    /// gateway.networking.k8s.io
    GRPCRoute,
    /// gateway.networking.k8s.io
    TCPRoute,
    /// gateway.networking.k8s.io
    TLSRoute,
    /// gateway.networking.k8s.io
    ReferenceGrant,
    /// gateway.networking.k8s.io
    BackendTLSPolicy,
    /// Mesh-wide settings; one object of namespace "" and name "mesh".
    MeshConfig,
    /// Networks of the mesh; one object of namespace "" and name "mesh".
    MeshNetworks,
}

/// Names one object of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigKey {
    /// The kind.
    pub kind: Kind,
    /// "" for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Unique within kind and namespace.
    pub name: Arc<str>,
}

impl ConfigKey {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// A fully qualified host name, possibly with a leading `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `*` or begins with `*.` or `*-`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether every name this one stands for is also one of `other` (istio `pkg/config/host/name.go` `SubsetOf`).
    pub fn is_subset_of(&self, other: &Self) -> bool {
        Self::is_subset(&self.0, &other.0)
    }

    /// As [`Self::is_subset_of`], of two names as written.
    pub fn is_subset(name: &str, other: &str) -> bool {
        match (name.strip_prefix('*'), other.strip_prefix('*')) {
            (None, None) => name == other,
            (Some(_), None) => false,
            (Some(mine), Some(suffix)) => mine.ends_with(suffix),
            (None, Some(suffix)) => name.ends_with(suffix),
        }
    }

    /// Whether some name is of both (istio `pkg/config/host/name.go` `Matches`).
    pub fn is_matching(&self, other: &Self) -> bool {
        Self::is_meeting(&self.0, &other.0)
    }

    /// As [`Self::is_matching`], of two names as written.
    pub fn is_meeting(name: &str, other: &str) -> bool {
        match (name.strip_prefix('*'), other.strip_prefix('*')) {
            (None, None) => name == other,
            (Some(mine), Some(theirs)) => mine.ends_with(theirs) || theirs.ends_with(mine),
            (Some(suffix), None) => other.ends_with(suffix),
            (None, Some(suffix)) => name.ends_with(suffix),
        }
    }

    /// Resolve a name as written in an object of `namespace` (istio `pkg/config/resource.go` `ResolveShortnameToFQDN`).
    ///
    /// A name without a dot that is no wildcard becomes `<name>.<namespace>.svc.<domain_suffix>`.
    pub fn resolve(name: &str, namespace: &str, domain_suffix: &str) -> Self {
        if name.contains('.') || name.starts_with('*') {
            return name.into();
        }
        if namespace.is_empty() {
            return format!("{name}.svc.{domain_suffix}").into();
        }
        format!("{name}.{namespace}.svc.{domain_suffix}").into()
    }
}

impl From<&str> for Hostname {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Hostname {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Hostname;

    #[test]
    fn wildcards_contain_and_meet_as_in_istio() {
        let h = Hostname::from;
        assert!(h("a.b.com").is_subset_of(&h("*.b.com")));
        assert!(h("*.a.b.com").is_subset_of(&h("*.b.com")));
        assert!(!h("*.b.com").is_subset_of(&h("*.a.b.com")));
        assert!(!h("*.b.com").is_subset_of(&h("a.b.com")));
        assert!(h("anything").is_subset_of(&h("*")));
        assert!(h("*.b.com").is_matching(&h("*.a.b.com")));
        assert!(!h("a.com").is_matching(&h("*.b.com")));
    }
}
