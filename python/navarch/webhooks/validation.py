"""The validating webhook: an object of the mesh is stored only if the control plane can use it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from navarch import errors, records
from navarch.crds import registry, served
from navarch.sources import base
from navarch.webhooks import review

if TYPE_CHECKING:
    from collections.abc import Sequence

    from navarch.webhooks.review import Request, Verdict

_ORIGIN: Final = records.Origin("admission")
_CHECKED: Final = frozenset({"CREATE", "UPDATE"})
_MAX_MESSAGE: Final = 4_000
_MAX_WARNINGS: Final = 5


def validate(request: Request) -> Verdict:
    """Check an object as the watch will; kinds that are not the mesh's are allowed unseen.

    Fields that are not known are warned of: those who wrote them may have a newer API. An object whose spec stays, or
    that is about to go, is allowed with a warning at most: its labels, finalizers and status must stay in reach of
    those who mend it.
    """
    if request.operation not in _CHECKED:
        return review.ALLOWED
    api_version, written = request.body.get("apiVersion"), request.body.get("kind")
    if not isinstance(api_version, str) or not isinstance(written, str):
        return review.Verdict(refusal="the object has no apiVersion and kind")
    kind = registry.find_kind(api_version, written)
    if kind is None or kind.group not in base.MESH_GROUPS:
        return review.ALLOWED
    told = _check(kind, request)
    faults = [each for each in told if each.severity is records.Severity.ERROR]
    if not faults:
        return review.Verdict(warnings=_warn(told))
    metadata = request.body.get("metadata")
    is_going = isinstance(metadata, dict) and metadata.get("deletionTimestamp")
    if is_going or (request.before and request.before.get("spec") == request.body.get("spec")):
        return review.Verdict(warnings=_warn(told))
    name = request.name or _name(request)
    text = "; ".join(_sentence(fault) for fault in faults)
    return review.Verdict(
        refusal=_shorten(f"{written} {request.namespace}/{name}: {text}"),
        causes=tuple(review.Cause(fault.field_path, fault.code, fault.message) for fault in faults),
    )


def _check(kind: registry.Kind, request: Request) -> tuple[records.Diagnostic, ...]:
    metadata = request.body.get("metadata")
    body = request.body
    if isinstance(metadata, dict):
        # The server makes up a name after admission where the object only says how it begins.
        body = {**body, "metadata": {**metadata, "name": metadata.get("name") or _name(request)}}
    key = records.SourceKey(kind.name, request.namespace, request.name or _name(request))
    try:
        return served.read(records.RawObject(key, body, _ORIGIN)).warnings
    except errors.CrdError as error:
        return error.diagnostics


def _warn(told: Sequence[records.Diagnostic]) -> tuple[str, ...]:
    return tuple(_shorten(_sentence(each)) for each in told[:_MAX_WARNINGS])


def _name(request: Request) -> str:
    metadata = request.body.get("metadata")
    prefix = metadata.get("generateName") if isinstance(metadata, dict) else None
    return f"{prefix}x" if isinstance(prefix, str) and prefix else ""


def _sentence(fault: records.Diagnostic) -> str:
    return f"{fault.field_path} {fault.message} {fault.mark}".strip()


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"
