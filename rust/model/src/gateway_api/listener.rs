//! Gateway and ListenerSet: the listeners that routes are bound to.

use serde::Deserialize;

use super::{LabelSelector, ObjectReference, ParentReference};
use crate::{Labels, Metadata};

/// A Gateway (the mesh's own is [`crate::Gateway`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct KubernetesGateway {
    /// Name, namespace, annotations, age.
    pub metadata: Metadata,
    /// Listeners and where they are.
    pub spec: KubernetesGatewaySpec,
}

/// Listeners and where they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct KubernetesGatewaySpec {
    pub gateway_class_name: String,
    pub addresses: Vec<GatewayAddress>,
    pub listeners: Vec<Listener>,
    pub tls: Option<GatewayTls>,
    pub allowed_listeners: Option<AllowedListeners>,
}

/// An address that a Gateway asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct GatewayAddress {
    /// `IPAddress` (also when absent), `Hostname`, or another's own.
    #[serde(rename = "type")]
    pub address_type: Option<String>,
    /// The address.
    pub value: String,
}

/// A ListenerSet: listeners of a Gateway, kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ListenerSet {
    /// Name, namespace, age.
    pub metadata: Metadata,
    /// The Gateway and the listeners.
    pub spec: ListenerSetSpec,
}

/// The Gateway and the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the API's own")]
pub struct ListenerSetSpec {
    pub parent_ref: ParentReference,
    pub listeners: Vec<Listener>,
}

/// One port with a host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Listener {
    /// Unique in the Gateway or ListenerSet.
    pub name: String,
    /// Absent or "" for every host.
    pub hostname: Option<String>,
    /// 0 in a ListenerSet stands for the protocol's own.
    pub port: u32,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`.
    pub protocol: String,
    /// For HTTPS and TLS.
    pub tls: Option<ListenerTls>,
    /// Which routes may be bound; those of the same namespace when absent.
    pub allowed_routes: Option<AllowedRoutes>,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListenerTls {
    /// `Terminate` (also when absent) or `Passthrough`.
    pub mode: Option<String>,
    /// Secrets.
    pub certificate_refs: Vec<ObjectReference>,
    /// Istio's own settings.
    pub options: Labels,
}

/// Which routes may be bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// Of which namespaces.
    pub namespaces: Option<NamespaceSelection>,
    /// Of which kinds; all that suit the protocol when empty.
    pub kinds: Vec<RouteGroupKind>,
}

/// Namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct NamespaceSelection {
    /// `All`, `Same`, `Selector`, `None`.
    pub from: Option<String>,
    /// For `Selector`.
    pub selector: Option<LabelSelector>,
}

/// A kind of route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct RouteGroupKind {
    /// The API's own when absent.
    pub group: Option<String>,
    /// Such as `HTTPRoute`.
    pub kind: String,
}

/// Which ListenerSets may add listeners; none when absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct AllowedListeners {
    /// Those of these namespaces.
    pub namespaces: Option<NamespaceSelection>,
}

/// TLS of all listeners of a Gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct GatewayTls {
    /// How clients are checked.
    pub frontend: Option<FrontendTls>,
}

/// How clients are checked, by port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FrontendTls {
    /// For ports that have no entry of their own.
    pub default: FrontendTlsConfig,
    /// For single ports.
    pub per_port: Vec<FrontendTlsPort>,
}

/// How clients of one port are checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct FrontendTlsPort {
    /// The listener's port.
    pub port: u32,
    /// What holds there.
    pub tls: FrontendTlsConfig,
}

/// What clients must show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct FrontendTlsConfig {
    /// Nothing when absent.
    pub validation: Option<FrontendValidation>,
}

/// Certificates of these authorities.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FrontendValidation {
    /// ConfigMaps or Secrets.
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// `AllowValidOnly` (also when absent) or `AllowInsecureFallback`.
    pub mode: Option<String>,
}
