"""A server that is measured from outside: its process, its CPU time and its memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_READY_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 15.0
_CPUCLOCK_SCHED: Final = 2
"""Of all threads, user and system, to the nanosecond (Linux, `clock_getcpuclockid(3)`)."""


class Measured:
    """A running process and what it has used.

    Attributes:
        pid: Its number.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._proc = Path("/proc") / str(pid)
        self._clock = (~pid << 3) | _CPUCLOCK_SCHED

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far, ended ones too."""
        return time.clock_gettime(self._clock)

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


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """How a control plane is started.

    Attributes:
        name: Of the column in the tables.
        address: Where it will serve ADS in plain text.
        ready_url: Answers 200 once sidecars may come.
        folder: Its working directory; its log goes there too.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ready_url: str
    folder: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def navarch(command: list[str], source: list[str], folder: Path) -> Program:
    """Return a navarch that reads from a source, told as its flags."""
    grpc, http = (f"127.0.0.1:{port}" for port in free_ports(2))
    flags = ["--grpc-address", grpc, "--http-address", http]
    return Program("navarch", (*command, *source, *flags), grpc, f"http://{http}/ready", folder)


def istiod(binary: Path, kubeconfig: Path, folder: Path) -> Program:
    """Return Istio's pilot-discovery as it comes: its flags say where to listen and nothing else."""
    grpc, http, monitoring, control = (f"127.0.0.1:{port}" for port in free_ports(4))
    flags = ["--grpcAddr", grpc, "--httpAddr", http, "--monitoringAddr", monitoring]
    # Injection, validation and the port with certificates are not what is measured.
    flags += ["--httpsAddr", "", "--secureGRPCAddr", ""]
    flags += ["--ctrlz_port", control.rpartition(":")[2], "--kubeconfig", str(kubeconfig)]
    return Program(
        "istiod",
        (str(binary), "discovery", *flags),
        grpc,
        f"http://{http}/ready",
        folder,
        {"POD_NAMESPACE": "istio-system", "POD_NAME": "istiod-bench"},
    )


class Server:
    """A control plane that runs.

    Attributes:
        program: What was started.
        measured: Its process; another one after `restart`.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._log = program.folder / f"{program.name}.log"
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.program.command,
                cwd=self.program.folder,
                env=os.environ | dict(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.measured = Measured(self._process.pid)
        self._began = time.monotonic()

    def wait_ready(self) -> float:
        """Wait until it has read all and serves; return how long that took from its start.

        Raises:
            RuntimeError: It ended, or did not become ready in time.
        """
        while time.monotonic() - self._began < _READY_SECONDS:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.program.name} ended:\n{self._tail()}")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self.program.ready_url, timeout=1) as answer,
            ):
                if answer.status == 200:
                    return time.monotonic() - self._began
            time.sleep(0.02)
        raise RuntimeError(f"{self.program.name} is not ready:\n{self._tail()}")

    def kill(self) -> None:
        """End it as a lost machine does: nobody is told."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same address."""
        self._start()

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])


@contextlib.contextmanager
def serve(program: Program) -> Iterator[Server]:
    """Run a control plane; it is stopped at the end."""
    program.folder.mkdir(parents=True, exist_ok=True)
    server = Server(program)
    try:
        yield server
    finally:
        server.stop()


def free_ports(n: int) -> list[int]:
    """Return ports of loopback that nobody has just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
