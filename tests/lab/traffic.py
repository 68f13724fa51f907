"""Requests that go on while something is changed: each must be answered."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import client

_N_REPORTED = 5


class Traffic:
    """A context manager that asks without a pause, from several threads, and fails if a request was lost.

    Args:
        ask: Makes one request; called from threads of its own.
        n_clients: How many ask at a time.
    """

    def __init__(self, ask: Callable[[], client.Reply], n_clients: int = 4) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._lost: list[tuple[float, client.Reply]] = []
        self._began = time.monotonic()
        self._n_answered = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(n_clients)]

    @property
    def n_answered(self) -> int:
        """How many requests were answered so far."""
        return self._n_answered

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            told = [
                f"after {seconds:.1f} s: {reply.status} {reply.body[:200]}"
                for seconds, reply in self._lost[:_N_REPORTED]
            ]
            assert not self._lost, f"{len(self._lost)} of {self._n_answered} requests: {told}"
            assert self._n_answered, "nothing was asked"

    def _run(self) -> None:
        while not self._stop.is_set():
            reply = self._ask()
            with self._lock:
                self._n_answered += reply.status == 200
                if reply.status != 200:
                    self._lost.append((time.monotonic() - self._began, reply))
