"""ServiceEntry (networking.istio.io): a service that Kubernetes does not know.

Sources: istio.io/api networking/v1alpha3/service_entry.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from navarch.crds.schema import matching, message, names, rules, workload, workload_rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


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


def check(spec: ServiceEntry, metadata: envelope.Metadata, found: faults.Faults) -> None:
    """Hosts, addresses, ports and endpoints fit each other and the resolution."""
    if spec.workload_selector is not None:
        place = ("spec", "workloadSelector", "labels")
        rules.check_selector_labels(spec.workload_selector.labels, place, found)
        if spec.endpoints:
            message = "must be left out where workloadSelector is set; keep one of them"
            found.add(("spec", "endpoints"), "conflict", message)
    _check_hosts(spec, found)
    rules.check_subnets(spec.addresses, ("spec", "addresses"), found)
    if spec.resolution not in ("NONE", "STATIC"):
        for index, address in enumerate(spec.addresses):
            if "/" in address:
                message = f"must be one address where resolution is {spec.resolution}, not a subnet"
                found.add(("spec", "addresses", index), "conflict", message)
    _check_ports(spec, found)
    _check_endpoints(spec, found)
    rules.check_export_to(spec.export_to, metadata.namespace, found, takes_nobody=True)


def _check_hosts(spec: ServiceEntry, found: faults.Faults) -> None:
    if not spec.hosts:
        found.add(("spec", "hosts"), "missing-field", "is required; name at least one host")
    for index, host in enumerate(spec.hosts):
        at = ("spec", "hosts", index)
        if host == "*":
            found.add(at, "invalid-host", "must name a host, not *; *.domain is possible")
            continue
        rules.check_wildcard_host(host, at, found)
        needs_name = spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and not spec.endpoints
        if needs_name and "*" in host:
            message = f"must have no wildcard where resolution is {spec.resolution} and there are no endpoints"
            found.add(at, "invalid-host", message)


def _check_ports(spec: ServiceEntry, found: faults.Faults) -> None:
    port_names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(spec.ports):
        at = ("spec", "ports", index)
        rules.check_port_name(port.name, (*at, "name"), found)
        rules.check_protocol(port.protocol, (*at, "protocol"), found)
        rules.check_port(port.number, (*at, "number"), found)
        if port.target_port:
            rules.check_port(port.target_port, (*at, "targetPort"), found)
        if port.name in port_names:
            found.add(
                (*at, "name"), "duplicate", f"repeats the port name {port.name!r}; rename one"
            )
        if port.number in numbers:
            found.add((*at, "number"), "duplicate", f"repeats the port {port.number}; remove one")
        port_names.add(port.name)
        numbers.add(port.number)
        is_told_by_name = port.protocol.lower() in names.HTTP_PROTOCOLS | names.TLS_PROTOCOLS
        if (
            len(spec.hosts) > 1
            and spec.resolution not in ("NONE", "DYNAMIC_DNS")
            and not is_told_by_name
        ):
            message = (
                "must be HTTP or TLS where there are several hosts: TCP does not tell them apart"
            )
            found.add((*at, "protocol"), "conflict", message)


def _check_endpoints(spec: ServiceEntry, found: faults.Faults) -> None:
    at = ("spec", "endpoints")
    if spec.endpoints and spec.resolution in ("NONE", "DYNAMIC_DNS"):
        message = f"must be left out where resolution is {spec.resolution}; use STATIC or DNS for endpoints"
        found.add(at, "conflict", message)
        return
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        found.add(at, "conflict", "must have one entry at most where resolution is DNS_ROUND_ROBIN")
    port_names = {port.name for port in spec.ports}
    for index, endpoint in enumerate(spec.endpoints):
        workload_rules.check_workload(
            endpoint,
            (*at, index),
            found,
            service_ports=port_names,
            takes_names=spec.resolution != "STATIC",
        )
