"""Builds objects of each kind, reads them, and gives what was found in a form that is easy to compare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from navarch import errors, records
from navarch.crds import registry

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIGIN = records.Origin("test", "mesh.yaml", 7)
Found = set[tuple[str, str]]
"""Faults as (field path, code)."""


def mk_raw(kind: str, spec: object = None, /, **parts: object) -> records.RawObject:
    """An object named `it` in the namespace shop; `parts` replaces or adds top-level fields."""
    entry = registry.KINDS[kind]
    metadata: dict[str, Any] = {"name": "it", "namespace": "shop"}
    body: dict[str, Any] = {
        "apiVersion": entry.api_versions[0],
        "kind": entry.written_kind,
        "metadata": metadata,
        "spec": spec,
    } | parts
    body = {name: value for name, value in body.items() if value is not None}
    namespace = "shop" if entry.is_namespaced else ""
    return records.RawObject(records.SourceKey(kind, namespace, "it"), body, ORIGIN)


def read_payload(kind: str, spec: object = None, /, **parts: object) -> dict[str, Any]:
    """The payload of an object that is right."""
    value: dict[str, Any] = json.loads(registry.read(mk_raw(kind, spec, **parts)).payload)
    return value


def read_spec(kind: str, spec: object = None, /, **parts: object) -> Any:
    """The spec in the payload of an object that is right."""
    return read_payload(kind, spec, **parts)["spec"]


def find_faults(kind: str, spec: object = None, /, **parts: object) -> Found:
    """The faults of an object; none if it is right."""
    try:
        registry.read(mk_raw(kind, spec, **parts))
    except errors.CrdError as error:
        return pairs(error)
    return set()


def pairs(error: errors.CrdError) -> Found:
    """An error's faults."""
    return {(diagnostic.field_path, diagnostic.code) for diagnostic in error.diagnostics}


def with_parts(base: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """A copy with some fields replaced or added, or taken away (None)."""
    merged = {**base, **parts}
    return {name: value for name, value in merged.items() if value is not None}
