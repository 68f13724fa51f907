"""Objects that a newer API than ours may have shaped: what is not known of them is left out (pure)."""

from __future__ import annotations

import copy
import dataclasses
import re
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, records
from navarch.crds import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE: Final = "unknown-field"
_MAX_ROUNDS: Final = 8
"""A fault may hide others below it; so often the rest is tried."""
_PATH_PART: Final = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def read(raw: records.RawObject) -> records.Record:
    """Read and check one object, without the fields that are not known; each of them is a warning of the record.

    The webhook lets pass what this reads, and the watch reads what the webhook lets pass. Istio does the same: it
    leaves out what its messages don't have (`pkg/config/schema/...` through protobuf JSON, unknown fields allowed).

    Raises:
        errors.CrdError: The object is not valid; it has every fault, and those warnings.
    """
    body: Any = raw.body
    warnings: list[records.Diagnostic] = []
    for _ in range(_MAX_ROUNDS):
        try:
            made = registry.read(dataclasses.replace(raw, body=body))
        except errors.CrdError as error:
            unknown = [told for told in error.diagnostics if told.code == _CODE]
            left = _without(body, unknown)
            if left is None:
                raise errors.CrdError([*error.diagnostics, *warnings]) from error
            body = left
            warnings += map(_as_warning, unknown)
        else:
            return dataclasses.replace(made, warnings=tuple(warnings), generation=raw.generation)
    message = f"has fields that are not known, nested {_MAX_ROUNDS} times; remove them"
    raise errors.CrdError([records.Diagnostic(_CODE, message, key=raw.key, origin=raw.origin)])


def _as_warning(told: records.Diagnostic) -> records.Diagnostic:
    message = f"{told.message} (navarch leaves it out)"
    return dataclasses.replace(told, severity=records.Severity.WARNING, message=message)


def _without(body: Any, unknown: Sequence[records.Diagnostic]) -> Any:  # noqa: ANN401  any JSON value
    """Return the object without these fields; None where there are none, or a name can't be told from a path."""
    made = copy.deepcopy(body) if unknown else None
    for told in unknown:
        parts = [inner or plain for inner, plain in _PATH_PART.findall(told.field_path)]
        holder: Any = made
        try:
            for part in parts[:-1]:
                holder = holder[int(part)] if isinstance(holder, list) else holder[part]
            del holder[parts[-1]]
        except (LookupError, TypeError, ValueError):
            return None
    return made
