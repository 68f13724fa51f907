"""One real Envoy on loopback, with a configuration of its own and no control plane."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
_RUN: Final = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")


def free_ports(n: int) -> list[int]:
    """Return ports that were free just now."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [int(server.getsockname()[1]) for server in servers]


@contextlib.contextmanager
def running(config: dict[str, Any], folder: Path, port: int) -> Iterator[None]:
    """Run Envoy; it serves as soon as the port is open."""
    (folder / "envoy.json").write_text(json.dumps(config))
    command = [str(processes.find_envoy()), "-c", str(folder / "envoy.json"), *_RUN]
    process = processes.Process(command, folder / "log")
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not _listens(port):
            assert process.is_running, process.tail()
            assert time.monotonic() < deadline, process.tail()
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        process.stop()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
