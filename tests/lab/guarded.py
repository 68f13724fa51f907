"""A mesh with policies: clients of several names, a server, a gateway, an authorizer and issuers of tokens."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from navarch import offline, simulation
from tests.lab import agents, client, meshes, network
from tests.lab.planned import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_IP: Final = "10.77.2.1"
INGRESS_IP: Final = "10.77.4.1"
INGRESS_PORT: Final = 8080
ROOT_NAMESPACE: Final = "istio-system"
KEYS_AT: Final = f"http://{network.NODE_IP}:8765"
CLIENTS: Final = {"web-1": "10.77.1.1", "other-1": "10.77.1.2", "plain-1": "10.77.3.1"}
"""Who asks: two by mutual TLS as `web` and `other`, and one in plaintext without a name."""
_AUTHORIZER: Final = Path(__file__).with_name("authorizer.py")

MESH_CONFIG: Final = {
    "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"},
    "extensionProviders": [
        {
            "name": "by-http",
            "envoyExtAuthzHttp": {
                "service": "guard.lab.svc.cluster.local",
                "port": 8000,
                "timeout": "5s",
                "includeRequestHeadersInCheck": ["x-pass"],
                "headersToUpstreamOnAllow": ["x-authorized-by"],
                "headersToDownstreamOnDeny": ["x-refused-by"],
            },
        },
        {
            "name": "by-grpc",
            "envoyExtAuthzGrpc": {
                "service": "guard.lab.svc.cluster.local",
                "port": 9000,
                "timeout": "5s",
            },
        },
    ],
}


def security(
    kind: str, name: str, spec: dict[str, Any], namespace: str = meshes.NAMESPACE, **metadata: Any
) -> dict[str, Any]:
    """Return an object of Istio's security."""
    told = {"name": name, "namespace": namespace} | metadata
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": told,
        "spec": spec,
    }


def of_app(app: str) -> dict[str, Any]:
    """Return the selector of an app's workloads."""
    return {"selector": {"matchLabels": {"app": app}}}


def policy(
    name: str, action: str, *rules: dict[str, Any], app: str = "server", **more: Any
) -> dict[str, Any]:
    """Return an AuthorizationPolicy of an app's workloads."""
    spec = of_app(app) | {"action": action, "rules": list(rules)} | more
    return security("AuthorizationPolicy", name, spec)


def rule(
    source: dict[str, Any] | None = None,
    operation: dict[str, Any] | None = None,
    *conditions: dict[str, Any],
) -> dict[str, Any]:
    """Return a rule: who, what, and when."""
    made: dict[str, Any] = {"from": [{"source": source}]} if source else {}
    made |= {"to": [{"operation": operation}]} if operation else {}
    return made | ({"when": list(conditions)} if conditions else {})


def plan() -> Plan:
    """Return the mesh without its policies."""
    http, more = meshes.Port("http", 80, 8080), meshes.Port("http-more", 81, 8081)
    tcp, more_tcp = meshes.Port("tcp", 9000, 9000), meshes.Port("tcp-more", 9001, 9001)
    with_agent: dict[str, Any] = {"has_agent": True}
    fresh = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
    gateway = {
        "selector": {"app": "ingress"},
        "servers": [
            {"port": {"name": "http", "number": 8080, "protocol": "HTTP"}, "hosts": ["*"]},
        ],
    }
    to_server = [{"destination": {"host": "server", "port": {"number": 80}}}]
    by_claim = {"match": [{"headers": {"@request.auth.claims.team": {"exact": "blue"}}}]}
    marked = {"headers": {"request": {"set": {"x-routed-by": "claim"}}}}
    routes = [by_claim | marked | {"route": to_server}, {"route": to_server}]
    return Plan(
        pods=(
            meshes.Pod(
                "server-1",
                SERVER_IP,
                "server",
                workload=("http", "8080", "8081"),
                account="server",
                **with_agent,
            ),
            meshes.Pod("web-1", CLIENTS["web-1"], "web", account="web", **with_agent),
            meshes.Pod(
                "other-1", CLIENTS["other-1"], "other", workload=(), account="other", **with_agent
            ),
            meshes.Pod(
                "ingress-1",
                INGRESS_IP,
                "ingress",
                proxy="router",
                workload=(),
                account="ingress",
                **with_agent,
            ),
            meshes.Pod("guard-1", "10.77.5.1", "guard", proxy="", workload=()),
            meshes.Pod(
                "plain-1", CLIENTS["plain-1"], "plain", proxy="", workload=(), has_redirection=False
            ),
        ),
        services=(
            meshes.Service("server", "10.96.0.10", http, more_ports=(more, tcp, more_tcp)),
            meshes.Service("ingress", "10.96.0.20", http),
            meshes.Service(
                "guard",
                "10.96.0.30",
                meshes.Port("http", 8000, 8000),
                more_ports=(meshes.Port("grpc", 9000, 9000),),
            ),
        ),
        rules={
            # A policy counts for new connections; those from before drain for a while.
            "fresh": [
                meshes.rule("DestinationRule", "server", {"host": "server", "trafficPolicy": fresh})
            ],
            "ingress": [
                meshes.rule("Gateway", "ingress", gateway),
                meshes.rule(
                    "VirtualService",
                    "ingress",
                    {"hosts": ["*"], "gateways": ["ingress"], "http": routes},
                ),
            ],
        },
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request to the server by one of the clients, or to the gateway.

    Attributes:
        port: The server's own; the gateway's is its one.
    """

    who: str = "web-1"
    path: str = "/"
    method: str = "GET"
    host: str = "server"
    port: int = 8080
    headers: tuple[tuple[str, str], ...] = ()
    at_ingress: bool = False

    @property
    def described(self) -> simulation.Described:
        """Return the request as `navarch simulate` takes it."""
        headers = dict(self.headers) | {"host": self.host}
        at: dict[str, Any] = {
            "source_address": CLIENTS[self.who],
            "method": self.method,
            "headers": headers,
        }
        if self.at_ingress:
            return simulation.Described(f"http://{INGRESS_IP}:{INGRESS_PORT}{self.path}", **at)
        if self.who == "plain-1":
            url = f"http://{SERVER_IP}:{self.port}{self.path}"
            return simulation.Described(url, is_inbound=True, **at)
        return simulation.Described(f"http://server:{self.port - 8000}{self.path}", **at)


class GuardedStage(agents.AgentStage):
    """The mesh of the plan; what asks who may."""

    def __init__(self) -> None:
        super().__init__(plan())
        self.mesh_config = self.dir / "mesh-config.yaml"
        self.mesh_config.write_text(yaml.safe_dump(MESH_CONFIG))
        self.serve_flags = ["--mesh-config", str(self.mesh_config)]
        self.keys_dir = self.dir / "keys"
        self.keys_dir.mkdir()
        self.issuer = agents.Issuer(self.keys_dir, "good", "https://good.lab")
        self._n_phases = 0
        self._mesh: offline.Mesh | None = None

    def set_up(self) -> None:
        """Start all, and what is not a pod's one workload."""
        super().set_up()
        self.run_workload("server-1", ("tcp", "9000", "9001"), "tcp")
        guard = [sys.executable, str(_AUTHORIZER), "8000", "9000"]
        self._run("guard-1-workload", self._namespaces["guard-1"], guard)
        assert self._network is not None
        ip, _, port = KEYS_AT.removeprefix("http://").rpartition(":")
        files = ["-m", "http.server", port, "--bind", ip, "--directory", str(self.keys_dir)]
        self._run("keys", self._network.node, [sys.executable, *files])
        for address in (("10.77.5.1", 8000), ("10.77.5.1", 9000), (ip, int(port))):
            is_open = functools.partial(self._is_open_at, *address)
            self.wait(is_open, f"{address} is open", 40)
        self.wait_for("server")

    @contextlib.contextmanager
    def policies(self, *objects: dict[str, Any]) -> Iterator[None]:
        """Have objects in force while the block runs, at the server and at the gateway."""
        self._n_phases += 1
        canary = f"/canary/{self._n_phases}"
        # On a TCP port a rule that denies by paths would deny all.
        deny = rule(None, {"paths": [canary], "ports": ["8080"]})
        canaries = [policy(f"canary-{app}", "DENY", deny, app=app) for app in ("server", "ingress")]
        self.write("policies.yaml", [*canaries, *objects])
        told = offline.Input((self.mesh_dir,), self.mesh_config)
        self._mesh = offline.Mesh(told)
        try:
            self._wait_canary(canary, 403)
            yield
        finally:
            self._mesh = None
            (self.mesh_dir / "policies.yaml").unlink()
            self._wait_canary(canary, 200)

    def _wait_canary(self, path: str, status: int) -> None:
        by_server = Asked("plain-1", path)
        by_gateway = dataclasses.replace(by_server, at_ingress=True)
        for asked in (by_server, by_gateway):
            is_answered = functools.partial(self._is_answered, asked, status)
            self.wait(is_answered, f"{asked} is answered with {status}")

    def _is_open_at(self, ip: str, port: int) -> bool:
        return self._namespaces["plain-1"].submit(client.can_connect, ip, port).result()

    def _is_answered(self, asked: Asked, status: int) -> bool:
        return self.reply(asked).status == status

    def reply(self, asked: Asked) -> client.Reply:
        """Make a request and return the real answer."""
        headers = dict(asked.headers)
        request = client.Request(asked.host, asked.path, headers, asked.method)
        if asked.at_ingress:
            request = dataclasses.replace(request, ip=INGRESS_IP, port=INGRESS_PORT)
        elif asked.who == "plain-1":
            request = dataclasses.replace(request, ip=SERVER_IP, port=asked.port)
        else:
            request = dataclasses.replace(request, ip="10.96.0.10", port=asked.port - 8000)
        return self.ask(request, asked.who)

    def simulated(self, asked: Asked) -> tuple[int, str]:
        """Return the status that `navarch simulate` foretells, and all that it says."""
        assert self._mesh is not None
        simulator = simulation.Simulator(self._mesh.core, self._mesh.objects)
        request = simulation.build_request(asked.described)
        server = simulator.find_node("lab/server-1", is_stock=True)
        if asked.at_ingress:
            node = simulator.find_node("lab/ingress-1", is_stock=True)
            found = simulator.run(node, request, server)
        elif asked.who == "plain-1":
            found = simulator.run(server, request)
        else:
            node = simulator.find_node(f"lab/{asked.who}", is_stock=True)
            found = simulator.run(node, request, server)
        outcome = found.answer
        while outcome.get("received"):
            outcome = outcome["received"]
        landing = outcome["landing"]
        return {"endpoints": 200}.get(landing["kind"], landing.get("status", 0)), found.text

    def simulated_path(self, path: str) -> tuple[int, str]:
        """Return the status that is foretold for a path at the server's sidecar, and the path that the server gets."""
        assert self._mesh is not None
        simulator = simulation.Simulator(self._mesh.core, self._mesh.objects)
        request = simulation.build_request(Asked("plain-1").described) | {"path": path}
        found = simulator.run(simulator.find_node("lab/server-1", is_stock=True), request)
        landing = found.answer["landing"]
        if landing["kind"] == "endpoints":
            return 200, landing["request"]["path"]
        return landing.get("status", 0), ""

    def differing(self, asked: list[Asked]) -> list[str]:
        """Return those requests of which the simulation tells another status than Envoy gives, with what it tells."""
        replies = [(each, self.reply(each).status, *self.simulated(each)) for each in asked]
        return [
            f"{each}: Envoy {real}\n{text}" for each, real, told, text in replies if real != told
        ]
