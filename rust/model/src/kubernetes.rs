//! Kubernetes' own objects, as the API server sends them, cut to the fields that the mesh reads.

use serde::{Deserialize, Serialize};

use crate::metadata::{Labels, Metadata, null_as_default};

/// v1 Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct KubernetesNamespace {
    /// Name, labels, annotations.
    pub metadata: Metadata,
}

/// v1 Node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct KubernetesNode {
    /// Name and labels; the labels tell region, zone and subzone.
    pub metadata: Metadata,
    /// Its addresses.
    pub status: NodeStatus,
}

/// Status of a Node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeStatus {
    /// All addresses, of every type.
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Vec<NodeAddress>,
}

/// One address of a Node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `ExternalIP`, `InternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub address_type: String,
    /// The address.
    pub address: String,
}

/// v1 Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct KubernetesPod {
    /// Name, namespace, labels, annotations.
    pub metadata: PodMetadata,
    /// Where it runs and as whom.
    pub spec: PodSpec,
    /// Addresses and readiness.
    pub status: PodStatus,
}

/// Metadata of a Pod, with its owners.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodMetadata {
    /// What all objects have.
    #[serde(flatten)]
    pub common: Metadata,
    /// Set by controllers that make Pods.
    #[serde(deserialize_with = "null_as_default")]
    pub generate_name: String,
    /// The controllers that own it.
    #[serde(deserialize_with = "null_as_default")]
    pub owner_references: Vec<OwnerReference>,
}

/// A controller that owns a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is the one that manages the Pod.
    #[serde(deserialize_with = "null_as_default")]
    pub controller: bool,
}

/// Specification of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The Node it runs on.
    #[serde(deserialize_with = "null_as_default")]
    pub node_name: String,
    /// "" stands for `default`.
    #[serde(deserialize_with = "null_as_default")]
    pub service_account_name: String,
    /// DNS host name within the subdomain.
    #[serde(deserialize_with = "null_as_default")]
    pub hostname: String,
    /// The headless Service of its DNS name.
    #[serde(deserialize_with = "null_as_default")]
    pub subdomain: String,
    /// Whether it shares the Node's addresses.
    #[serde(deserialize_with = "null_as_default")]
    pub host_network: bool,
    /// Named ports, for Services whose targetPort is a name.
    #[serde(deserialize_with = "null_as_default")]
    pub containers: Vec<Container>,
}

/// A container's ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Container {
    /// All declared ports.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<ContainerPort>,
}

/// A declared container port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// May be "".
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// The number.
    pub container_port: u32,
    /// TCP when "".
    #[serde(deserialize_with = "null_as_default")]
    pub protocol: String,
}

/// Status of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    #[serde(deserialize_with = "null_as_default")]
    pub phase: String,
    /// The first address.
    #[serde(rename = "podIP", deserialize_with = "null_as_default")]
    pub pod_ip: String,
    /// All addresses.
    #[serde(rename = "podIPs", deserialize_with = "null_as_default")]
    pub pod_ips: Vec<PodIp>,
    /// Among them `Ready`.
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<PodCondition>,
}

/// One address of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// One condition of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PodCondition {
    /// Such as `Ready`.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}

/// v1 Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct KubernetesService {
    /// Name, namespace, labels, annotations, creation time.
    pub metadata: Metadata,
    /// Ports, addresses, selector.
    pub spec: KubernetesServiceSpec,
    /// Addresses of a load balancer.
    pub status: KubernetesServiceStatus,
}

/// Specification of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubernetesServiceSpec {
    /// `ClusterIP` when "".
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub service_type: String,
    /// `None` for headless Services.
    #[serde(rename = "clusterIP", deserialize_with = "null_as_default")]
    pub cluster_ip: String,
    /// One per IP family.
    #[serde(rename = "clusterIPs", deserialize_with = "null_as_default")]
    pub cluster_ips: Vec<String>,
    /// Further addresses that reach the Service.
    #[serde(rename = "externalIPs", deserialize_with = "null_as_default")]
    pub external_ips: Vec<String>,
    /// Of type `ExternalName`.
    #[serde(deserialize_with = "null_as_default")]
    pub external_name: String,
    /// Empty: endpoints are written by hand.
    #[serde(deserialize_with = "null_as_default")]
    pub selector: Labels,
    /// The ports.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<KubernetesServicePort>,
    /// Whether unready endpoints take traffic.
    #[serde(deserialize_with = "null_as_default")]
    pub publish_not_ready_addresses: bool,
    /// `Cluster` or `Local`.
    #[serde(deserialize_with = "null_as_default")]
    pub internal_traffic_policy: String,
    /// `PreferClose`, `PreferSameZone`, `PreferSameNode` or "".
    #[serde(deserialize_with = "null_as_default")]
    pub traffic_distribution: String,
    /// `ClientIP` or `None`.
    #[serde(deserialize_with = "null_as_default")]
    pub session_affinity: String,
}

/// A number or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// A port number.
    Number(u32),
    /// A container port's name.
    Name(String),
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubernetesServicePort {
    /// "" where the Service has one port.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// The Service's port.
    pub port: u32,
    /// TCP when "".
    #[serde(deserialize_with = "null_as_default")]
    pub protocol: String,
    /// Tells the application protocol.
    pub app_protocol: Option<String>,
    /// The workload's port; the Service's own when absent.
    pub target_port: Option<TargetPort>,
    /// Port on every Node, 0 when absent.
    #[serde(deserialize_with = "null_as_default")]
    pub node_port: u32,
}

/// Status of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubernetesServiceStatus {
    /// Addresses of a load balancer.
    pub load_balancer: LoadBalancerStatus,
}

/// Addresses of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Each with an address or a name.
    #[serde(deserialize_with = "null_as_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One address of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LoadBalancerIngress {
    /// An address, or "".
    #[serde(deserialize_with = "null_as_default")]
    pub ip: String,
    /// A name, or "".
    #[serde(deserialize_with = "null_as_default")]
    pub hostname: String,
}

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name` tells the Service.
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// The endpoints, each of one address.
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<SliceEndpoint>,
    /// The workload's ports; a port without a number takes none.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<SlicePort>,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// Addresses of the same endpoint.
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Vec<String>,
    /// Readiness.
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: SliceConditions,
    /// DNS host name of a headless Service's Pod.
    #[serde(deserialize_with = "null_as_default")]
    pub hostname: String,
    /// The Node.
    #[serde(deserialize_with = "null_as_default")]
    pub node_name: String,
    /// The zone, where the Node is not known.
    #[serde(deserialize_with = "null_as_default")]
    pub zone: String,
    /// The Pod.
    pub target_ref: Option<TargetRef>,
}

/// Readiness of an endpoint; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SliceConditions {
    /// Unknown counts as ready.
    pub ready: Option<bool>,
    /// As ready, but also said while terminating.
    pub serving: Option<bool>,
    /// Being deleted.
    pub terminating: Option<bool>,
}

/// The object behind an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod`, usually.
    #[serde(deserialize_with = "null_as_default")]
    pub kind: String,
    /// Its name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// Its namespace.
    #[serde(deserialize_with = "null_as_default")]
    pub namespace: String,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlicePort {
    /// The Service port's name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// The workload's port.
    pub port: Option<u32>,
    /// TCP when "".
    #[serde(deserialize_with = "null_as_default")]
    pub protocol: String,
}
