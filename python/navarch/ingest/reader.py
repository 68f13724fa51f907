"""What `crds` knows, in the form that sources and merger take (pure)."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Final

from navarch import records
from navarch.crds import key_set, mesh_config, mesh_networks, registry, served
from navarch.sources import base

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_EFFECT: Final = frozenset(
    {
        "EnvoyFilter",
        "Telemetry",
        "TrafficExtension",
        "WasmPlugin",
        "WorkloadGroup",
    }
)
"""Kinds that are checked and do nothing; `tests/contracts/test_kinds.py` holds it to the core."""

OF_INJECTION: Final = frozenset({"ProxyConfig"})
"""Kinds that shape what injection puts into pods, and that the core does not read."""

MESH_KINDS: Final = frozenset(
    name for name, kind in registry.KINDS.items() if kind.group.endswith(".istio.io")
)
"""Kinds whose status has Istio's form."""


def read_object(raw: records.RawObject) -> records.Record:
    """Check an object, settings of the whole mesh, or a fetched key set; fields that are not known are warnings.

    Raises:
        errors.CrdError: The object is not valid; it has every fault.
    """
    return _read(raw, served.read)


def read_strictly(raw: records.RawObject) -> records.Record:
    """As `read_object`; a field that is not known is a fault, for most are slips of the pen.

    Raises:
        errors.CrdError: The object is not valid; it has every fault.
    """
    return _read(raw, registry.read)


def _read(
    raw: records.RawObject, read: Callable[[records.RawObject], records.Record]
) -> records.Record:
    if raw.text:
        kind = registry.KINDS.get(raw.key.kind)
        if kind is not None and kind.is_passed_as_it_is:
            return records.Record(raw.key, raw.text, raw.origin, generation=raw.generation)
        return read(dataclasses.replace(raw, body=json.loads(raw.text)))
    if raw.key == mesh_config.KEY:
        payload = mesh_config.read_mesh_config(raw.body, raw.origin)
        return records.Record(raw.key, payload, raw.origin)
    if raw.key == mesh_networks.KEY:
        payload = mesh_networks.read_mesh_networks(raw.body, raw.origin)
        return records.Record(raw.key, payload, raw.origin)
    if raw.key.kind == key_set.KIND:
        return records.Record(
            raw.key, key_set.read_key_set(raw.body, raw.key, raw.origin), raw.origin
        )
    return read(raw)


def default_mesh_config() -> records.Record:
    """Return the mesh configuration that is in force where none is given: every default, filled in."""
    origin = records.Origin("defaults")
    return records.Record(mesh_config.KEY, mesh_config.read_mesh_config({}, origin), origin)


def catalog() -> base.Catalog:
    """Return the kinds that sources look for: all that are registered."""
    return base.Catalog(
        {
            (kind.group, kind.written_kind): base.KindEntry(
                kind.name, kind.is_namespaced, kind.is_ordered_by_age, kind.versions
            )
            for kind in registry.KINDS.values()
        }
    )
