"""ServiceEntry (networking.istio.io): a service that Kubernetes does not know.

Sources: istio.io/api networking/v1alpha3/service_entry.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import Literal

from navarch.crds.schema import matching, message, workload


class ServiceEntry(message.Message):
    """The spec of a ServiceEntry."""

    hosts: message.Listed[str] = ()
    addresses: message.Listed[str] = ()
    ports: message.Listed[workload.Port] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: message.Listed[workload.Workload] = ()
    workload_selector: matching.LabelSelector | None = None
    export_to: message.Listed[str] = ()
    subject_alt_names: message.Listed[str] = ()


class AllocatedAddress(message.LenientMessage):
    """An address that was allocated to one of the hosts."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(message.LenientMessage):
    """What is read of the status."""

    addresses: message.Listed[AllocatedAddress] = ()


SPEC = ServiceEntry
STATUS = ServiceEntryStatus
