"""The contract between a source and those who read from it.

A source runs in a thread of its own. Each run begins with INIT, applies everything that is there, and says INIT_DONE;
from then on it applies and deletes as its platform changes. What was not applied between INIT and INIT_DONE is gone.
A run that fails raises `errors.SourceError`; what was told before stays in force until the next run's INIT_DONE.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from navarch import records

DEFAULT_NAMESPACE = "default"


class Sink(Protocol):
    """Where a source puts what it finds; its methods may block while the reader is behind."""

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        """Hand over events that belong together, in order."""

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        """Replace all diagnostics on `subject` (a file, a connection) by these; none means that all is well."""


class GrowingSink(Sink, Protocol):
    """A sink that takes further sources at run time."""

    def add_source(self, source: str) -> None:
        """Take events of one more source, and await its first full list if the mesh is not published yet."""

    def release_source(self, source: str) -> None:
        """Publish the mesh without a source's first full list."""


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


class GrowingSource(Protocol):
    """A source that finds further sources at run time, and runs them."""

    @property
    def name(self) -> str:
        """Tell this source from all others."""

    def run(self, sink: GrowingSink, stop: threading.Event) -> None:
        """As `Source.run`."""


@dataclasses.dataclass(frozen=True, slots=True)
class KindEntry:
    """What a source must know of a kind.

    Attributes:
        key_kind: The kind in keys (see `records.SourceKey`).
        is_namespaced: Whether its objects live in a namespace.
        is_ordered_by_age: Whether age decides between its objects, so that each needs a creation time.
        versions: API versions that are read, the best first; their specifications are the same.
    """

    key_kind: str
    is_namespaced: bool = True
    is_ordered_by_age: bool = False
    versions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Catalog:
    """The kinds to look for, by API group ("" is Kubernetes' core) and kind as objects carry them."""

    kinds: Mapping[tuple[str, str], KindEntry]

    def find(self, group: str, kind: str) -> KindEntry | None:
        """Return what is known of a kind, or None where it is not one to look for."""
        return self.kinds.get((group, kind))


# The groups whose objects are made for the mesh: an unknown kind in one is a fault.
MESH_GROUPS = frozenset(
    {
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
        "gateway.networking.k8s.io",
    }
)
