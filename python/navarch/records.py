"""The nouns that cross rooms: keys, raw objects, records, diagnostics, source events.

All are frozen values; none knows how it is read, checked or sent.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from typing import TYPE_CHECKING, Any, Final

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
    cluster: str = ""
    """The remote cluster that the object is in; "" for the one whose rules count."""

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name} of {self.cluster}" if self.cluster else f"{self.kind} {name}"


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
    """An object as its platform has it, unread; `body` is the whole object (apiVersion, kind, metadata, …).

    An API server's objects come as `text`, JSON that it has checked by the kind's schema; their `body` is empty.
    """

    key: SourceKey
    body: Mapping[str, Any]
    origin: Origin
    text: bytes = b""
    generation: int = 0
    """Which version of its specification this is, as Kubernetes counts; 0 where nobody counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An object that was read and found valid; `payload` is the canonical JSON that the core decodes."""

    key: SourceKey
    payload: bytes
    origin: Origin
    warnings: tuple[Diagnostic, ...] = ()
    """What is odd about it, though it is in force."""
    generation: int = 0


class Severity(enum.StrEnum):
    """How much harm a diagnostic tells of: ERROR means that the object, or the part named, is not in force."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


ISTIO_CODES: Final[Mapping[str, str]] = types.MappingProxyType(
    {
        "core-failed": "IST0001",
        "translation-failed": "IST0001",
        # Names that lead nowhere.
        "delegate-not-found": "IST0101",
        "gateway-selects-nothing": "IST0101",
        "unknown-destination": "IST0101",
        "unknown-gateway": "IST0101",
        "unknown-port": "IST0101",
        "unknown-subset": "IST0101",
        # The form of one object.
        "conflict": "IST0106",
        "duplicate": "IST0106",
        "invalid-address": "IST0106",
        "invalid-base64": "IST0106",
        "invalid-duration": "IST0106",
        "invalid-header": "IST0106",
        "invalid-host": "IST0106",
        "invalid-label": "IST0106",
        "invalid-name": "IST0106",
        "invalid-port": "IST0106",
        "invalid-protocol": "IST0106",
        "invalid-regex": "IST0106",
        "invalid-timestamp": "IST0106",
        "invalid-value": "IST0106",
        "missing-field": "IST0106",
        "out-of-range": "IST0106",
        "too-deep": "IST0106",
        "undecodable-object": "IST0106",
        "unknown-field": "IST0106",
        "unknown-value": "IST0106",
        "unsupported-field": "IST0106",
        "wrong-type": "IST0106",
        # Objects that get in each other's way.
        "destination-port-required": "IST0112",
        "external-name-port-opaque": "IST0150",
        "gateway-conflict": "IST0145",
        "gateway-port-not-exposed": "IST0162",
        "host-not-in-gateway": "IST0132",
        "inbound-port-conflict": "IST0137",
        "mesh-host-conflict": "IST0109",
        "peer-authentication-without-effect": "IST0167",
        "service-entry-address-required": "IST0134",
        "service-entry-protocol-conflict": "IST0177",
        "several-default-sidecars": "IST0111",
        "sidecar-selector-conflict": "IST0110",
        "subset-selects-nothing": "IST0173",
        "undeclared-protocol": "IST0118",
        "unknown-host": "IST0174",
        "unreachable-route": "IST0130",
    }
)
"""The codes of Istio's analyzers for what is the same fault there (istio `pkg/config/analysis/msg/messages.yaml`)."""

_CONDITION_PREFIX: Final = "gateway-api-"
_NEGATIVE_CONDITION: Final = "IST0171"


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

    @property
    def istio_code(self) -> str:
        """The code that Istio's analyzers give the same fault, such as `IST0101`; "" where they have none."""
        if self.code.startswith(_CONDITION_PREFIX):
            return _NEGATIVE_CONDITION
        return ISTIO_CODES.get(self.code, "")

    @property
    def mark(self) -> str:
        """The codes as they end a line: `[unknown-gateway, IST0101]`."""
        codes = (self.code, self.istio_code) if self.istio_code else (self.code,)
        return f"[{', '.join(codes)}]"

    def __str__(self) -> str:
        parts = [
            str(self.origin) if self.origin else "",
            str(self.key) if self.key else "",
            self.field_path,
        ]
        where = ": ".join(p for p in parts if p)
        told = f"{self.message} {self.mark}"
        return f"{where}: {told}" if where else told


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
