"""What `crds` knows, in the form that sources and merger take (pure)."""

from __future__ import annotations

from typing import Final

from navarch import records
from navarch.crds import mesh_config, mesh_networks, registry
from navarch.sources import base

WITHOUT_EFFECT: Final = frozenset(
    {
        "AuthorizationPolicy",
        "EnvoyFilter",
        "ProxyConfig",
        "RequestAuthentication",
        "Telemetry",
        "TrafficExtension",
        "WasmPlugin",
        "WorkloadGroup",
    }
)
"""Kinds that are checked but that the core does not act on; `tests/contracts/test_kinds.py` holds it to the core."""


def read_object(raw: records.RawObject) -> records.Record:
    """Check an object, or settings of the whole mesh.

    Raises:
        errors.CrdError: The object is not valid; it has every fault.
    """
    if raw.key == mesh_config.KEY:
        payload = mesh_config.read_mesh_config(raw.body, raw.origin)
        return records.Record(raw.key, payload, raw.origin)
    if raw.key == mesh_networks.KEY:
        payload = mesh_networks.read_mesh_networks(raw.body, raw.origin)
        return records.Record(raw.key, payload, raw.origin)
    return registry.read(raw)


def default_mesh_config() -> records.Record:
    """Return the mesh configuration that is in force where none is given: every default, filled in."""
    origin = records.Origin("defaults")
    return records.Record(mesh_config.KEY, mesh_config.read_mesh_config({}, origin), origin)


def catalog() -> base.Catalog:
    """Return the kinds that sources look for: all that are registered."""
    return base.Catalog(
        {
            (kind.group, kind.written_kind): base.KindEntry(
                kind.name, kind.is_namespaced, kind.is_ordered_by_age
            )
            for kind in registry.KINDS.values()
        }
    )
