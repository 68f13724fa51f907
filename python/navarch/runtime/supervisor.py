"""Starts, names, restarts and joins worker threads."""

from __future__ import annotations

import dataclasses
import enum
import logging
import random
import threading
from typing import TYPE_CHECKING

from navarch import errors
from navarch.runtime import backoff, clock

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

# A worker that ran this long before it failed counts as healthy: its next delay begins anew.
_HEALTHY_SECONDS = 60.0


class State(enum.StrEnum):
    """Where a worker stands."""

    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """One worker as seen from outside."""

    name: str
    state: State
    n_failures: int
    last_error: str


class _Worker:
    def __init__(self, name: str, target: Callable[[threading.Event], None]) -> None:
        self.name = name
        self.target = target
        self.state = State.RUNNING
        self.n_failures = 0
        self.last_error = ""
        self.thread: threading.Thread | None = None


class Supervisor:
    """Runs workers until they return, fail for good, or `stop` is called.

    A worker gets the stop event and must return soon after it is set. One that raises is run again after a jittered
    delay, without end, save on a `SourceError` that says that trying again is no use.
    """

    def __init__(
        self, time: clock.Clock | None = None, schedule: backoff.Backoff | None = None
    ) -> None:
        self._clock = time or clock.SystemClock()
        self._schedule = schedule or backoff.Backoff()
        self._workers: list[_Worker] = []
        self._stop = threading.Event()

    def start(self, name: str, target: Callable[[threading.Event], None]) -> None:
        """Run `target` in a thread of its own, named `name`."""
        worker = _Worker(name, target)
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
        self._workers.append(worker)
        worker.thread.start()

    def statuses(self) -> tuple[Status, ...]:
        """Return how each worker stands, in the order they were started."""
        return tuple(Status(w.name, w.state, w.n_failures, w.last_error) for w in self._workers)

    def stop(self, timeout_seconds: float) -> tuple[str, ...]:
        """Ask all workers to return and wait for them; return the names of those that did not in time."""
        self._stop.set()
        deadline = self._clock.now() + timeout_seconds
        late = []
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.join(max(0.0, deadline - self._clock.now()))
                if worker.thread.is_alive():
                    late.append(worker.name)
        return tuple(late)

    def _run(self, worker: _Worker) -> None:
        n_in_row = 0
        while not self._stop.is_set():
            worker.state = State.RUNNING
            began = self._clock.now()
            try:
                worker.target(self._stop)
            except errors.SourceError as error:
                self._note(worker, error, is_bug=False)
                if not error.is_retryable:
                    worker.state = State.FAILED
                    return
            except Exception as error:  # noqa: BLE001  the one door where a worker's fault must not end the process
                self._note(worker, error, is_bug=True)
            else:
                worker.state = State.DONE
                return
            n_in_row = 1 if self._clock.now() - began > _HEALTHY_SECONDS else n_in_row + 1
            worker.state = State.WAITING
            # Jitter needs no secrecy.
            delay = self._schedule.delay_seconds(n_in_row, random.random())  # noqa: S311
            self._clock.wait(self._stop, delay)
        worker.state = State.DONE

    @staticmethod
    def _note(worker: _Worker, error: Exception, *, is_bug: bool) -> None:
        worker.n_failures += 1
        worker.last_error = str(error) or type(error).__name__
        _log.error("worker %s failed: %s", worker.name, worker.last_error, exc_info=is_bug)
