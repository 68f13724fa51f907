"""DestinationRule (networking.istio.io): what holds for traffic to a host once it is routed.

Sources: istio.io/api networking/v1alpha3/destination_rule.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from navarch.crds.schema import matching, message, traffic


class Subset(message.Message):
    """A named part of the host's endpoints."""

    name: str = ""
    labels: message.StringMap = message.EMPTY
    traffic_policy: traffic.TrafficPolicy | None = None


class DestinationRule(message.Message):
    """The spec of a DestinationRule."""

    host: str = ""
    traffic_policy: traffic.TrafficPolicy | None = None
    subsets: message.Listed[Subset] = ()
    export_to: message.Listed[str] = ()
    workload_selector: matching.WorkloadSelector | None = None


SPEC = DestinationRule
