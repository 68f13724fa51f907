"""What an Envoy must be told to start with: who it is, and where its control plane listens.

The bootstrap itself is made in Rust (`rust/bootstrap`), where the agent makes it too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from navarch import core, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

PROXY_TYPES: Final = ("sidecar", "router")


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """Who a proxy is; with an `id` the parts of an id are not needed.

    Attributes:
        proxy_type: `sidecar` or `router`.
        ip: The workload's address; several are joined by commas, the first is the one in the id.
        metadata: Further fields of the node's metadata; they win over those made here.
    """

    id: str = ""
    proxy_type: str = "sidecar"
    ip: str = ""
    pod: str = ""
    namespace: str = ""
    cluster: str = ""
    cluster_id: str = "Kubernetes"
    service_account: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    has_redirect: bool = True
    domain_suffix: str = "cluster.local"
    locality: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A bootstrap to make.

    Attributes:
        discovery: Where navarch serves ADS.
        admin: Where Envoy's own admin page is served.
        is_delta: Incremental xDS rather than the state of the world.
    """

    node: Node
    discovery: settings.Address
    admin: settings.Address
    is_delta: bool = True


def build_bootstrap(plan: Plan) -> dict[str, Any]:
    """Return a bootstrap as protobuf JSON.

    Raises:
        errors.SettingsError: The node's id is malformed, or parts of it are missing.
    """
    return core.build_bootstrap(
        {
            "node": _node(plan.node),
            "discovery": {"address": _address(plan.discovery)},
            "admin": _address(plan.admin),
            "is_delta": plan.is_delta,
        }
    )


def build_node(node: Node) -> dict[str, Any]:
    """Return the node with the metadata that navarch reads.

    Raises:
        errors.SettingsError: The node's id is malformed, or parts of it are missing.
    """
    return core.build_node(_node(node))


def _node(node: Node) -> dict[str, Any]:
    told = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    mappings = {name: dict(told[name]) for name in ("labels", "metadata", "locality")}
    return told | mappings


def _address(address: settings.Address) -> dict[str, Any]:
    return dataclasses.asdict(address)
