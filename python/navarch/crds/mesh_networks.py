"""MeshNetworks: which endpoints belong to which network, and the gateways between networks.

Sources: istio.io/api mesh/v1alpha1/network.proto; Istio's pkg/config/validation/agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from navarch import records
from navarch.crds.schema import canonical, faults, message, names, reading, rules

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = records.SourceKey("MeshNetworks", "", "mesh")
"""The one key of the mesh's networks."""


class NetworkEndpoints(message.Message):
    """Endpoints by subnet or by registry (cluster); exactly one."""

    from_cidr: str | None = None
    from_registry: str | None = None


class NetworkGateway(message.Message):
    """A gateway into the network: a service of its registry, or an address; exactly one."""

    registry_service_name: str | None = None
    address: str | None = None
    port: message.UInt32 = 0
    locality: str = ""


class Network(message.Message):
    """One network."""

    endpoints: message.Listed[NetworkEndpoints] = ()
    gateways: message.Listed[NetworkGateway] = ()


class MeshNetworks(message.Message):
    """The networks of a mesh, by name."""

    networks: dict[str, Network] = message.EMPTY


def read_mesh_networks(
    body: Mapping[str, Any] | None, origin: records.Origin | None = None
) -> bytes:
    """Read the networks of the mesh; None and {} mean one network.

    Returns:
        Canonical JSON of MeshNetworks.

    Raises:
        errors.CrdError: A field is unknown, has the wrong type, or breaks a rule; with every fault.
    """
    return reading.read_settings(MeshNetworks, body, _check, _encode, (KEY, origin))


def _encode(networks: MeshNetworks) -> bytes:
    return canonical.encode(networks.model_dump(by_alias=True, exclude_defaults=True))


def _check(networks: MeshNetworks, found: faults.Faults) -> None:
    for name, network in networks.networks.items():
        at = ("networks", name)
        for index, endpoints in enumerate(network.endpoints):
            _check_endpoints(endpoints, (*at, "endpoints", index), found)
        for index, gateway in enumerate(network.gateways):
            _check_gateway(gateway, (*at, "gateways", index), found)


def _check_endpoints(endpoints: NetworkEndpoints, at: faults.Path, found: faults.Faults) -> None:
    given = {"fromCidr": endpoints.from_cidr, "fromRegistry": endpoints.from_registry}
    rules.check_one_of(given, at, found, is_required=True)
    if endpoints.from_cidr is not None and not names.is_subnet(endpoints.from_cidr):
        text = f"must be a subnet such as 10.0.0.0/8, not {endpoints.from_cidr!r}"
        found.add((*at, "fromCidr"), "invalid-address", text)
    if endpoints.from_registry is not None and not names.is_label(endpoints.from_registry):
        text = f"must have letters, digits and dashes only, not {endpoints.from_registry!r}"
        found.add((*at, "fromRegistry"), "invalid-name", text)


def _check_gateway(gateway: NetworkGateway, at: faults.Path, found: faults.Faults) -> None:
    given = {"registryServiceName": gateway.registry_service_name, "address": gateway.address}
    rules.check_one_of(given, at, found, is_required=True)
    if gateway.registry_service_name is not None:
        rules.check_fqdn(gateway.registry_service_name, (*at, "registryServiceName"), found)
    if gateway.address is not None and not names.is_address(gateway.address):
        rules.check_fqdn(gateway.address, (*at, "address"), found)
    rules.check_port(gateway.port, (*at, "port"), found)
