"""From what is wrong with the mesh's own objects to the conditions of their status (pure).

The form is Istio's (`istio.io/api` `meta/v1alpha1/status.proto`): conditions, validation messages with the codes of
its analyzers, and the generation that they are of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from navarch import records
from navarch.feedback import blame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REFERENCE_CODES: Final = frozenset(
    {
        "delegate-not-found",
        "gateway-selects-nothing",
        "subset-selects-nothing",
        "unknown-destination",
        "unknown-gateway",
        "unknown-host",
        "unknown-port",
        "unknown-subset",
    }
)
_CONFLICT_CODES: Final = frozenset(
    {
        "duplicate-object",
        "gateway-conflict",
        "inbound-port-conflict",
        "mesh-host-conflict",
        "service-entry-protocol-conflict",
        "several-default-sidecars",
        "sidecar-selector-conflict",
    }
)
_TRANSLATION_CODES: Final = frozenset({"core-failed", "translation-failed", "undecodable-object"})
_REJECTION_CODES: Final = frozenset({blame.CODE})
_LEVELS: Final = {
    records.Severity.ERROR: "ERROR",
    records.Severity.WARNING: "WARNING",
    records.Severity.INFO: "INFO",
}
_DOCUMENTATION: Final = "https://istio.io/v1.32/docs/reference/config/analysis/"
_MAX_MESSAGES: Final = 20
_MAX_CHARACTERS: Final = 1000


def build_status(told: Sequence[records.Diagnostic], generation: int) -> dict[str, Any]:
    """Return the status of one object of the mesh from all that is told of it."""
    reference = [each for each in told if each.code in _REFERENCE_CODES]
    conflict = [each for each in told if each.code in _CONFLICT_CODES]
    failed = [each for each in told if each.code in _TRANSLATION_CODES]
    rejected = [each for each in told if each.code in _REJECTION_CODES]
    grouped = {id(each) for each in (*reference, *conflict, *failed, *rejected)}
    errors = [each for each in told if each.severity is records.Severity.ERROR]
    invalid = [each for each in errors if id(each) not in grouped]
    idle = [each for each in told if each.code == "unsupported-kind"]
    unprogrammed = failed or idle
    why = "RejectedByProxy" if rejected and not unprogrammed else "NotProgrammed"
    conditions = [
        _condition("Accepted", invalid, ("Accepted", "Invalid"), is_good=True),
        _condition("Programmed", [*unprogrammed, *rejected], ("Programmed", why), is_good=True),
        _condition("ResolvedRefs", reference, ("ResolvedRefs", "UnresolvedRefs"), is_good=True),
        _condition("Conflicted", conflict, ("NoConflicts", "Conflicted"), is_good=False),
    ]
    status: dict[str, Any] = {"conditions": conditions, "observedGeneration": generation}
    status["validationMessages"] = [_message(each) for each in told[:_MAX_MESSAGES]]
    return status


def build_statuses(
    told: Iterable[records.Diagnostic], generations: dict[records.SourceKey, int]
) -> dict[records.SourceKey, dict[str, Any]]:
    """Return the status of each object that there is, by what is told of all."""
    of_object: dict[records.SourceKey, list[records.Diagnostic]] = {}
    for each in told:
        if each.key in generations:
            of_object.setdefault(each.key, []).append(each)
    return {
        key: build_status(sorted(of_object.get(key, ()), key=_order), generation)
        for key, generation in generations.items()
    }


def _order(told: records.Diagnostic) -> tuple[str, str, str, str]:
    return (told.severity, told.field_path, told.code, told.message)


def _condition(
    name: str,
    faults: Sequence[records.Diagnostic],
    reasons: tuple[str, str],
    *,
    is_good: bool,
) -> dict[str, Any]:
    holds = is_good != bool(faults)
    texts = [f"{each.field_path}: {each.message}".removeprefix(": ") for each in faults]
    return {
        "type": name,
        "status": "True" if holds else "False",
        "reason": reasons[bool(faults)],
        "message": "; ".join(dict.fromkeys(texts))[:_MAX_CHARACTERS],
    }


def _message(told: records.Diagnostic) -> dict[str, Any]:
    code = told.istio_code
    link = f"{_DOCUMENTATION}{code.lower()}/" if code else _DOCUMENTATION
    return {
        "type": {"name": told.code, "code": code},
        "level": _LEVELS[told.severity],
        "documentationUrl": link,
    }
