"""Rules for endpoints outside Kubernetes, alone (WorkloadEntry) or within a ServiceEntry.

Source: Istio's pkg/config/validation/validation.go, validateWorkloadEntry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import names, rules

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from navarch.crds.schema import workload
    from navarch.crds.schema.faults import Faults, Path


def check_workload(
    endpoint: workload.Workload,
    at: Path,
    found: Faults,
    *,
    service_ports: AbstractSet[str] | None = None,
    takes_names: bool = True,
) -> None:
    """The address is an IP address, a name where names are taken, or a socket; ports are the service's."""
    address, place = endpoint.address, (*at, "address")
    if not address:
        if not endpoint.network:
            found.add(place, "missing-field", "is required, unless a network is named")
            return
    elif address.startswith(names.UNIX_PREFIX):
        rules.check_unix_path(address, place, found)
        if endpoint.ports:
            found.add(
                (*at, "ports"), "conflict", "must be left out: a Unix domain socket has no ports"
            )
        if service_ports is not None and len(service_ports) != 1:
            found.add(
                place, "conflict", "needs a service of exactly one port, being a Unix domain socket"
            )
    elif not names.is_address(address):
        _check_name(address, place, found, takes_names=takes_names)
    for name, number in endpoint.ports.items():
        if service_ports is not None and name not in service_ports:
            message = (
                f"names no port of the service; it has {', '.join(sorted(service_ports)) or 'none'}"
            )
            found.add((*at, "ports", name), "unknown-value", message)
        rules.check_port_name(name, (*at, "ports", name), found)
        rules.check_port(number, (*at, "ports", name), found)
    rules.check_labels(endpoint.labels, (*at, "labels"), found)


def _check_name(address: str, at: Path, found: Faults, *, takes_names: bool) -> None:
    if not takes_names:
        message = (
            f"must be an IP address where resolution is STATIC, not {address!r}; use DNS for names"
        )
        found.add(at, "invalid-address", message)
    elif names.fault_in_fqdn(address) is not None:
        message = f"must be an IP address, a domain name, or unix:///path, not {address!r}"
        found.add(at, "invalid-address", message)
