"""A whole navarch over real API servers, with real traffic through a real Envoy."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.kubernetes import cluster as clusters
from tests.kubernetes import mesh as meshes
from tests.kubernetes import wire
from tests.lab import network, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kubernetes import api as apis
pytestmark = [
    pytest.mark.extension,
    pytest.mark.kubernetes,
    pytest.mark.envoy,
    pytest.mark.timeout(300),
]
ADDRESS = "10.249.77.1"
KINDS = ("VirtualService", "Gateway", "DestinationRule", "Sidecar")
STAGES = (
    ("navarch_kubernetes_read_seconds", {"cluster": "Kubernetes"}),
    ("navarch_ingest_seconds", {"stage": "wait"}),
    ("navarch_ingest_seconds", {"stage": "apply"}),
    ("navarch_push_seconds", {"stage": "translate"}),
    ("navarch_push_seconds", {"stage": "hand_over"}),
    ("navarch_convergence_seconds", {"lane": "endpoint"}),
)


class Backend:
    """An HTTP server that answers with its name."""

    def __init__(self, name: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((ADDRESS, 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Gateway:
    """A real Envoy as the mesh's gateway, and requests through it."""

    def __init__(self, folder: Path, navarch: meshes.Navarch, port: int) -> None:
        folder.mkdir()
        self.port = port
        command = [
            *(sys.executable, "-m", "navarch", "bootstrap", "--proxy-type", "router"),
            *("--ip", "127.0.0.1", "--pod", "gateway", "--namespace", "istio-system"),
            *("--label", "istio=ingressgateway", "--output", "json"),
            *("--discovery-address", f"127.0.0.1:{navarch.grpc_port}"),
            *("--admin-address", f"127.0.0.1:{clusters.free_port()}"),
        ]
        made = subprocess.run(command, check=True, capture_output=True, timeout=60)
        (folder / "envoy.json").write_bytes(made.stdout)
        command = [str(processes.find_envoy()), "-c", str(folder / "envoy.json")]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        self.process = processes.Process(command, folder / "envoy.log")

    def get(self, host: str) -> str:
        """Make a request; return the answer, or what went wrong."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.code)
        except OSError as error:
            return type(error).__name__

    def expect(self, host: str, answer: str, seconds: float = 20.0) -> None:
        def is_there() -> bool:
            return self.get(host) == answer

        try:
            processes.wait_until(is_there, f"{host} answers {answer}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {self.get(host)}: {self.process.tail()}") from error


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Give an address of this machine that is none of loopback's, which the API server refuses as endpoints."""
    network.require()
    change = ["ip", "address", "CHANGE", f"{ADDRESS}/32", "dev", "lo"]
    subprocess.run([word.replace("CHANGE", "replace") for word in change], check=True)
    yield ADDRESS
    subprocess.run([word.replace("CHANGE", "delete") for word in change], check=True)


@pytest.fixture
def backends(address: str) -> Iterator[dict[str, Backend]]:
    assert address
    made = {name: Backend(name) for name in ("one", "two")}
    yield made
    for each in made.values():
        each.close()


def endpoints(name: str, port: int) -> list[apis.Object]:
    made = meshes.slice_of(name, ADDRESS)
    made["ports"][0]["port"] = port
    return [meshes.service(name), made]


def gateway(port: int) -> apis.Object:
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "entry", "namespace": "default"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }


def route(destination: str) -> apis.Object:
    made = meshes.virtual_service("shop", "shop.example", destination)
    made["spec"]["gateways"] = ["entry"]
    return made


def conditions(admin: apis.Api, kind: str, name: str) -> dict[str, Any]:
    found = admin.get("networking.istio.io/v1", kind, "default", name)
    return {each["type"]: each for each in found.get("status", {}).get("conditions", ())}


def test_a_rule_is_applied_seen_in_traffic_and_its_status_read_back(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path, backends: dict[str, Backend]
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own, *KINDS)
    port = clusters.free_port()
    for name, backend in backends.items():
        admin.apply(endpoints(name, backend.port))
    admin.apply([gateway(port), route("one")])
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        envoy = Gateway(tmp_path / "envoy", navarch, port)
        try:
            envoy.expect("shop.example", "one", 40)
            admin.apply(route("two"))
            envoy.expect("shop.example", "two")

            def is_told() -> bool:
                told = conditions(admin, "VirtualService", "shop").get("Accepted", {})
                return bool(told.get("status") == "True" and told.get("observedGeneration") == 2)

            processes.wait_until(is_told, "the second version's status", 30)
            admin.apply(route("nowhere"))
            envoy.expect("shop.example", "503")

            def is_unresolved() -> bool:
                told = conditions(admin, "VirtualService", "shop").get("ResolvedRefs", {})
                return told.get("status") == "False" and "nowhere" in told.get("message", "")

            processes.wait_until(is_unresolved, "the missing destination is told", 30)
            restart_without_harm(own, admin, envoy, backends)
        finally:
            envoy.process.stop()


def restart_without_harm(
    own: clusters.Cluster, admin: apis.Api, envoy: Gateway, backends: dict[str, Backend]
) -> None:
    """While the API server is away traffic flows on, and what changes after it is back arrives."""
    admin.apply(route("one"))
    envoy.expect("shop.example", "one")
    own.stop_apiserver()
    until = time.monotonic() + 8
    while time.monotonic() < until:
        assert envoy.get("shop.example") == "one", "no endpoint is lost, nothing empty is pushed"
        time.sleep(0.1)
    own.start_apiserver()
    admin.apply(route("two"))
    envoy.expect("shop.example", "two", 40)
    assert set(backends) == {"one", "two"}


def test_what_changes_nothing_for_a_proxy_pushes_nothing(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path, backends: dict[str, Backend]
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own, *KINDS)
    port = clusters.free_port()
    admin.apply([*endpoints("one", backends["one"].port), gateway(port), route("one")])
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        envoy = Gateway(tmp_path / "envoy", navarch, port)
        try:
            envoy.expect("shop.example", "one", 40)
            processes.wait_until(
                lambda: bool(conditions(admin, "VirtualService", "shop")), "the status", 30
            )
            meshes.pause(1.5)
            before = navarch.metric("pilot_xds_pushes")
            assert before > 0
            for number in range(20):
                admin.apply(unrelated(number))
                note = {"metadata": {"annotations": {"example.org/turn": str(number)}}}
                admin.patch(meshes.service("one"), note)
                admin.patch(meshes.slice_of("one"), note)
                admin.patch(route("one"), note)
            meshes.pause(2.0)
            assert navarch.metric("pilot_xds_pushes") == before
            stages = counted(navarch)
            admin.apply(meshes.slice_of("one", "10.249.77.2"))
            processes.wait_until(
                lambda: all(a > b for a, b in zip(counted(navarch), stages, strict=True)),
                "a change is told at each stage",
                30,
            )
        finally:
            envoy.process.stop()


def counted(navarch: meshes.Navarch) -> list[float]:
    """Return how much each stage of a change has seen."""
    return [navarch.metric(f"{name}_count", **labels) for name, labels in STAGES]


def unrelated(number: int) -> list[apis.Object]:
    metadata = {"name": f"unrelated-{number % 3}", "namespace": "default"}
    text = {"turn": base64.b64encode(str(number).encode()).decode()}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": text},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": text},
    ]


def test_one_of_two_replicas_writes_and_the_other_takes_over(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own, "VirtualService")
    admin.apply([meshes.service("a"), meshes.virtual_service("v", "a", "a")])

    def holder() -> str:
        with contextlib.suppress(Exception):
            lease = admin.get("coordination.k8s.io/v1", "Lease", "istio-system", "navarch-writer")
            return str(lease["spec"].get("holderIdentity") or "")
        return ""

    first = meshes.Navarch(tmp_path / "first", own.kubeconfig())
    with first:
        first.wait_ready()
        processes.wait_until(lambda: bool(holder()), "the first holds the lease", 20)
        processes.wait_until(
            lambda: bool(conditions(admin, "VirtualService", "v")), "the status is written", 20
        )
        holder_before = holder()
        with meshes.Navarch(tmp_path / "second", own.kubeconfig()) as second:
            second.wait_ready()
            version = admin.get("networking.istio.io/v1", "VirtualService", "default", "v")
            meshes.pause(4.0)
            assert holder() == holder_before
            again = admin.get("networking.istio.io/v1", "VirtualService", "default", "v")
            assert again["metadata"]["resourceVersion"] == version["metadata"]["resourceVersion"]
            first.process.send(signal.SIGKILL)
            processes.wait_until(
                lambda: holder() not in ("", holder_before), "the second takes over", 40
            )
            admin.apply(meshes.virtual_service("w", "b", "a"))
            processes.wait_until(
                lambda: bool(conditions(admin, "VirtualService", "w")), "the second writes", 20
            )


def test_a_forbidden_kind_is_named_and_the_others_work(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own)
    some = ["services", "endpointslices", "pods", "nodes", "namespaces", "configmaps"]
    own.grant(
        "navarch", [{"apiGroups": ["*"], "resources": some, "verbs": ["get", "list", "watch"]}]
    )
    admin.apply(meshes.service("a"))
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        _, told = navarch.get("/ready")
        assert told.startswith("ok\n")
        assert "Secret is not read, grant `list` and `watch`" in told
        assert "Service is not read" not in told
        processes.wait_until(
            lambda: "forbidden-kind" in json.dumps(navarch.diagnostics()), "it is told", 10
        )


def change_place(admin: apis.Api, far: clusters.Cluster, envoy: Gateway) -> None:
    """Give the far cluster's kubeconfig another address: it is read there, and nothing is lost meanwhile."""
    with wire.Wire(far.port) as line:
        admin.apply(far.remote_secret("far", line.url))
        seen: set[str] = set()
        until = time.monotonic() + 30
        while not line.n_accepted and time.monotonic() < until:
            seen.add(envoy.get("shop.example"))
        seen |= {envoy.get("shop.example") for _ in range(60)}
        assert line.n_accepted, "the new place is asked"
        assert seen == {"one", "two"}, "what was known stays until all is listed anew"
    admin.apply(far.remote_secret("far"))


def test_endpoints_of_remote_clusters_are_merged_and_a_cluster_out_of_reach_harms_nobody(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path, backends: dict[str, Backend]
) -> None:
    own, far = own_cluster(), own_cluster()
    admin, far_admin = meshes.prepare(own, *KINDS), meshes.prepare(far)
    port = clusters.free_port()
    admin.apply([*endpoints("one", backends["one"].port), gateway(port), route("one")])
    far_admin.apply(endpoints("one", backends["two"].port))
    nowhere = f"https://127.0.0.1:{clusters.free_port()}"
    admin.apply(own.remote_secret("nowhere", nowhere))
    flags = ("--remote-sync-seconds", "2")
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig(), *flags) as navarch:
        navarch.wait_ready()
        assert "nowhere" in navarch.get("/ready")[1]
        envoy = Gateway(tmp_path / "envoy", navarch, port)
        try:
            envoy.expect("shop.example", "one", 40)
            answers = {envoy.get("shop.example") for _ in range(20)}
            assert answers == {"one"}
            admin.apply(far.remote_secret("far"))
            envoy.expect("shop.example", "two")
            answers = {envoy.get("shop.example") for _ in range(40)}
            assert answers == {"one", "two"}, "both clusters' endpoints are one service's"
            change_place(admin, far, envoy)
            admin.delete(far.remote_secret("far"))
            processes.wait_until(
                lambda: {envoy.get("shop.example") for _ in range(20)} == {"one"},
                "the far cluster's endpoints are gone",
                30,
            )
            unsafe = {"users": [{"name": "x", "user": {"exec": {}}}]}
            admin.apply(clusters.remote_secret("own", unsafe))
            processes.wait_until(
                lambda: "exec is not allowed here" in json.dumps(navarch.diagnostics()),
                "a kubeconfig that runs programs is refused",
                20,
            )
        finally:
            envoy.process.stop()
