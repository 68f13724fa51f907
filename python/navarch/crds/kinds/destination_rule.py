"""DestinationRule (networking.istio.io): what holds for traffic to a host once it is routed.

Sources: istio.io/api networking/v1alpha3/destination_rule.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import matching, message, names, rules, traffic, traffic_rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


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


def check(spec: DestinationRule, metadata: envelope.Metadata, found: faults.Faults) -> None:
    """Host and subsets are named well, policies fit; a rule for some workloads stays in its namespace."""
    rules.check_wildcard_host(spec.host, ("spec", "host"), found)
    traffic_rules.check_traffic_policy(spec.traffic_policy, ("spec", "trafficPolicy"), found)
    seen: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        at = ("spec", "subsets", index)
        if not names.is_label(subset.name):
            message = (
                f"must have letters, digits and dashes only, and at least one; not {subset.name!r}"
            )
            found.add((*at, "name"), "invalid-name", message)
        if subset.name in seen:
            found.add((*at, "name"), "duplicate", f"repeats the subset {subset.name!r}; rename one")
        seen.add(subset.name)
        rules.check_labels(subset.labels, (*at, "labels"), found)
        traffic_rules.check_traffic_policy(subset.traffic_policy, (*at, "trafficPolicy"), found)
    rules.check_export_to(spec.export_to, metadata.namespace, found)
    if spec.workload_selector is None:
        return
    rules.check_selector_labels(
        spec.workload_selector.match_labels, ("spec", "workloadSelector", "matchLabels"), found
    )
    if any(scope not in (".", metadata.namespace) for scope in spec.export_to):
        message = "must be `.` where a workloadSelector is set: such a rule holds in its own namespace only"
        found.add(("spec", "exportTo"), "conflict", message)
