"""What lies outside the mesh: ServiceEntries by address and by name, TLS begun by the sidecar, an egress gateway."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import client, meshes, network
from tests.lab.planned import Authority, Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

WEB = "10.77.1.1"
EGRESS = "10.77.1.2"
FIRST, SECOND = "10.77.9.1", "10.77.9.2"
SECURE, DNS = "10.77.9.3", "10.77.9.4"
# Nothing is there: who answers has been found by the mesh.
NOWHERE = "10.77.200.1"
TCP_ADDRESS = "10.77.200.2"
NAMES = {"named.out": FIRST, "real.out": SECOND, "api.out": SECOND}


def entry(name: str, resolution: str, **fields: Any) -> dict[str, Any]:
    """Return a ServiceEntry; its port is HTTP's unless told otherwise."""
    http = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    spec = {"hosts": [f"{name}.out"], "location": "MESH_EXTERNAL", "resolution": resolution}
    return meshes.rule("ServiceEntry", name, spec | {"ports": http} | fields)


def entries() -> list[dict[str, Any]]:
    """Return entries of each resolution."""
    tcp = [{"number": 9000, "name": "tcp", "protocol": "TCP"}]
    tls = [{"number": 443, "name": "tls", "protocol": "TLS", "targetPort": 8443}]
    wild = {"hosts": ["*.wild.out"]}
    return [
        entry("static", "STATIC", endpoints=[{"address": FIRST}, {"address": SECOND}]),
        entry("moved", "STATIC", endpoints=[{"address": FIRST, "ports": {"http": 8080}}]),
        entry("named", "DNS"),
        entry("alias", "DNS", endpoints=[{"address": "real.out", "ports": {"http": 8080}}]),
        entry("ring", "DNS_ROUND_ROBIN", endpoints=[{"address": "real.out"}]),
        entry("lost", "DNS", endpoints=[{"address": "nobody.out"}]),
        entry("sealed", "STATIC", ports=tls, endpoints=[{"address": SECURE}]),
        entry("wild", "NONE", **wild),
        entry("tcp", "STATIC", addresses=[TCP_ADDRESS], ports=tcp, endpoints=[{"address": FIRST}]),
    ]


def encrypted(name: str, ca_file: str, **tls: Any) -> list[dict[str, Any]]:
    """Return an entry that is asked by HTTP, and asks by TLS."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8443}]
    settings = {"mode": "SIMPLE", "caCertificates": ca_file, "sni": "secure.out", **tls}
    policy = {"host": f"{name}.out", "trafficPolicy": {"tls": settings}}
    return [
        entry(name, "STATIC", ports=ports, endpoints=[{"address": SECURE}]),
        meshes.rule("DestinationRule", name, policy),
    ]


def through_egress() -> list[dict[str, Any]]:
    """Return what sends all for `api.out` through the egress gateway."""
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    gateway = {"selector": {"app": "egress"}, "servers": [{"port": port, "hosts": ["api.out"]}]}

    def leg(gateway: str, host: str) -> dict[str, Any]:
        route = [{"destination": {"host": host, "port": {"number": 80}}}]
        headers = {"request": {"add": {"x-leg": gateway}}}
        return {
            "match": [{"gateways": [gateway], "port": 80}],
            "route": route,
            "headers": headers,
        }

    rule = {
        "hosts": ["api.out"],
        "gateways": ["mesh", "egress"],
        "http": [leg("mesh", "egress.lab.svc.cluster.local"), leg("egress", "api.out")],
    }
    return [
        entry("api", "DNS"),
        meshes.rule("Gateway", "egress", gateway),
        meshes.rule("VirtualService", "api", rule),
    ]


def plan(authority: Authority, stranger: Authority) -> Plan:
    """Return the mesh: a sidecar that may reach only what is known, an egress gateway, and two servers outside."""
    *_, both = authority.issue("secure.out", "sealed.out")
    bare = functools.partial(meshes.Pod, app="", proxy="", workload=("http", "80", "8080"))
    table = tuple(f"{name}={ip}" for name, ip in NAMES.items())
    closed = {
        "workloadSelector": {"labels": {"app": "web"}},
        "egress": [{"hosts": ["*/*"]}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    }
    return Plan(
        pods=(
            meshes.Pod("web-1", WEB, "web", workload=(), nameserver=DNS),
            meshes.Pod("egress-1", EGRESS, "egress", workload=(), proxy="router", nameserver=DNS),
        ),
        services=(meshes.Service("egress", "10.96.0.10", meshes.HTTP),),
        rules={
            "entries": entries(),
            "secure": encrypted("secure", authority.ca_file),
            "untrusted": encrypted("untrusted", stranger.ca_file),
            "misnamed": encrypted("misnamed", authority.ca_file, subjectAltNames=["another.out"]),
            "egress": through_egress(),
            "sidecar": [meshes.rule("Sidecar", "web", closed)],
        },
        outside=(
            bare("dns", DNS, workload=("dns", "53", *table)),
            bare("first", FIRST),
            bare("second", SECOND),
            bare("secure", SECURE, workload=("https", both, "8443")),
        ),
    )


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    """Make the authority that is trusted."""
    with Authority.made() as made:
        yield made


@pytest.fixture(scope="module")
def stage(authority: Authority) -> Iterator[PlannedStage]:
    """Start the mesh, once."""
    network.require()
    with (
        Authority.made() as stranger,
        PlannedStage(plan(authority, stranger)) as made,
    ):
        made.run_workload("first", ("tcp", "9000"), "tcp")
        made.wait(lambda: made.talk(FIRST, 9000, "second")[0] == "first", "TCP is served")
        for host in ("static.out", "named.out", "alias.out", "api.out", "secure.out"):
            made.wait(functools.partial(is_answering, made, host), f"{host} answers", 40)
        yield made


def ask(stage: PlannedStage, host: str, ip: str = NOWHERE) -> client.Reply:
    """Make a request to a host from the pod with the sidecar."""
    return stage.ask(client.Request(host, ip=ip, port=80))


def is_answering(stage: PlannedStage, host: str) -> bool:
    """Whether a host answers."""
    return ask(stage, host).status == 200


def test_an_unknown_host_is_refused(stage: PlannedStage) -> None:
    """With REGISTRY_ONLY a host that no entry names is not reached, though the machine is there."""
    assert ask(stage, "unknown.out", FIRST).status == 502


def test_a_static_entry_has_its_addresses(stage: PlannedStage) -> None:
    """STATIC: the entry's endpoints answer, wherever the client meant to connect."""
    replies = [ask(stage, "static.out") for _ in range(30)]
    assert {(reply.status, reply.pod) for reply in replies} == {(200, "first"), (200, "second")}
    assert {reply.told["peer"] for reply in replies} == {WEB}


def test_an_endpoint_has_its_own_port(stage: PlannedStage) -> None:
    """STATIC: an endpoint may listen elsewhere than the entry's port says."""
    assert ask(stage, "moved.out").told["port"] == 8080


def test_a_name_is_looked_up(stage: PlannedStage) -> None:
    """DNS: the host of the entry is asked of the name server."""
    assert {ask(stage, "named.out").pod for _ in range(5)} == {"first"}


def test_an_endpoint_may_be_a_name(stage: PlannedStage) -> None:
    """DNS: an endpoint's name is asked instead of the host, and its port used; the server still sees the host."""
    told = ask(stage, "alias.out").told
    assert (told["pod"], told["port"]) == ("second", 8080)
    assert told["headers"]["host"] == "alias.out"


def test_a_name_is_looked_up_for_a_ring(stage: PlannedStage) -> None:
    """DNS_ROUND_ROBIN: one endpoint, by its name."""
    assert {ask(stage, "ring.out").pod for _ in range(5)} == {"second"}


def test_a_name_that_is_not_there_has_no_server(stage: PlannedStage) -> None:
    """DNS: a name without an address answers 503; the other entries go on."""
    assert ask(stage, "lost.out").status == 503
    assert ask(stage, "named.out").status == 200


def test_an_entry_without_resolution_keeps_the_address(stage: PlannedStage) -> None:
    """NONE: a host under the wildcard is reached where the client connects."""
    assert ask(stage, "a.wild.out", FIRST).pod == "first"
    assert ask(stage, "b.wild.out", SECOND).pod == "second"


def test_a_tcp_entry_is_found_by_its_address(stage: PlannedStage) -> None:
    """STATIC with an address: TCP to that address comes to the endpoint; others on the port are refused."""
    assert set(stage.talk_many(TCP_ADDRESS, 9000, 5)) == {("first", "hello")}
    assert stage.talk(FIRST, 9000) == ("", "")


def test_the_sidecar_begins_tls(stage: PlannedStage) -> None:
    """SIMPLE: the application speaks plain HTTP, the server gets TLS with the rule's SNI."""
    told = ask(stage, "secure.out").told
    assert (told["pod"], told["is_tls"], told["server_name"]) == ("secure", True, "secure.out")


def test_the_name_in_tls_chooses_the_entry(stage: PlannedStage, authority: Authority) -> None:
    """TLS of the application's own comes to the entry that SNI names, and ends there; other names are refused."""
    replies = [
        stage.ask(
            client.Request(
                "sealed.out", ip=NOWHERE, port=443, tls=client.Tls(name, authority.ca_file)
            )
        )
        for name in ("sealed.out", "unknown.out")
    ]
    assert [reply.status for reply in replies] == [200, 0]
    assert (replies[0].pod, replies[0].told["server_name"]) == ("secure", "sealed.out")


@pytest.mark.parametrize(
    ("host", "why"), [("untrusted", "fail_verify_error"), ("misnamed", "fail_verify_san")]
)
def test_the_sidecar_verifies_the_server(stage: PlannedStage, host: str, why: str) -> None:
    """SIMPLE: a certificate of another authority, or of another name, is refused."""
    n_before = stage.stat("web-1", rf"cluster\..*{host}.*\.ssl\.{why}")
    assert ask(stage, f"{host}.out").status == 503
    assert stage.stat("web-1", rf"cluster\..*{host}.*\.ssl\.{why}") > n_before


def test_an_egress_gateway_stands_between(stage: PlannedStage) -> None:
    """The server sees the gateway's address; both legs' rules have been followed."""
    told = ask(stage, "api.out").told
    assert (told["pod"], told["peer"]) == ("second", EGRESS)
    assert told["headers"]["x-leg"] == "mesh,egress"
    assert told["headers"]["host"] == "api.out"


def test_no_proxy_refuses_anything(stage: PlannedStage) -> None:
    """Whatever the rules above ask for, Envoy takes."""
    assert stage.n_refused() == 0
