"""Listeners that a Sidecar asks for: outward on addresses of its own, without redirection, and inward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import client, meshes, network
from tests.lab.planned import Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

HERE = "127.0.0.1"
SERVER = "10.77.2.1"


def sidecar(app: str, **fields: Any) -> dict[str, Any]:
    """Return the Sidecar of an app."""
    return meshes.rule("Sidecar", app, {"workloadSelector": {"labels": {"app": app}}, **fields})


def outward(number: int, protocol: str, host: str) -> dict[str, Any]:
    """Return an egress listener on the pod's own address."""
    port = {"number": number, "name": protocol.lower(), "protocol": protocol}
    hosts = [f"./{host}.lab.svc.cluster.local"]
    return {"port": port, "bind": HERE, "captureMode": "NONE", "hosts": hosts}


def plan() -> Plan:
    """Return the mesh: a client whose traffic nobody redirects, and a server behind an ingress listener."""
    http, tcp = meshes.Port("http", 7001, 9080), meshes.Port("tcp", 9000, 9000)
    inward = {
        "port": {"number": 9080, "name": "http", "protocol": "HTTP"},
        "defaultEndpoint": f"{HERE}:8080",
    }
    return Plan(
        pods=(
            meshes.Pod("web-1", "10.77.1.1", "web", workload=(), has_redirection=False),
            meshes.Pod("server-1", SERVER, "server"),
            meshes.Pod("ledger-1", "10.77.3.1", "ledger", proxy="", workload=("tcp", "9000")),
        ),
        services=(
            meshes.Service("server", "10.96.0.10", http),
            # The same port, but not among what the listener shows.
            meshes.Service("hidden", "10.96.0.20", http, "server"),
            meshes.Service("ledger", "10.96.0.30", tcp),
        ),
        rules={
            "server": meshes.plain("server", "outward"),
            "sidecars": [
                sidecar(
                    "web",
                    egress=[outward(7001, "HTTP", "server"), outward(9000, "TCP", "ledger")],
                    outboundTrafficPolicy={"mode": "REGISTRY_ONLY"},
                ),
                sidecar("server", ingress=[inward], egress=[{"hosts": ["./*"]}]),
            ],
        },
    )


@pytest.fixture(scope="module")
def stage() -> Iterator[PlannedStage]:
    """Start the mesh, once."""
    network.require()
    with PlannedStage(plan()) as made:
        made.wait(lambda: ask(made, "server").status == 200, "the listener answers", 40)
        yield made


def ask(stage: PlannedStage, host: str) -> client.Reply:
    """Ask the sidecar's own listener."""
    return stage.ask(client.Request(f"{host}:7001", ip=HERE, port=7001))


def test_an_http_listener_of_its_own(stage: PlannedStage) -> None:
    """The application asks the listener on its own address; rules are followed from there."""
    reply = ask(stage, "server")
    assert (reply.status, reply.rule, reply.pod) == (200, "outward", "server-1")


def test_a_listener_shows_only_its_hosts(stage: PlannedStage) -> None:
    """A service of that port which the listener does not name is refused."""
    assert ask(stage, "hidden").status == 502


def test_a_tcp_listener_of_its_own(stage: PlannedStage) -> None:
    """A TCP listener leads to the one service that it names."""
    assert stage.talk(HERE, 9000) == ("ledger-1", "hello")


def test_an_inward_listener_has_its_own_endpoint(stage: PlannedStage) -> None:
    """What comes to the ingress listener's port is taken to its endpoint, where the application listens."""
    reply = stage.ask(client.Request("server", ip=SERVER, port=9080), pod="ledger-1")
    assert (reply.status, reply.pod, reply.told["port"]) == (200, "server-1", 8080)


def test_no_proxy_refuses_anything(stage: PlannedStage) -> None:
    """Whatever the rules above ask for, Envoy takes."""
    assert stage.n_refused() == 0
