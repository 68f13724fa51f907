"""The lab: navarch and its mesh of namespaces, sidecars and workloads, and the ways to act on it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Final

from tests.lab import client, meshes
from tests.lab.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

OVERLAY: Final = ("sidecar.yaml", "extra.yaml")
"""Files that a test adds, and which are taken away after it."""


class Lab(Stage):
    """All of it."""

    def set_up(self) -> None:
        """Start navarch, every pod and a server outside, and wait until the mesh works."""
        self.reset()
        self.start_navarch()
        for pod in (*meshes.PODS, meshes.OUTSIDE):
            self.add_pod(pod)
        self.run_workload("outside", ("tcp", "9999"), "tcp")
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        for pod in meshes.PODS:
            is_live = functools.partial(self.is_live, pod.name)
            self.wait(is_live, f"the sidecar of {pod.name} is live", 40)
        for host in ("reviews", "ratings", "details"):
            self.wait(functools.partial(self._is_answering, host), f"{host} answers", 40)
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

    def submit(
        self,
        host: str,
        path: str = "/",
        headers: dict[str, str] | None = None,
        port: int = 0,
        pod: str = "web-1",
    ) -> concurrent.futures.Future[client.Reply]:
        """Make an HTTP request from a pod to a service by its name, or to an address."""
        service = next((s for s in meshes.SERVICES if s.name == host), None)
        ip, number = (service.ip, service.port.number) if service else (host, port)
        told = {"Host": host} | (headers or {})
        return self._namespaces[pod].submit(client.get, ip, port or number, path, told)

    def get(
        self,
        host: str,
        path: str = "/",
        headers: dict[str, str] | None = None,
        port: int = 0,
        pod: str = "web-1",
    ) -> client.Reply:
        """Make an HTTP request from a pod and wait for the answer."""
        return self.submit(host, path, headers, port, pod).result()

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
