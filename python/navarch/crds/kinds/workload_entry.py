"""WorkloadEntry (networking.istio.io): one endpoint outside Kubernetes.

Sources: istio.io/api networking/v1alpha3/workload_entry.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import message, workload, workload_rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class Condition(message.LenientMessage):
    """A condition; `Healthy` tells whether the workload takes traffic."""

    type: str = ""
    status: str = ""


class WorkloadEntryStatus(message.LenientMessage):
    """What is read of the status."""

    conditions: message.Listed[Condition] = ()


SPEC = workload.Workload
STATUS = WorkloadEntryStatus


def check(spec: workload.Workload, _: envelope.Metadata, found: faults.Faults) -> None:
    """The address is an IP address, a name, or a socket; ports and labels fit."""
    workload_rules.check_workload(spec, ("spec",), found)
