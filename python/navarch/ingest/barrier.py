"""Holds the first batch back until every source has told all that it has (no I/O, no clock)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch import records

if TYPE_CHECKING:
    from collections.abc import Iterable


class Barrier:
    """Opens once, when the last source's first INIT_DONE has come, and stays open.

    Half a mesh, published, would take the other half away from every proxy.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._awaited = set(sources)

    def note(self, source: str, event: records.SourceEvent) -> None:
        """Take in one event."""
        if event.type is records.EventType.INIT_DONE:
            self._awaited.discard(source)

    def add(self, source: str) -> None:
        """Await one more source; without effect once the barrier is open."""
        if self._awaited:
            self._awaited.add(source)

    def release(self, source: str) -> None:
        """Await a source no longer."""
        self._awaited.discard(source)

    @property
    def is_open(self) -> bool:
        """Whether every source has told all."""
        return not self._awaited

    def awaited(self) -> tuple[str, ...]:
        """Return the sources that are still listing."""
        return tuple(sorted(self._awaited))
