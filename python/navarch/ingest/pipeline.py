"""The worker that takes events from all sources and hands batches to the core."""

from __future__ import annotations

import collections
import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from navarch import errors, records
from navarch.runtime import clock, histogram, mailbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from navarch.ingest import barrier, batcher, merger

_log = logging.getLogger(__name__)

CAPACITY: Final = 100_000
"""Events that may wait; a source that tells more waits itself."""
_MAX_WAIT_SECONDS: Final = 0.5

_Place = tuple[str, records.SourceKey | records.EventType]


Watcher = Callable[[str, records.SourceEvent, "Sequence[records.Change]"], None]


class Applier(Protocol):
    """The part of the core that takes batches."""

    def apply(
        self, changes: Sequence[records.Change], age_seconds: float = 0.0
    ) -> list[records.Diagnostic]:
        """Apply a batch as one, the oldest change of that age; return what could not be read in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far the pipeline is."""

    n_batches: int = 0
    n_changes: int = 0
    n_failed_batches: int = 0
    last_apply_seconds: float = 0.0


STAGES: Final = ("wait", "apply")
"""What a batch goes through here: it waits for others and for its turn, and the core takes it in."""


class Pipeline:
    """Is the `sources.base.Sink` of all sources; `run` is the one thread that merges and applies."""

    def __init__(
        self,
        core: Applier,
        merged: merger.Merger,
        gate: barrier.Barrier,
        batches: batcher.Batcher,
        time: clock.Clock | None = None,
    ) -> None:
        self._core = core
        self._merger = merged
        self._barrier = gate
        self._batcher = batches
        self._clock = time or clock.SystemClock()
        self._watcher: Watcher | None = None
        self._waiting: mailbox.Mailbox[_Place, records.SourceEvent] = mailbox.Mailbox(CAPACITY)
        self._backlog: collections.deque[tuple[str, records.SourceEvent]] = collections.deque()
        self._lock = threading.Lock()
        self._reported: dict[tuple[str, str], tuple[records.Diagnostic, ...]] = {}
        self._of_core: dict[records.SourceKey, list[records.Diagnostic]] = {}
        self._applied = threading.Event()
        self._progress = Progress()
        self.stages = {stage: histogram.Histogram() for stage in STAGES}
        self._is_started = False

    def watch(self, watcher: Watcher) -> None:
        """Tell of each event as it is merged, with what changes by it; before the first batch, too."""
        self._watcher = watcher

    @property
    def is_applied(self) -> bool:
        """Whether the first whole batch is in the core."""
        return self._applied.is_set()

    def wait_applied(self, timeout_seconds: float) -> bool:
        """Wait for the first whole batch; return whether it is in the core."""
        return self._applied.wait(timeout_seconds)

    @property
    def progress(self) -> Progress:
        """How far the pipeline is."""
        return self._progress

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        """Take events of a source; wait while too many are pending."""
        batch: list[tuple[_Place, records.SourceEvent]] = []
        is_init = False
        for event in events:
            if event.type is records.EventType.INIT:
                # What waits from before is void: the list that begins tells all that is there.
                batch, is_init = [], True
            batch.append(((source, event.key or event.type), event))
        self._waiting.put(batch, drop=(lambda place: place[0] == source) if is_init else None)

    def add_source(self, source: str) -> None:
        """Take events of one more source, and await its first full list if the first batch has not gone yet."""
        with self._lock:
            self._merger.add_source(source)
            self._barrier.add(source)

    def release_source(self, source: str) -> None:
        """Let the first batch go without a source's first full list."""
        with self._lock:
            self._barrier.release(source)

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        """Replace a source's diagnostics on one subject."""
        with self._lock:
            if diagnostics:
                self._reported[source, subject] = tuple(diagnostics)
            else:
                self._reported.pop((source, subject), None)

    def diagnostics(self) -> list[records.Diagnostic]:
        """Return all that is wrong now with what the sources give, as far as it was taken in."""
        with self._lock:
            told = [fault for faults in self._reported.values() for fault in faults]
            told += self._merger.diagnostics()
            for key, faults in sorted(self._of_core.items()):
                origin = self._merger.find_origin(key)
                told += [dataclasses.replace(fault, origin=origin) for fault in faults]
        return told

    def find_origin(self, key: records.SourceKey) -> records.Origin | None:
        """Return where the object in force was read."""
        with self._lock:
            return self._merger.find_origin(key)

    def generations(self, kinds: frozenset[str]) -> dict[records.SourceKey, int]:
        """Return which version of its specification each object of these kinds was last given in."""
        with self._lock:
            return self._merger.generations(kinds)

    def n_in_force(self) -> int:
        """Count the objects in force."""
        with self._lock:
            return self._merger.n_in_force()

    def close(self) -> None:
        """Take no more events, and end `run` when what came before is applied."""
        self._waiting.close()

    def run(self, stop: threading.Event) -> None:
        """Merge and apply until `stop` is set.

        What was taken but not merged when this fails is merged by the next run.
        """
        if not self._is_started:
            self._is_started = True
            self._batcher.add(self._merger.start(), self._clock.now())
        while not stop.is_set():
            self._step()
            if self._waiting.is_closed and not self._waiting:
                return

    def _step(self) -> None:
        wait = _MAX_WAIT_SECONDS
        if (
            self._barrier.is_open
            and (due := self._batcher.due_seconds(self._clock.now())) is not None
        ):
            wait = min(wait, due)
        if not self._backlog:
            taken = self._waiting.take(wait)
            self._backlog.extend((place[0], event) for place, event in taken)
        while self._backlog:
            source, event = self._backlog.popleft()
            with self._lock:
                self._barrier.note(source, event)
                changes = self._merger.take(source, event)
            if self._watcher is not None:
                self._watcher(source, event, changes)
            self._batcher.add(changes, self._clock.now())
        now = self._clock.now()
        if not self._barrier.is_open:
            return
        told_at = self._batcher.oldest_at(now)
        if batch := self._batcher.take(now):
            self._apply(batch, told_at)

    def _apply(self, batch: list[records.Change], told_at: float) -> None:
        began = self._clock.now()
        try:
            faults = self._core.apply(batch, began - told_at)
        except errors.CoreError as error:
            _log.error("the core refused a batch of %d changes: %s", len(batch), error)
            self._progress = dataclasses.replace(
                self._progress, n_failed_batches=self._progress.n_failed_batches + 1
            )
            faults = self._apply_singly(batch)
        with self._lock:
            for change in batch:
                self._of_core.pop(change.key, None)
            for fault in faults:
                if fault.key is not None:
                    self._of_core.setdefault(fault.key, []).append(fault)
        seconds = self._clock.now() - began
        self.stages["wait"].observe(began - told_at)
        self.stages["apply"].observe(seconds)
        self._progress = dataclasses.replace(
            self._progress,
            n_batches=self._progress.n_batches + 1,
            n_changes=self._progress.n_changes + len(batch),
            last_apply_seconds=seconds,
        )
        self._applied.set()

    def _apply_singly(self, batch: list[records.Change]) -> list[records.Diagnostic]:
        """Find the changes that the core can't take, so that all others are applied."""
        faults: list[records.Diagnostic] = []
        for change in batch:
            try:
                faults += self._core.apply([change])
            except errors.CoreError as error:
                message = f"the core can't take this object: {error}; please report it"
                faults.append(records.Diagnostic("core-failed", message, key=change.key))
        return faults
