"""WorkloadEntry (networking.istio.io): one endpoint outside Kubernetes.

Sources: istio.io/api networking/v1alpha3/workload_entry.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from navarch.crds.schema import message, workload


class Condition(message.LenientMessage):
    """A condition; `Healthy` tells whether the workload takes traffic."""

    type: str = ""
    status: str = ""


class WorkloadEntryStatus(message.LenientMessage):
    """What is read of the status."""

    conditions: message.Listed[Condition] = ()


SPEC = workload.Workload
STATUS = WorkloadEntryStatus
