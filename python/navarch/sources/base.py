"""The contract between a source and those who read from it.

A source runs in a thread of its own. Each run begins with INIT, applies everything that is there, and says INIT_DONE;
from then on it applies and deletes as its platform changes. What was not applied between INIT and INIT_DONE is gone.
A run that fails raises `errors.SourceError`; what was told before stays in force until the next run's INIT_DONE.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from navarch import records

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

DEFAULT_NAMESPACE = "default"


class Sink(Protocol):
    """Where a source puts what it finds; its methods may block while the reader is behind."""

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        """Hand over events that belong together, in order."""

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        """Replace all diagnostics on `subject` (a file, a connection) by these; none means that all is well."""


class Source(Protocol):
    """One platform, or one part of it."""

    @property
    def name(self) -> str:
        """Tell this source from all others in logs, diagnostics and metrics."""

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Read and watch until `stop` is set.

        Raises:
            errors.SourceError: The platform can't be read; the caller runs the source again if that is retryable.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class KindEntry:
    """What a source must know of a kind: how it is keyed, and whether it lives in a namespace."""

    key_kind: str
    is_namespaced: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Catalog:
    """The kinds to look for, by API group ("" is Kubernetes' core) and kind as written in the object."""

    kinds: Mapping[tuple[str, str], KindEntry]
    foreign: frozenset[tuple[str, str]] = frozenset()
    """Kinds of the mesh's groups that exist but that navarch doesn't act on; not in force, which is a warning."""

    def find(self, group: str, kind: str) -> KindEntry | None:
        """Return what is known of a kind, or None where it is not one to look for."""
        return self.kinds.get((group, kind))


# The groups whose objects are made for the mesh; in any other group a kind that is unknown is none of our business.
MESH_GROUPS = frozenset(
    {
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
        "gateway.networking.k8s.io",
    }
)


def is_mesh_object(group: str, kind: str) -> bool:
    """Tell whether an object is configuration of the mesh (Ingress counts), so that its age decides who wins."""
    return group in MESH_GROUPS or (group == "networking.k8s.io" and kind == "Ingress")
