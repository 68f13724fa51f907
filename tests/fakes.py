"""Stand-ins at our own seams: time, the core's door, a sink."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from navarch import errors, records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FakeClock:
    """Time that passes only when told, or when someone waits."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.seconds += seconds
        return event.is_set()


class FakeCore:
    """Keeps what it is given; refuses the keys in `poison`."""

    def __init__(self) -> None:
        self.batches: list[list[records.Change]] = []
        self.state: dict[records.SourceKey, bytes] = {}
        self.poison: set[records.SourceKey] = set()
        self.faults: dict[records.SourceKey, records.Diagnostic] = {}
        self.applied = threading.Condition()

    def apply(
        self, changes: Sequence[records.Change], age_seconds: float = 0.0
    ) -> list[records.Diagnostic]:
        assert age_seconds >= 0.0
        if any(change.key in self.poison for change in changes):
            raise errors.CoreError("poisoned")
        with self.applied:
            self.batches.append(list(changes))
            for change in changes:
                if change.payload is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.payload
            self.applied.notify_all()
        return [self.faults[c.key] for c in changes if c.key in self.faults]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> bool:
        with self.applied:
            return self.applied.wait_for(condition, seconds)


class Recorder:
    """A sink that keeps the state which its events describe, and can be waited on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[records.SourceEvent] = []
        self.objects: dict[records.SourceKey, records.RawObject] = {}
        self.reports: dict[str, tuple[records.Diagnostic, ...]] = {}
        self.n_lists = 0
        self._listed: set[records.SourceKey] = set()

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        assert source
        with self._changed:
            for event in events:
                self._take(event)
            self.events += events
            self._changed.notify_all()

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        assert source
        with self._changed:
            self.reports[subject] = tuple(diagnostics)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), (self.objects.keys(), self.faults())

    def faults(self) -> list[records.Diagnostic]:
        return [fault for faults in self.reports.values() for fault in faults]

    def codes(self) -> list[str]:
        return sorted(fault.code for fault in self.faults())

    def _take(self, event: records.SourceEvent) -> None:
        if event.type is records.EventType.INIT:
            self._listed = set()
        elif event.type is records.EventType.INIT_DONE:
            for key in self.objects.keys() - self._listed:
                del self.objects[key]
            self.n_lists += 1
        elif event.type is records.EventType.APPLY:
            assert event.object is not None
            self.objects[event.object.key] = event.object
            self._listed.add(event.object.key)
        else:
            assert event.key is not None
            self.objects.pop(event.key, None)
