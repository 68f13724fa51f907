"""Kubernetes' own kinds: a light look at the fields that the mesh relies on; the object itself passes as it is.

The API server has checked such objects; files have not been checked by anyone, hence this look.
Source: the fields listed in reference "Kubernetes inputs": k8s.io/api core/v1, discovery/v1.
"""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from navarch.crds.schema import envelope, message

_Lenient = message.LenientMessage
_PortNumber = Annotated[int, pydantic.Field(ge=1, le=65535)]


class KubernetesObject(_Lenient):
    """What every object has."""

    api_version: str = ""
    kind: str = ""
    metadata: envelope.Metadata = envelope.Metadata()


class ServicePort(_Lenient):
    """A port of a Service; `targetPort` is a number or a name, and is not read."""

    name: str = ""
    port: _PortNumber
    protocol: str = ""
    app_protocol: str = ""
    node_port: message.UInt32 = 0


class LoadBalancerIngress(_Lenient):
    """An address of a load balancer."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(_Lenient):
    """The addresses of a load balancer."""

    ingress: message.Listed[LoadBalancerIngress] = ()


class ServiceStatus(_Lenient):
    """What is read of a Service's status."""

    load_balancer: LoadBalancerStatus | None = None


class ServiceSpec(_Lenient):
    """What is read of a Service."""

    type: str = ""
    cluster_ip: Annotated[str, pydantic.Field(alias="clusterIP")] = ""
    cluster_ips: Annotated[message.Listed[str], pydantic.Field(alias="clusterIPs")] = ()
    external_ips: Annotated[message.Listed[str], pydantic.Field(alias="externalIPs")] = ()
    external_name: str = ""
    selector: message.StringMap = message.EMPTY
    ports: message.Listed[ServicePort] = ()
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""
    publish_not_ready_addresses: bool = False


class Service(KubernetesObject):
    """A Service."""

    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class EndpointConditions(_Lenient):
    """Conditions of an endpoint; absent means true for ready and serving."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(_Lenient):
    """The pod behind an endpoint."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class Endpoint(_Lenient):
    """An endpoint."""

    addresses: message.Listed[str]
    conditions: EndpointConditions | None = None
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: TargetRef | None = None


class EndpointPort(_Lenient):
    """A port of all endpoints of a slice."""

    name: str = ""
    port: _PortNumber | None = None
    protocol: str = ""
    app_protocol: str = ""


class EndpointSlice(KubernetesObject):
    """An EndpointSlice."""

    address_type: str = ""
    endpoints: message.Listed[Endpoint] = ()
    ports: message.Listed[EndpointPort] = ()


class ContainerPort(_Lenient):
    """A port that a container names."""

    name: str = ""
    container_port: _PortNumber
    protocol: str = ""


class Container(_Lenient):
    """A container."""

    name: str = ""
    ports: message.Listed[ContainerPort] = ()


class PodSpec(_Lenient):
    """What is read of a Pod."""

    service_account_name: str = ""
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    containers: message.Listed[Container] = ()


class PodIp(_Lenient):
    """One of a pod's addresses."""

    ip: str = ""


class PodCondition(_Lenient):
    """A condition of a pod."""

    type: str = ""
    status: str = ""


class PodStatus(_Lenient):
    """What is read of a Pod's status."""

    phase: str = ""
    pod_ip: Annotated[str, pydantic.Field(alias="podIP")] = ""
    pod_ips: Annotated[message.Listed[PodIp], pydantic.Field(alias="podIPs")] = ()
    host_ip: Annotated[str, pydantic.Field(alias="hostIP")] = ""
    conditions: message.Listed[PodCondition] = ()


class Pod(KubernetesObject):
    """A Pod."""

    spec: PodSpec | None = None
    status: PodStatus | None = None


class NodeAddress(_Lenient):
    """An address of a node."""

    type: str = ""
    address: str = ""


class NodeStatus(_Lenient):
    """What is read of a Node's status."""

    addresses: message.Listed[NodeAddress] = ()


class Node(KubernetesObject):
    """A Node."""

    status: NodeStatus | None = None


class Secret(KubernetesObject):
    """A Secret; values are base64."""

    type: str = ""
    data: message.StringMap = message.EMPTY
    string_data: message.StringMap = message.EMPTY


class ConfigMap(KubernetesObject):
    """A ConfigMap."""

    data: message.StringMap = message.EMPTY
    binary_data: message.StringMap = message.EMPTY


class SpecObject(KubernetesObject):
    """A kind of which only the frame is looked at here (Gateway API, Ingress)."""

    spec: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
