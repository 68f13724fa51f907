"""The lab: navarch and its mesh of namespaces, sidecars and workloads, and the ways to act on it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.lab import client, meshes, network, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GRPC: Final = f"{network.NODE_IP}:15010"
_HTTP_PORT: Final = 15014
_ADMIN_PORT: Final = 15000
_WORKLOADS: Final = Path(__file__).with_name("workloads.py")
_SIDECAR = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
OVERLAY: Final = ("sidecar.yaml", "extra.yaml")
"""Files that a test adds, and which are taken away after it."""


class Lab:
    """All of it; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="navarch-lab-"))
        # The proxies' user reads and runs what lies here, wherever the virtual environment is.
        self._dir.chmod(0o755)
        self.mesh_dir = self._dir / "mesh"
        self.mesh_dir.mkdir()
        self._envoy = Path(shutil.copy2(processes.find_envoy(), self._dir / "envoy"))
        self._network: network.Network | None = None
        self._namespaces: dict[str, network.Namespace] = {}
        self._processes: dict[str, processes.Process] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.send(signal.SIGTERM)
        for process in reversed(self._processes.values()):
            process.stop()
        if self._network is not None:
            self._network.close()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _start(self) -> None:
        self._network = network.Network()
        self.reset()
        self.start_navarch()
        for pod in meshes.PODS:
            made = self._network.add(pod.name, pod.ip, has_redirection=True)
            self._namespaces[pod.name] = made
            self.start_pod(pod.name)
        outside = self._network.add("outside", meshes.OUTSIDE_IP, has_redirection=False)
        self._namespaces["outside"] = outside
        self._run(
            "outside-http",
            outside,
            [sys.executable, str(_WORKLOADS), "http", "outside", "80", "8080"],
        )
        self._run(
            "outside-tcp", outside, [sys.executable, str(_WORKLOADS), "tcp", "outside", "9999"]
        )
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        for pod in meshes.PODS:
            is_live = functools.partial(self.is_live, pod.name)
            self.wait(is_live, f"the sidecar of {pod.name} is live")
        for host in ("reviews", "ratings", "details"):
            self.wait(functools.partial(self._is_answering, host), f"{host} answers")
        self.wait_settled()

    def wait_settled(self) -> None:
        """Wait until traffic follows the objects of the start."""
        self.wait(lambda: self.get("reviews").rule == "90-10", "the first rule of reviews")
        self.wait(lambda: self.get("details").rule == "plain", "the first rule of details")
        self.wait(lambda: self.talk("ledger")[0] == "ledger-1", "the first rule of ledger")
        self.wait(
            lambda: self.talk(meshes.OUTSIDE_IP, 9999)[0] == "outside", "the outside is reached"
        )

    def _is_answering(self, host: str) -> bool:
        return self.get(host).status == 200

    def reset(self) -> None:
        """Write all objects as they are at the start, and take away what a test has added."""
        files = {
            "platform.yaml": meshes.platform(),
            "reviews.yaml": meshes.canary(90, 10),
            "details.yaml": meshes.plain("details", "plain"),
            "ratings.yaml": meshes.ratings(),
            "ledger.yaml": meshes.tcp_virtual_service("ledger", "v1"),
            **{f"{host}-subsets.yaml": meshes.subsets(host) for host in ("reviews", "ledger")},
            **{f"{s.name}-endpoints.yaml": meshes.endpoint_slice(s.name) for s in meshes.SERVICES},
        }
        for name in OVERLAY:
            (self.mesh_dir / name).unlink(missing_ok=True)
        for name, objects in files.items():
            if self.read(name) != meshes.dump(objects):
                self.write(name, objects)

    def read(self, name: str) -> str:
        """Return a file of the mesh; "" if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.mesh_dir / name).read_text()
        return ""

    def write(self, name: str, objects: list[dict[str, Any]]) -> None:
        """Write a file of the mesh as an editor does: beside it, then renamed over."""
        fresh = self.mesh_dir / f".{name}.tmp"
        fresh.write_text(meshes.dump(objects))
        fresh.rename(self.mesh_dir / name)

    def start_navarch(self) -> None:
        """Start navarch on the node; return when it is ready."""
        assert self._network is not None
        serve = [
            "-m",
            "navarch",
            "serve",
            "--config-dir",
            str(self.mesh_dir),
            "--drain-seconds",
            "1",
        ]
        at = ["--grpc-address", _GRPC, "--http-address", f"{network.NODE_IP}:{_HTTP_PORT}"]
        self._run("navarch", self._network.node, [sys.executable, *serve, *at])
        self.wait(lambda: self.ask_navarch("/ready").status == 200, "navarch is ready")

    def stop_navarch(self, number: signal.Signals) -> int:
        """End navarch by a signal; return its exit code."""
        return self._processes.pop("navarch").stop(number)

    def ask_navarch(self, path: str) -> client.Reply:
        """Ask navarch's HTTP port."""
        assert self._network is not None
        node = self._network.node
        return node.submit(client.get, network.NODE_IP, _HTTP_PORT, path, {}).result()

    def start_pod(self, name: str) -> None:
        """Start the workload and the sidecar of a pod."""
        pod = next(pod for pod in meshes.PODS if pod.name == name)
        port = meshes.find_service(pod.app).port
        workload = [sys.executable, str(_WORKLOADS), port.name, name, str(port.target)]
        namespace = self._namespaces[name]
        self._run(f"{name}-workload", namespace, workload)
        flags = ["--ip", pod.ip, "--pod", name, "--namespace", meshes.NAMESPACE]
        flags += ["--discovery-address", _GRPC, "--admin-address", f"127.0.0.1:{_ADMIN_PORT}"]
        flags += ["--xds", pod.xds]
        flags += [word for k, v in pod.labels.items() for word in ("--label", f"{k}={v}")]
        file = self._dir / f"{name}.yaml"
        self._bootstrap(file, flags)
        command = [str(self._envoy), "-c", str(file), *_SIDECAR]
        self._run(f"{name}-envoy", namespace, command, network.PROXY_UID)

    def kill_pod(self, name: str) -> None:
        """End a pod at once: no drain, no farewell."""
        for part in ("envoy", "workload"):
            self._processes.pop(f"{name}-{part}").stop(signal.SIGKILL)

    def _bootstrap(self, file: Path, flags: list[str]) -> None:
        with file.open("wb") as out:
            process = subprocess.run(
                [sys.executable, "-m", "navarch", "bootstrap", *flags], stdout=out, check=False
            )
        assert process.returncode == 0, "navarch bootstrap failed"

    def _run(
        self, name: str, namespace: network.Namespace, command: list[str], uid: int = 0
    ) -> None:
        wrapped = processes.in_namespace(namespace, command, uid)
        self._processes[name] = processes.Process(wrapped, self._dir / f"{name}.log")

    def wait(self, is_true: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
        """Wait until something is true; a failure shows the logs of navarch and of what has ended."""
        try:
            return processes.wait_until(is_true, what, seconds)
        except AssertionError as error:
            shown = [p for n, p in self._processes.items() if n == "navarch" or not p.is_running]
            raise AssertionError("\n".join([str(error), *(p.tail() for p in shown)])) from None

    def is_live(self, pod: str) -> bool:
        """Whether a pod's Envoy has got its first configuration."""
        return self.ask_sidecar(pod, "/ready").status == 200

    def ask_sidecar(self, pod: str, path: str) -> client.Reply:
        """Ask the admin page of a pod's Envoy."""
        namespace = self._namespaces[pod]
        return namespace.submit(client.get, "127.0.0.1", _ADMIN_PORT, path, {}).result()

    def submit(
        self, host: str, path: str = "/", headers: dict[str, str] | None = None, port: int = 0
    ) -> concurrent.futures.Future[client.Reply]:
        """Make an HTTP request from `web-1` to a service by its name, or to an address."""
        service = next((s for s in meshes.SERVICES if s.name == host), None)
        ip, number = (service.ip, service.port.number) if service else (host, port)
        told = {"Host": host} | (headers or {})
        return self._namespaces["web-1"].submit(client.get, ip, port or number, path, told)

    def get(
        self, host: str, path: str = "/", headers: dict[str, str] | None = None, port: int = 0
    ) -> client.Reply:
        """Make an HTTP request from `web-1` and wait for the answer."""
        return self.submit(host, path, headers, port).result()

    def get_many(self, host: str, n_requests: int) -> list[client.Reply]:
        """Make many HTTP requests from `web-1`, several at a time."""
        return [each.result() for each in [self.submit(host) for _ in range(n_requests)]]

    def talk(self, host: str, port: int = 0) -> tuple[str, str]:
        """Open a TCP connection from `web-1`; return the greeting and an echo."""
        service = next((s for s in meshes.SERVICES if s.name == host), None)
        ip, number = (service.ip, service.port.number) if service else (host, port)
        return self._namespaces["web-1"].submit(client.talk, ip, number, "hello").result()

    def n_seen(self, host: str, key: str) -> int:
        """Return how many requests with that key came to the workload."""
        return int(self.get(host, f"/seen/{key}").told["n_seen"])

    @contextlib.contextmanager
    def load(
        self, host: str, n_clients: int = 4, pod: str = "web-1"
    ) -> Iterator[list[client.Reply]]:
        """Make requests from a pod without a pause while the block runs; yield the growing list of answers."""
        replies: list[client.Reply] = []
        until = [float("inf")]

        def ask(ip: str, port: int) -> None:
            while time.monotonic() < until[0]:
                replies.append(client.get(ip, port, "/", {"Host": host}))

        service = meshes.find_service(host)
        threads = self._namespaces[pod]
        running = [threads.submit(ask, service.ip, service.port.number) for _ in range(n_clients)]
        try:
            yield replies
        finally:
            until[0] = 0.0
            concurrent.futures.wait(running)

    def metric(self, name: str) -> float:
        """Return one of navarch's metrics, added up over its labels."""
        lines = self.ask_navarch("/metrics").body.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if _is_metric(line, name))

    def sync_status(self) -> Any:
        """Return what navarch knows of its proxies."""
        return json.loads(self.ask_navarch("/debug/syncz").body)


def _is_metric(line: str, name: str) -> bool:
    return line.startswith((f"{name} ", f"{name}{{"))
