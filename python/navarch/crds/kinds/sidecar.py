"""Sidecar (networking.istio.io): what a workload's proxy may see, and how it takes inbound traffic.

Sources: istio.io/api networking/v1alpha3/sidecar.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import Literal

from navarch.crds.schema import matching, message, traffic, workload

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class IngressListener(message.Message):
    """One inbound port of the workload."""

    port: workload.Port | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: traffic.ServerTls | None = None
    connection_pool: traffic.ConnectionPool | None = None


class EgressListener(message.Message):
    """The services that the workload may reach, on one port or on all."""

    port: workload.Port | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    hosts: message.Listed[str] = ()


class OutboundTrafficPolicy(message.Message):
    """What becomes of traffic to unknown destinations."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    egress_proxy: matching.Destination | None = None


class Sidecar(message.Message):
    """The spec of a Sidecar."""

    workload_selector: matching.LabelSelector | None = None
    ingress: message.Listed[IngressListener] = ()
    egress: message.Listed[EgressListener] = ()
    inbound_connection_pool: traffic.ConnectionPool | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


SPEC = Sidecar
