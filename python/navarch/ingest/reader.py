"""What `crds` knows, in the form that sources and merger take (pure)."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Final

from navarch import errors, records
from navarch.crds import key_set, mesh_config, mesh_networks, registry
from navarch.sources import base

WITHOUT_EFFECT: Final = frozenset(
    {
        "EnvoyFilter",
        "ProxyConfig",
        "Telemetry",
        "TrafficExtension",
        "WasmPlugin",
        "WorkloadGroup",
    }
)
"""Kinds that are checked but that the core does not act on; `tests/contracts/test_kinds.py` holds it to the core."""

MESH_KINDS: Final = frozenset(
    name for name, kind in registry.KINDS.items() if kind.group.endswith(".istio.io")
)
"""Kinds whose status has Istio's form."""
_MAX_ROUNDS: Final = 8
"""A fault may hide others below it; so often the rest is tried."""
_PATH_PART: Final = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def read_object(raw: records.RawObject) -> records.Record:
    """Check an object, settings of the whole mesh, or a fetched key set.

    Raises:
        errors.CrdError: The object is not valid; it has every fault.
    """
    if raw.text:
        return _read_checked(raw)
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
    return registry.read(raw)


def _read_checked(raw: records.RawObject) -> records.Record:
    """Read an object that an API server took in: by its schema, which may be newer than ours."""
    kind = registry.KINDS.get(raw.key.kind)
    if kind is not None and kind.is_passed_as_it_is:
        return records.Record(raw.key, raw.text, raw.origin, generation=raw.generation)
    body = json.loads(raw.text)
    warnings: list[records.Diagnostic] = []
    for _ in range(_MAX_ROUNDS):
        try:
            read = registry.read(dataclasses.replace(raw, body=body))
        except errors.CrdError as error:
            unknown = [d for d in error.diagnostics if d.code == "unknown-field"]
            if len(unknown) < len(error.diagnostics):
                raise
            for told in unknown:
                _remove(body, told.field_path)
                warnings.append(_as_warning(told))
            continue
        return dataclasses.replace(read, warnings=tuple(warnings), generation=raw.generation)
    return dataclasses.replace(
        registry.read(dataclasses.replace(raw, body=body)), generation=raw.generation
    )


def _as_warning(told: records.Diagnostic) -> records.Diagnostic:
    message = f"{told.message} (the cluster keeps it, navarch leaves it out)"
    return dataclasses.replace(told, severity=records.Severity.WARNING, message=message)


def _remove(body: Any, field_path: str) -> None:  # noqa: ANN401  any JSON value
    """Take a field out of an object, by its path as diagnostics write it."""
    parts = [inner or plain for inner, plain in _PATH_PART.findall(field_path)]
    holder = body
    for part in parts[:-1]:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    del holder[parts[-1]]


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
