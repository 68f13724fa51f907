"""The JSON patch (RFC 6902) that turns one object into another; lists are replaced whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Operation = dict[str, Any]


def diff_objects(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Operation]:
    """Return the operations, always in the same order; none if both are equal."""
    return list(_diff(before, after, ""))


def _diff(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Operation]:
    for key in sorted(before.keys() | after.keys()):
        path = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            yield {"op": "remove", "path": path}
        elif key not in before:
            yield {"op": "add", "path": path, "value": after[key]}
        elif before[key] != after[key]:
            if isinstance(before[key], dict) and isinstance(after[key], dict):
                yield from _diff(before[key], after[key], path)
            else:
                yield {"op": "replace", "path": path, "value": after[key]}
