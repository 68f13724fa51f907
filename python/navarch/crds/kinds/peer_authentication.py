"""PeerAuthentication (security.istio.io): whether a workload's inbound connections use mutual TLS.

Sources: istio.io/api security/v1beta1/peer_authentication.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import Literal

from navarch.crds.schema import matching, message


class MutualTls(message.Message):
    """UNSET inherits from the namespace or the mesh; with no parent it is PERMISSIVE."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class PeerAuthentication(message.Message):
    """The spec of a PeerAuthentication."""

    selector: matching.WorkloadSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[message.PortKey, MutualTls] = message.EMPTY


SPEC = PeerAuthentication
