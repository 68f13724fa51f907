"""Keeps the wanted status of every object, and hands on those that changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from navarch import records
from navarch.feedback import conditions
from navarch.runtime import clock

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

POLL_SECONDS: Final = 1.0

Status = dict[str, Any]
FindStatuses = Callable[[int], tuple[int, list[dict[str, Any]]] | None]
"""Returns statuses and a number that turns with them, None if it is the number given."""


class Box(Protocol):
    """Where wanted statuses go, latest per object."""

    def put(self, items: Iterable[tuple[records.SourceKey, Status]]) -> bool:
        """Take statuses; may block while too many wait."""


class StatusBoard:
    """Polls; `run` is a worker. A status is handed on when it is another than before, and never else."""

    def __init__(
        self,
        find_core_statuses: FindStatuses,
        diagnostics: Callable[[], Sequence[records.Diagnostic]],
        generations: Callable[[], dict[records.SourceKey, int]],
        box: Box,
        time: clock.Clock | None = None,
    ) -> None:
        """Take what is polled.

        Args:
            find_core_statuses: Those of Gateway API, if they are of another epoch than the one given.
            diagnostics: All that is wrong now.
            generations: The mesh's own objects that there are, with their generations.
            box: Takes what changed.
            time: The clock.
        """
        self._find_core_statuses = find_core_statuses
        self._diagnostics = diagnostics
        self._generations = generations
        self._box = box
        self._clock = time or clock.SystemClock()
        self._epoch = 0
        self._state: tuple[object, object] = ((), {})
        self._handed: dict[records.SourceKey, Status] = {}
        self._of_core: dict[records.SourceKey, Status] = {}

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set."""
        while not self._clock.wait(stop, POLL_SECONDS):
            self.poll()

    def poll(self) -> None:
        """Look once, and hand on what changed."""
        found = self._find_core_statuses(self._epoch)
        if found is not None:
            self._epoch, rows = found
            self._of_core = _by_key(rows)
        wanted = self._of_core | conditions.build_statuses(self._diagnostics(), self._generations())
        changed = [
            (key, status) for key, status in wanted.items() if self._handed.get(key) != status
        ]
        self._handed = wanted
        if changed:
            self._box.put(changed)


class HealthBoard:
    """Polls what workloads tell of their health on this replica's streams, and hands on what turned.

    No Lease decides who writes it: who hears it is the only one that knows.
    """

    def __init__(
        self, find_statuses: FindStatuses, box: Box, time: clock.Clock | None = None
    ) -> None:
        """Take what is polled, and where it goes."""
        self._find_statuses = find_statuses
        self._box = box
        self._clock = time or clock.SystemClock()
        self._turn = 0
        self._handed: dict[records.SourceKey, Status] = {}

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set."""
        while not self._clock.wait(stop, POLL_SECONDS):
            self.poll()

    def poll(self) -> None:
        """Look once, and hand on what turned."""
        found = self._find_statuses(self._turn)
        if found is None:
            return
        self._turn, rows = found
        wanted = _by_key(rows)
        changed = [item for item in wanted.items() if self._handed.get(item[0]) != item[1]]
        self._handed = wanted
        if changed:
            self._box.put(changed)


def _by_key(rows: Iterable[dict[str, Any]]) -> dict[records.SourceKey, Status]:
    return {
        records.SourceKey(row["kind"], row["namespace"], row["name"]): row["status"] for row in rows
    }
