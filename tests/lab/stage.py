"""A stage: navarch, a network, and the pods, sidecars and servers that a mesh needs, each a process with a log."""

from __future__ import annotations

import abc
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.lab import client, meshes, network, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_GRPC: Final = f"{network.NODE_IP}:15010"
_HTTP_PORT: Final = 15014
_ADMIN_PORT: Final = 15000
_WORKLOADS: Final = Path(__file__).with_name("workloads.py")
_UPSTREAM_STATS: Final = "/stats?usedonly&filter=(control_plane|cluster.xds-grpc.upstream_(cx|rq))"
_ENVOY: Final = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")


class Stage(abc.ABC):
    """What all labs are made of; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="navarch-lab-"))
        # The proxies' user reads and runs what lies here, wherever the virtual environment is.
        self.dir.chmod(0o755)
        self.mesh_dir = self.dir / "mesh"
        self.mesh_dir.mkdir()
        self._envoy = Path(shutil.copy2(processes.find_envoy(), self.dir / "envoy"))
        self._network: network.Network | None = None
        self._namespaces: dict[str, network.Namespace] = {}
        self._pods: dict[str, meshes.Pod] = {}
        self._processes: dict[str, processes.Process] = {}

    def __enter__(self) -> Self:
        try:
            self._network = network.Network()
            self.set_up()
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
        shutil.rmtree(self.dir, ignore_errors=True)

    @abc.abstractmethod
    def set_up(self) -> None:
        """Start what this stage has."""

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
        # The pods' Envoys have no agent, and so no identity.
        at.append("--allow-plaintext")
        self._run("navarch", self._network.node, [sys.executable, *serve, *at])
        self.wait(lambda: self.ask_navarch("/ready").status == 200, "navarch is ready")

    def stop_navarch(self, number: signal.Signals) -> int:
        """End navarch by a signal; return its exit code."""
        return self._processes.pop("navarch").stop(number)

    @contextlib.contextmanager
    def away(self, number: signal.Signals) -> Iterator[int]:
        """End navarch by a signal, yield its exit code, and start it again when the block ends, however it ends."""
        code = self.stop_navarch(number)
        try:
            yield code
        finally:
            self.start_navarch()

    def ask_navarch(self, path: str) -> client.Reply:
        """Ask navarch's HTTP port."""
        assert self._network is not None
        node = self._network.node
        return node.submit(client.get, network.NODE_IP, _HTTP_PORT, path, {}).result()

    def add_pod(self, pod: meshes.Pod) -> None:
        """Make a pod's namespace and start what runs in it."""
        assert self._network is not None
        made = self._network.add(pod.name, pod.ip, has_redirection=pod.is_redirected)
        self._pods[pod.name], self._namespaces[pod.name] = pod, made
        self.start_pod(pod.name)

    def start_pod(self, name: str) -> None:
        """Start the workload and the proxy of a pod, as far as it has them."""
        pod = self._pods[name]
        if pod.workload:
            self.run_workload(name, pod.workload)
        if pod.proxy:
            self._start_envoy(pod)

    def run_workload(self, pod: str, workload: Sequence[str], suffix: str = "workload") -> None:
        """Start a server in a pod: the words for `workloads.py` less the name."""
        kind, *words = workload
        command = [sys.executable, str(_WORKLOADS), kind, pod, *words]
        self._run(f"{pod}-{suffix}", self._namespaces[pod], command)

    def _start_envoy(self, pod: meshes.Pod) -> None:
        flags = ["--ip", pod.ip, "--pod", pod.name, "--namespace", meshes.NAMESPACE]
        flags += ["--discovery-address", _GRPC, "--admin-address", f"127.0.0.1:{_ADMIN_PORT}"]
        flags += ["--xds", pod.xds, "--proxy-type", pod.proxy]
        flags += ["--redirect" if pod.is_redirected else "--no-redirect"]
        flags += [word for k, v in pod.labels.items() for word in ("--label", f"{k}={v}")]
        flags += ["--locality", f"{meshes.REGION}/{pod.zone}"] if pod.zone else []
        flags += ["--metadata", "NAVARCH_VHDS=true"] if pod.has_virtual_hosts_apart else []
        file = self.dir / f"{pod.name}.yaml"
        self._bootstrap(file, flags)
        command = [str(self._envoy), "-c", str(file), *_ENVOY]
        command += ["--drain-time-s", str(pod.drain_seconds)]
        if pod.nameserver:
            resolver = self.dir / f"{pod.name}.resolv.conf"
            resolver.write_text(f"nameserver {pod.nameserver}\noptions ndots:0\n")
            command = processes.with_file(resolver, "/etc/resolv.conf", command, network.PROXY_UID)
        uid = 0 if pod.nameserver else network.PROXY_UID
        self._run(f"{pod.name}-envoy", self._namespaces[pod.name], command, uid)

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
        self._processes[name] = processes.Process(wrapped, self.dir / f"{name}.log")

    def wait(self, is_true: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
        """Wait until something is true; a failure tells all that the stage's processes can say of themselves."""
        try:
            return processes.wait_until(is_true, what, seconds)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self._testimony()])) from None

    def _testimony(self) -> Iterator[str]:
        """Give the logs, which proxies navarch knows, and what each proxy still waits for."""
        for process in self._processes.values():
            yield process.tail()
        if "navarch" in self._processes:
            yield f"--- /debug/syncz\n{_told(self.ask_navarch('/debug/syncz'))}"
        for name, pod in self._pods.items():
            for path in ("/ready", "/init_dump", _UPSTREAM_STATS) if pod.proxy else ():
                yield f"--- {name}: {path}\n{_told(self.ask_sidecar(name, path))}"

    def is_live(self, pod: str) -> bool:
        """Whether a pod's Envoy has got its first configuration."""
        return self.ask_sidecar(pod, "/ready").status == 200

    def ask_sidecar(self, pod: str, path: str) -> client.Reply:
        """Ask the admin page of a pod's Envoy."""
        namespace = self._namespaces[pod]
        return namespace.submit(client.get, "127.0.0.1", _ADMIN_PORT, path, {}).result()

    def metric(self, name: str) -> float:
        """Return one of navarch's metrics, added up over its labels."""
        lines = self.ask_navarch("/metrics").body.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if _is_metric(line, name))

    def sync_status(self) -> Any:
        """Return what navarch knows of its proxies."""
        return json.loads(self.ask_navarch("/debug/syncz").body)


def _told(reply: client.Reply) -> str:
    return f"{reply.status} {reply.body}"


def _is_metric(line: str, name: str) -> bool:
    return line.startswith((f"{name} ", f"{name}{{"))
