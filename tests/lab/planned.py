"""A stage for one module of tests: its pods, services and rules by a plan, and requests from any of its pods."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.lab import client, meshes
from tests.lab.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CLIENT: Final = "web-1"
"""The pod that asks where no other is named."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a module's mesh has.

    Attributes:
        rules: Objects of the mesh by the name of their file.
        outside: Machines that the platform knows nothing of.
    """

    pods: tuple[meshes.Pod, ...]
    services: tuple[meshes.Service, ...]
    rules: Mapping[str, list[dict[str, Any]]]
    outside: tuple[meshes.Pod, ...] = ()


class PlannedStage(Stage):
    """navarch and what the plan names."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def set_up(self) -> None:
        """Start navarch and every pod, and wait until each proxy has its configuration."""
        services, pods = self._plan.services, self._plan.pods
        self.write("platform.yaml", meshes.platform(services, pods))
        slices = [each for service in services for each in meshes.slice_of(service, pods)]
        self.write("endpoints.yaml", slices)
        for name, objects in self._plan.rules.items():
            self.write(f"{name}.yaml", objects)
        self.start_navarch()
        for pod in (*self._plan.outside, *pods):
            self.add_pod(pod)
        for pod in (*self._plan.outside, *pods):
            for port in pod.listening:
                is_open = functools.partial(self._is_open, pod.name, port)
                self.wait(is_open, f"{pod.name} serves on {port}", 40)
            if pod.proxy:
                is_live = functools.partial(self.is_live, pod.name)
                self.wait(is_live, f"the proxy of {pod.name} is live", 40)

    def submit(
        self, request: client.Request, pod: str = CLIENT
    ) -> concurrent.futures.Future[client.Reply]:
        """Make an HTTP request from a pod: to an address, or to a service by its name."""
        if not request.ip:
            service = self._find_service(request.host)
            port = request.port or service.port.number
            request = dataclasses.replace(request, ip=service.ip, port=port)
        return self._namespaces[pod].submit(client.ask, request)

    def ask(self, request: client.Request, pod: str = CLIENT) -> client.Reply:
        """Make an HTTP request from a pod and wait for the answer."""
        return self.submit(request, pod).result()

    def get(self, host: str, path: str = "/", headers: Mapping[str, str] | None = None) -> Any:
        """Make a plain request to a service from the client's pod."""
        return self.ask(client.Request(host, path, headers or {}))

    def get_many(
        self, host: str, n_requests: int, headers: Mapping[str, str] | None = None
    ) -> list[client.Reply]:
        """Make many requests to a service, several at a time."""
        request = client.Request(host, headers=headers or {})
        return [each.result() for each in [self.submit(request) for _ in range(n_requests)]]

    def wait_for(self, host: str) -> None:
        """Wait until a service answers."""
        self.wait(lambda: self.get(host).status == 200, f"{host} answers", 40)

    def talk(self, ip: str, port: int, pod: str = CLIENT) -> tuple[str, str]:
        """Open a TCP connection to an address; return the greeting and an echo."""
        return self._namespaces[pod].submit(client.talk, ip, port, "hello").result()

    def talk_many(self, ip: str, port: int, n_connections: int) -> list[tuple[str, str]]:
        """Open many TCP connections, several at a time."""
        submit = self._namespaces[CLIENT].submit
        running = [submit(client.talk, ip, port, "hello") for _ in range(n_connections)]
        return [each.result() for each in running]

    def n_seen(self, pod: str, key: str) -> int:
        """Return how many requests with that key came to a pod, asked past all proxies."""
        ask = client.Request("", f"/seen/{key}", ip="127.0.0.1", port=8080)
        return int(self.ask(ask, pod).told["n_seen"])

    def stat(self, pod: str, name: str) -> int:
        """Return a counter of a pod's Envoy; 0 if it has none of that name."""
        lines = self.ask_sidecar(pod, f"/stats?filter=^{name}$").body.splitlines()
        return sum(int(line.rpartition(": ")[2]) for line in lines)

    def n_refused(self) -> int:
        """Return how often a proxy has refused a configuration; all proxies must be connected."""
        n_proxies = sum(bool(pod.proxy) for pod in self._plan.pods)
        assert len(self.sync_status()) == n_proxies
        return int(self.metric("pilot_total_xds_rejects"))

    def _is_open(self, pod: str, port: int) -> bool:
        return self._namespaces[pod].submit(client.can_connect, "127.0.0.1", port).result()

    def _find_service(self, host: str) -> meshes.Service:
        return next(s for s in self._plan.services if s.name == host.partition(":")[0])


@dataclasses.dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of a test; its files are readable to the proxies' user."""

    directory: Path

    @property
    def ca_file(self) -> str:
        """Return the certificate that its certificates are verified by."""
        return str(self.directory / "ca.crt")

    def issue(self, host: str, *more: str) -> tuple[str, str, str]:
        """Make a certificate for a host and more names; return the files of certificate, key and both."""
        names = ",".join(f"DNS:{name}" for name in (host, *more))
        signed_by = ("-x509", "-CA", "ca.crt", "-CAkey", "ca.key")
        files = ("-keyout", f"{host}.key", "-out", f"{host}.crt", "-subj", f"/CN={host}")
        extensions = ("-addext", f"subjectAltName={names}")
        self._run(*signed_by, *files, *extensions, "-addext", "basicConstraints=critical,CA:FALSE")
        both, key, certificate = (self.directory / f"{host}.{end}" for end in ("pem", "key", "crt"))
        both.write_text(certificate.read_text() + key.read_text())
        for file in (both, key, certificate):
            file.chmod(0o644)
        return str(certificate), str(key), str(both)

    def revoke(self, host: str) -> str:
        """Return a revocation list that names the certificate of a host."""
        told = [
            "openssl",
            "x509",
            "-noout",
            "-serial",
            "-enddate",
            "-in",
            f"{host}.crt",
            "-dateopt",
        ]
        found = subprocess.run(
            [*told, "iso_8601"], cwd=self.directory, check=True, capture_output=True, text=True
        )
        fields = dict(line.split("=", 1) for line in found.stdout.splitlines())
        ends = "".join(c for c in fields["notAfter"] if c.isdecimal())[2:] + "Z"
        now = time.strftime("%y%m%d%H%M%SZ", time.gmtime())
        row = ("R", ends, now, fields["serial"], "unknown", f"/CN={host}")
        (self.directory / "index.txt").write_text("\t".join(row) + "\n")
        settings = "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ndefault_md=sha256\n"
        (self.directory / "ca.conf").write_text(settings)
        command = ["openssl", "ca", "-gencrl", "-config", "ca.conf", "-crldays", "2"]
        command += ["-keyfile", "ca.key", "-cert", "ca.crt"]
        made = subprocess.run(command, cwd=self.directory, check=True, capture_output=True)
        return made.stdout.decode()

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[Self]:
        """Make an authority in a folder of its own, which goes when the block ends."""
        with tempfile.TemporaryDirectory(prefix="navarch-lab-ca-") as made:
            directory = Path(made)
            directory.chmod(0o755)
            authority = cls(directory)
            authority._run("-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=lab ca")
            yield authority

    def _run(self, *words: str) -> None:
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        command = ["openssl", "req", *new_key, "-days", "2", *words]
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True)
