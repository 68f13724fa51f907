"""The nouns that cross rooms: keys, raw objects, records, diagnostics, source events.

All are frozen values; none knows how it is read, checked or sent.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class SourceKey:
    """Names one object of one kind; cluster-scoped kinds have the namespace "".

    Kinds are written as in Kubernetes (`VirtualService`); no two API groups that navarch reads share one,
    save `Gateway` of gateway.networking.k8s.io, which is keyed as `KubernetesGateway`.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else f"{self.kind} {self.name}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where an object was read: a source, and within it a place a person can open."""

    source: str
    path: str = ""
    line: int = 0
    """1-based; 0 where the source has no lines."""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return place or self.source


@dataclasses.dataclass(frozen=True, slots=True)
class RawObject:
    """An object as its platform has it, unread; `body` is the whole object (apiVersion, kind, metadata, …)."""

    key: SourceKey
    body: Mapping[str, Any]
    origin: Origin


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An object that was read and found valid; `payload` is the canonical JSON that the core decodes."""

    key: SourceKey
    payload: bytes
    origin: Origin


class Severity(enum.StrEnum):
    """How much harm a diagnostic tells of: ERROR means that the object, or the part named, is not in force."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing to tell an operator about one object."""

    code: str
    """Stable and short, kebab-case, such as `unknown-field`; listed in docs/diagnostics.md."""
    message: str
    """What is wrong and the remedy, one sentence, without the object's name."""
    severity: Severity = Severity.ERROR
    key: SourceKey | None = None
    """None where no object could be made out (broken YAML)."""
    field_path: str = ""
    """Dotted with indexes, such as `spec.http[0].route[1].weight`; "" for the whole object."""
    origin: Origin | None = None

    def __str__(self) -> str:
        parts = [
            str(self.origin) if self.origin else "",
            str(self.key) if self.key else "",
            self.field_path,
        ]
        where = ": ".join(p for p in parts if p)
        return (
            f"{where}: {self.message} [{self.code}]" if where else f"{self.message} [{self.code}]"
        )


class EventType(enum.Enum):
    """What happened at a source; the resync barrier is in the type (as in kube-rs' watcher)."""

    INIT = enum.auto()
    """A full list begins: what is not applied before INIT_DONE is gone."""
    APPLY = enum.auto()
    DELETE = enum.auto()
    INIT_DONE = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class SourceEvent:
    """One event of one source: INIT and INIT_DONE carry nothing, DELETE a key, APPLY an object."""

    type: EventType
    key: SourceKey | None = None
    object: RawObject | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One key's new state on its way to the core; a payload of None means that the object is gone."""

    key: SourceKey
    payload: bytes | None
