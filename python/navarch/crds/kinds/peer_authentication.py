"""PeerAuthentication (security.istio.io): whether a workload's inbound connections use mutual TLS.

Sources: istio.io/api security/v1beta1/peer_authentication.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from navarch.crds.schema import matching, message, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class MutualTls(message.Message):
    """UNSET inherits from the namespace or the mesh; with no parent it is PERMISSIVE."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class PeerAuthentication(message.Message):
    """The spec of a PeerAuthentication."""

    selector: matching.WorkloadSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[message.PortKey, MutualTls] = message.EMPTY


SPEC = PeerAuthentication


def check(spec: PeerAuthentication, _: envelope.Metadata, found: faults.Faults) -> None:
    """Port level modes need a selector; ports are in range."""
    labels = spec.selector.match_labels if spec.selector is not None else {}
    rules.check_selector_labels(labels, ("spec", "selector", "matchLabels"), found)
    if spec.port_level_mtls and not labels:
        message = (
            "needs a selector with matchLabels: a policy for a namespace or the mesh has no ports"
        )
        found.add(("spec", "portLevelMtls"), "missing-field", message)
    if not spec.port_level_mtls and "port_level_mtls" in spec.model_fields_set:
        found.add(
            ("spec", "portLevelMtls"), "missing-field", "names no port; name one, or remove it"
        )
    for port in spec.port_level_mtls:
        rules.check_port(port, ("spec", "portLevelMtls", str(port)), found)
