"""The load client `navarch-adsc`, driven over its standard input and output."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Any, Final

from benches import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Marker = tuple[str, str]
"""A short name of a type (`eds`) and a text that a response of it will carry."""
_STOP_SECONDS: Final = 10.0


class LoadError(Exception):
    """The sidecars did not get what was waited for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What the client plays.

    Attributes:
        binary: The built program.
        address: Where ADS is served.
        nodes: File of nodes, JSON lines.
    """

    binary: Path
    address: str
    nodes: Path
    n_sidecars: int
    is_delta: bool
    n_threads: int = 1


class Sidecars:
    """N sidecars that are connected.

    Attributes:
        measured: The client's process.
    """

    def __init__(self, process: subprocess.Popen[str], told: IO[str], orders: IO[str]) -> None:
        self._process = process
        self._orders = orders
        self._told: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._n_waits = 0
        self._may_close = False
        self.measured = processes.Measured(process.pid)
        threading.Thread(target=self._read, args=[told], daemon=True).start()

    def wait_in_sync(self, seconds: float) -> dict[str, Any]:
        """Wait until all sidecars have all; return when, in seconds since 1970, and how much came."""
        return self._wait("in_sync", seconds)

    def watch_for(self, markers: Sequence[Marker], expected: int | None = None) -> None:
        """Watch for a change that brings these texts to so many sidecars (None: all); returns when all watch."""
        self._n_waits += 1
        self._order({"wait": self._n_waits, "markers": markers, "expected": expected})
        self._wait("armed", 30.0)

    def wait_reached(self, seconds: float) -> dict[str, Any]:
        """Wait until the sidecars that are expected to have the change that was watched for."""
        return self._wait("reached", seconds)

    @contextlib.contextmanager
    def may_close(self) -> Iterator[None]:
        """Take it that streams end, which is an error at any other time."""
        self._may_close = True
        try:
            yield
        finally:
            self._may_close = False

    def status(self) -> dict[str, Any]:
        """Return the sums so far."""
        self._order({"status": True})
        return self._wait("status", 30.0)

    def _order(self, order: dict[str, Any]) -> None:
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()

    def _wait(self, event: str, seconds: float) -> dict[str, Any]:
        try:
            while (told := self._told.get(timeout=seconds)) is not None:
                if told["event"] == event:
                    return told
                if told["event"] == "closed" and not self._may_close:
                    raise LoadError(f"a stream ended: {told}")
        except queue.Empty:
            raise LoadError(
                f"no {event} within {seconds:g} s: {self._find_status(event)}"
            ) from None
        raise LoadError(f"the client ended with {self._process.wait()}")

    def _find_status(self, missed: str) -> dict[str, Any]:
        return {} if missed == "status" else self.status()

    def _read(self, told: IO[str]) -> None:
        for line in told:
            self._told.put(json.loads(line))
        self._told.put(None)


@contextlib.contextmanager
def connect(plan: Plan) -> Iterator[Sidecars]:
    """Let all sidecars connect at once; they leave at the end."""
    command = [str(plan.binary), "--address", plan.address, "--nodes", str(plan.nodes)]
    command += ["--count", str(plan.n_sidecars), "--threads", str(plan.n_threads)]
    if not plan.is_delta:
        command.append("--sotw")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdin is None or process.stdout is None:
        raise LoadError("no pipes")
    try:
        yield Sidecars(process, process.stdout, process.stdin)
    finally:
        # The end of its input is the end of the client.
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
