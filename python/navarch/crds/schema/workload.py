"""Ports and endpoints: messages of ServiceEntry, WorkloadEntry, WorkloadGroup, Gateway and Sidecar."""

from __future__ import annotations

from navarch.crds.schema import message


class Port(message.Message):
    """A named port with its protocol; `targetPort` is read where old objects have it."""

    number: message.UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: message.UInt32 = 0


class Workload(message.Message):
    """An endpoint outside Kubernetes: spec of WorkloadEntry, template of WorkloadGroup, endpoint of ServiceEntry."""

    address: str = ""
    ports: dict[str, message.UInt32] = message.EMPTY
    labels: message.StringMap = message.EMPTY
    network: str = ""
    locality: str = ""
    weight: message.UInt32 = 0
    service_account: str = ""
