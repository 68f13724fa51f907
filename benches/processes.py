"""A server that is measured from outside: its process, its CPU time and its memory by /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 15.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Measured:
    """A running process and what it has used."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc") / str(pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mb(self) -> float:
        """Return the memory that it holds now."""
        return self._status("VmRSS")

    def peak_mb(self) -> float:
        """Return the most memory that it has held since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Count the peak from now on."""
        (self._proc / "clear_refs").write_text("5")

    def _status(self, field: str) -> float:
        lines = (self._proc / "status").read_text().splitlines()
        line = next(line for line in lines if line.startswith(f"{field}:"))
        return int(line.split()[1]) / 1024


class Server:
    """A `navarch serve` on a directory.

    Attributes:
        address: Where it serves ADS.
        measured: Its process.
        log: Where its log goes.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], address: str, http: str, log: Path
    ) -> None:
        self._process = process
        self._http = http
        self.address = address
        self.measured = Measured(process.pid)
        self.log = log

    def histogram(self, name: str, label: str) -> dict[float, int]:
        """Return how many observations were at most so large, by the bounds of a histogram's buckets.

        Args:
            name: Of the histogram.
            label: As Prometheus writes it, such as `lane="endpoint"`.
        """
        with urllib.request.urlopen(f"http://{self._http}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        of_series = (line for line in lines if line.startswith(f"{name}_bucket{{{label},le="))
        pairs = (line.split('le="')[1].split('"} ') for line in of_series)
        return {float(bound): int(count) for bound, count in pairs}

    def wait_ready(self) -> float:
        """Wait until it has read all and serves; return how long that took.

        Raises:
            RuntimeError: It ended, or did not become ready in time.
        """
        began = time.monotonic()
        while time.monotonic() - began < _READY_SECONDS:
            if self._process.poll() is not None:
                raise RuntimeError(f"navarch ended:\n{self.log.read_text()}")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{self._http}/ready", timeout=1) as answer,
            ):
                if answer.status == 200:
                    return time.monotonic() - began
            time.sleep(0.02)
        raise RuntimeError(f"navarch is not ready:\n{self.log.read_text()}")


@contextlib.contextmanager
def serve(command: list[str], directory: Path, log: Path) -> Iterator[Server]:
    """Run a navarch on a directory; it is stopped at the end."""
    grpc, http = (f"127.0.0.1:{port}" for port in _free_ports(2))
    flags = ["--config-dir", str(directory), "--grpc-address", grpc, "--http-address", http]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, *flags], stdout=file, stderr=file)
    try:
        yield Server(process, grpc, http, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
