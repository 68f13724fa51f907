//! Bytes from the language border to typed objects; the only reader of JSON.

use serde::de::DeserializeOwned;

use crate::{
    AuthorizationPolicy, ConfigKey, ConfigMapFacts, DestinationRule, Diagnostic, EndpointSlice,
    Gateway, Ingress, IngressClass, JsonWebKeySet, Kind, KubernetesNamespace, KubernetesNode,
    KubernetesPod, KubernetesService, MeshConfig, MeshNetworks, Metadata, PeerAuthentication,
    RequestAuthentication, SecretFacts, ServiceEntry, Severity, Sidecar, VirtualService,
    WorkloadEntry, gateway_api,
};

/// A typed object of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the kind of its name")]
#[expect(
    clippy::large_enum_variant,
    reason = "lives only between decoding and storing"
)]
pub enum Object {
    Namespace(KubernetesNamespace),
    Node(KubernetesNode),
    ServiceAccount(Metadata),
    Pod(KubernetesPod),
    Service(KubernetesService),
    EndpointSlice(EndpointSlice),
    VirtualService(VirtualService),
    DestinationRule(DestinationRule),
    ServiceEntry(ServiceEntry),
    WorkloadEntry(WorkloadEntry),
    Gateway(Gateway),
    Sidecar(Sidecar),
    PeerAuthentication(PeerAuthentication),
    RequestAuthentication(RequestAuthentication),
    AuthorizationPolicy(AuthorizationPolicy),
    JsonWebKeySet(JsonWebKeySet),
    Secret(SecretFacts),
    ConfigMap(ConfigMapFacts),
    Ingress(Ingress),
    IngressClass(IngressClass),
    GatewayClass(gateway_api::GatewayClass),
    KubernetesGateway(gateway_api::KubernetesGateway),
    ListenerSet(gateway_api::ListenerSet),
    HTTPRoute(gateway_api::HttpRoute),
    GRPCRoute(gateway_api::GrpcRoute),
    TCPRoute(gateway_api::TcpRoute),
    TLSRoute(gateway_api::TlsRoute),
    ReferenceGrant(gateway_api::ReferenceGrant),
    BackendTLSPolicy(gateway_api::BackendTlsPolicy),
    MeshConfig(Box<MeshConfig>),
    MeshNetworks(MeshNetworks),
}

/// Decode one object of the kind that its key tells.
///
/// # Errors
/// A diagnostic of code `undecodable-object` with the place in the JSON; the caller keeps the last valid value.
pub fn decode_object(key: &ConfigKey, payload: &[u8]) -> Result<Object, Diagnostic> {
    #[derive(serde::Deserialize)]
    struct OnlyMetadata {
        metadata: Metadata,
    }
    match key.kind {
        Kind::Namespace => read(key, payload).map(Object::Namespace),
        Kind::Node => read(key, payload).map(Object::Node),
        Kind::ServiceAccount => {
            read(key, payload).map(|o: OnlyMetadata| Object::ServiceAccount(o.metadata))
        }
        Kind::Pod => read(key, payload).map(Object::Pod),
        Kind::Service => read(key, payload).map(Object::Service),
        Kind::EndpointSlice => read(key, payload).map(Object::EndpointSlice),
        Kind::VirtualService => read(key, payload).map(Object::VirtualService),
        Kind::DestinationRule => read(key, payload).map(Object::DestinationRule),
        Kind::ServiceEntry => read(key, payload).map(Object::ServiceEntry),
        Kind::WorkloadEntry => read(key, payload)
            .map(|entry: WorkloadEntry| Object::WorkloadEntry(entry.with_labels())),
        Kind::Gateway => read(key, payload).map(Object::Gateway),
        Kind::Sidecar => read(key, payload).map(Object::Sidecar),
        Kind::PeerAuthentication => read(key, payload).map(Object::PeerAuthentication),
        Kind::RequestAuthentication => read(key, payload).map(Object::RequestAuthentication),
        Kind::AuthorizationPolicy => read(key, payload).map(Object::AuthorizationPolicy),
        Kind::JsonWebKeySet => read(key, payload).map(Object::JsonWebKeySet),
        Kind::Secret => read(key, payload).map(Object::Secret),
        Kind::ConfigMap => read(key, payload).map(Object::ConfigMap),
        Kind::Ingress => read(key, payload).map(Object::Ingress),
        Kind::IngressClass => read(key, payload).map(Object::IngressClass),
        Kind::GatewayClass => read(key, payload).map(Object::GatewayClass),
        Kind::KubernetesGateway => read(key, payload).map(Object::KubernetesGateway),
        Kind::ListenerSet => read(key, payload).map(Object::ListenerSet),
        Kind::HTTPRoute => read(key, payload).map(Object::HTTPRoute),
        Kind::GRPCRoute => read(key, payload).map(Object::GRPCRoute),
        Kind::TCPRoute => read(key, payload).map(Object::TCPRoute),
        Kind::TLSRoute => read(key, payload).map(Object::TLSRoute),
        Kind::ReferenceGrant => read(key, payload).map(Object::ReferenceGrant),
        Kind::BackendTLSPolicy => read(key, payload).map(Object::BackendTLSPolicy),
        Kind::MeshConfig => read(key, payload).map(Box::new).map(Object::MeshConfig),
        Kind::MeshNetworks => read(key, payload).map(Object::MeshNetworks),
    }
}

fn read<T: DeserializeOwned>(key: &ConfigKey, payload: &[u8]) -> Result<T, Diagnostic> {
    serde_json::from_slice(payload).map_err(|error| Diagnostic {
        key: key.clone(),
        code: "undecodable-object",
        severity: Severity::Error,
        field_path: String::new(),
        message: format!(
            "the object can't be read: {error}; its last valid version stays in force"
        ),
    })
}
