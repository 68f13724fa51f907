"""Sidecars with identity: agents and their Envoys against navarch's authenticated port."""

from __future__ import annotations

import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import agents, client, meshes, network
from tests.lab.planned import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(240)]

SERVER_IP = "10.77.2.1"
TRUST = f"spiffe://cluster.local/ns/{meshes.NAMESPACE}/sa"
# Short enough that each test sees certificates change.
LIFE_SECONDS = 8


def peer_authentication(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a PeerAuthentication of the lab's namespace."""
    made = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication"}
    return [made | {"metadata": {"name": "lab", "namespace": meshes.NAMESPACE}, "spec": spec}]


def plan() -> Plan:
    """Return a client and a server with agents, and a pod that has none."""
    http = meshes.Port("http", 80, 8080)
    return Plan(
        pods=(
            meshes.Pod(
                "web-1",
                "10.77.1.1",
                "web",
                account="web",
                has_agent=True,
                has_virtual_hosts_apart=True,
            ),
            meshes.Pod(
                "server-1",
                SERVER_IP,
                "server",
                workload=("http", "8080", "8081"),
                account="server",
                has_agent=True,
            ),
            meshes.Pod("plain-1", "10.77.3.1", "plain", proxy="", has_redirection=False),
        ),
        services=(
            meshes.Service(
                "server", "10.96.0.10", http, more_ports=(meshes.Port("http-more", 81, 8081),)
            ),
        ),
        rules={},
    )


@pytest.fixture(scope="module")
def stage() -> Iterator[agents.AgentStage]:
    """Start the mesh, once."""
    network.require()
    with agents.AgentStage(plan(), {"SECRET_TTL": f"{LIFE_SECONDS}s"}) as made:
        made.wait_for("server")
        yield made


def ask_plain(stage: agents.AgentStage, port: int = 8080) -> client.Reply:
    """Ask the server without TLS, from a pod that has no sidecar."""
    return stage.ask(client.Request("", ip=SERVER_IP, port=port), "plain-1")


def test_mutual_tls_comes_by_itself(stage: agents.AgentStage) -> None:
    """Nobody asked for it: the server's sidecar sees the client's name in a certificate that it has verified."""
    reply = stage.get("server")
    assert reply.status == 200
    shown = reply.told["headers"]["x-forwarded-client-cert"]
    assert f"URI={TRUST}/web" in shown
    assert f"By={TRUST}/server" in shown


def test_routes_in_pieces_come_through_the_agent(stage: agents.AgentStage) -> None:
    """Who asks for them in the proxy's configuration gets virtual hosts as resources of their own; others do not."""
    assert stage.get("server").status == 200
    types = {each["proxy"].split("~")[2]: each["types"] for each in stage.sync_status()}
    assert types[f"web-1.{meshes.NAMESPACE}"]["vhds"]["status"] == "SYNCED"
    assert "vhds" not in types[f"server-1.{meshes.NAMESPACE}"]


def test_permissive_takes_both(stage: agents.AgentStage) -> None:
    """Without a rule a pod outside the mesh is served in plaintext, and has no name."""
    reply = ask_plain(stage)
    assert reply.status == 200
    assert "x-forwarded-client-cert" not in reply.told["headers"]


def test_strict_refuses_plaintext_except_where_a_port_allows_it(stage: agents.AgentStage) -> None:
    """STRICT shuts out who has no certificate; a port may be excepted."""
    spec = {
        "selector": {"matchLabels": {"app": "server"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"8081": {"mode": "PERMISSIVE"}},
    }
    stage.write("strict.yaml", peer_authentication(spec))
    stage.wait(lambda: ask_plain(stage).status == 0, "plaintext is refused")
    assert ask_plain(stage, 8081).status == 200
    assert stage.get("server").status == 200
    (stage.mesh_dir / "strict.yaml").unlink()
    stage.wait(lambda: ask_plain(stage).status == 200, "plaintext is taken again")


def test_certificates_change_under_load_without_a_lost_request(stage: agents.AgentStage) -> None:
    """While certificates of seconds are renewed on both sides, every request is answered."""
    before = {pod: stage.serial(pod) for pod in ("web-1", "server-1")}
    replies: list[client.Reply] = []
    until = time.monotonic() + 2 * LIFE_SECONDS
    while time.monotonic() < until:
        replies += stage.get_many("server", 20)
    assert [reply.body for reply in replies if reply.status != 200] == []
    assert all(stage.serial(pod) != serial for pod, serial in before.items())


def test_without_the_authority_the_old_certificate_goes_on(stage: agents.AgentStage) -> None:
    """navarch is killed for longer than half a life; traffic flows, and renewal goes on when it is back."""
    stage.wait_renewed("web-1", stage.serial("web-1"))
    with stage.away(signal.SIGKILL):
        down = time.monotonic()
        while time.monotonic() - down < LIFE_SECONDS * 0.25:
            assert stage.get("server").status == 200
        stage.wait(lambda: time.monotonic() - down > LIFE_SECONDS * 0.6, "half a life is over")
    serial = stage.serial("web-1")
    stage.wait_renewed("web-1", serial)
    stage.wait(lambda: stage.get("server").status == 200, "the server answers")


def ask_dns(address: tuple[str, int], name: str) -> list[str]:
    """Ask for the IPv4 addresses of a name."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.sendto(question, address)
        answer = peer.recv(4096)
    n_answers = struct.unpack_from("!H", answer, 6)[0]
    # Each address is the end of a record of sixteen bytes, which all have the same name.
    records = [answer[len(answer) - 16 * (i + 1) :][:16] for i in range(n_answers)]
    return [socket.inet_ntoa(record[-4:]) for record in records]


def test_dns_is_answered_from_the_name_table(stage: agents.AgentStage) -> None:
    """Hosts of the mesh are known by every name that Kubernetes gives them."""
    namespace = stage._namespaces["web-1"]
    for name in (
        "server",
        f"server.{meshes.NAMESPACE}",
        f"server.{meshes.NAMESPACE}.svc.cluster.local",
    ):
        found = namespace.submit(ask_dns, ("127.0.0.1", agents.DNS_PORT), name).result()
        assert found == ["10.96.0.10"], name


def test_metrics_are_merged(stage: agents.AgentStage) -> None:
    """One scrape holds Envoy's metrics, the agent's, and what the application says."""
    text = stage.ask_agent("web-1", "/stats/prometheus").body
    assert "envoy_server_state" in text
    assert "istio_agent_outgoing_requests_total" in text
    assert '"pod": "web-1"' in text


def test_no_key_is_written_or_told(stage: agents.AgentStage) -> None:
    """Neither the proxy's files nor the logs hold a key or a token."""
    token = (stage.dir / "web-1" / "token").read_text()
    home = stage.dir / "web-1"
    texts = [
        path.read_text(errors="replace")
        for path in home.rglob("*")
        if path.is_file() and path.name != "token"
    ]
    texts.append(stage.log("web-1"))
    assert [text for text in texts if "PRIVATE KEY" in text or token in text] == []


def test_a_pod_leaves_without_a_lost_request(stage: agents.AgentStage) -> None:
    """A request that is under way when SIGTERM comes is answered; the agent ends with Envoy's code."""
    slow = stage.submit(client.Request("server", headers={"x-sleep": "2"}))
    stage.wait(
        lambda: stage.stat("server-1", "http.inbound_0.0.0.0_8080;.downstream_rq_active") >= 0,
        "asked",
    )
    time.sleep(0.5)
    assert stage.stop_agent("server-1") == 0
    assert slow.result().status == 200
    assert stage.ask_agent("server-1", "/healthz/ready", agents.READY_PORT).status == 0


def test_told_to_end_twice_an_agent_gives_no_more_time(stage: agents.AgentStage) -> None:
    """It does not hang while Envoy drains, and ends with Envoy's code, not by force."""
    agent = stage.tell_agent_to_end("web-1")
    stage.wait(lambda: "Envoy drains for" in stage.log("web-1"), "it drains")
    assert agent.stop() == 0
    assert "connections get no more time" in stage.log("web-1")
