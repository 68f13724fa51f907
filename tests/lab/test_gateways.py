"""What comes in from outside through gateways of Istio's API: HTTP, HTTPS, TLS by SNI, TCP."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import client, meshes, network
from tests.lab.planned import Authority, Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

INGRESS = "10.77.1.2"
SELECTED = {"app": "ingress"}
VAULTS = ("vault-a", "vault-b")
SHOPS = ("blue", "green")


def server(name: str, number: int, protocol: str, hosts: list[str], **tls: Any) -> dict[str, Any]:
    """Return a server of a Gateway."""
    port = {"name": name, "number": number, "protocol": protocol}
    return {"port": port, "hosts": hosts} | ({"tls": tls} if tls else {})


def gateway(authority: Authority) -> list[dict[str, Any]]:
    """Return a Gateway with a server of each kind."""
    servers = [
        server("http", 80, "HTTP", ["shop.lab", "*.wild.lab"]),
        server("http-moved", 80, "HTTP", ["moved.lab"], httpsRedirect=True),
        *(
            server(
                f"https-{color}",
                443,
                "HTTPS",
                [f"{color}.lab"],
                mode="SIMPLE",
                serverCertificate=certificate,
                privateKey=key,
            )
            for color in SHOPS
            for certificate, key, _ in [authority.issue(f"{color}.lab")]
        ),
        mutual(authority),
        server("tls", 15443, "TLS", [f"{vault}.lab" for vault in VAULTS], mode="PASSTHROUGH"),
        server("tcp", 9000, "TCP", ["*"]),
    ]
    return [meshes.rule("Gateway", "ingress", {"selector": SELECTED, "servers": servers})]


def mutual(authority: Authority) -> dict[str, Any]:
    """Return a server that wants to know its clients."""
    certificate, key, _ = authority.issue("known.lab")
    files = {"serverCertificate": certificate, "privateKey": key}
    files["caCertificates"] = authority.ca_file
    return server("https-known", 443, "HTTPS", ["known.lab"], mode="MUTUAL", **files)


def bound(name: str, hosts: list[str], **rules: Any) -> dict[str, Any]:
    """Return a VirtualService of the gateway."""
    return meshes.rule("VirtualService", name, {"hosts": hosts, "gateways": ["ingress"], **rules})


def to(host: str, number: int) -> list[dict[str, Any]]:
    """Return a route to one service."""
    return [{"destination": {"host": host, "port": {"number": number}}}]


def bound_rules() -> list[dict[str, Any]]:
    """Return what the gateway does with each host."""
    by_sni = [
        {"match": [{"port": 15443, "sniHosts": [f"{vault}.lab"]}], "route": to(vault, 443)}
        for vault in VAULTS
    ]
    return [
        bound("shop", ["shop.lab"], http=[{"route": to("blue", 80)}]),
        bound("wild", ["*.wild.lab"], http=[{"route": to("green", 80)}]),
        *(bound(color, [f"{color}.lab"], http=[{"route": to(color, 80)}]) for color in SHOPS),
        bound("known", ["known.lab"], http=[{"route": to("blue", 80)}]),
        bound("vaults", [f"{vault}.lab" for vault in VAULTS], tls=by_sni),
        bound(
            "ledger",
            ["*"],
            tcp=[{"match": [{"port": 9000}], "route": to("ledger", 9000)}],
        ),
    ]


def plan(authority: Authority) -> Plan:
    """Return the mesh: a gateway, and servers that have no sidecars."""
    bare = functools.partial(meshes.Pod, proxy="")
    router = functools.partial(meshes.Pod, proxy="router", workload=())
    ports = (
        meshes.Port("http", 80, 8080),
        meshes.Port("https", 443, 8443),
        meshes.Port("tls", 15443, 15443),
        meshes.Port("tcp", 9000, 9000),
    )
    vaults = [
        bare(vault, f"10.77.3.{n}", vault, workload=("https", both, "8443"))
        for n, vault in enumerate(VAULTS, 1)
        for *_, both in [authority.issue(f"{vault}.lab")]
    ]
    return Plan(
        pods=(
            bare("web-1", "10.77.1.1", "web", workload=()),
            router("ingress-1", INGRESS, "ingress"),
            bare("blue", "10.77.2.1", "blue"),
            bare("green", "10.77.2.2", "green"),
            bare("ledger-1", "10.77.4.1", "ledger", workload=("tcp", "9000")),
            *vaults,
        ),
        services=(
            meshes.Service("ingress", "10.96.0.10", ports[0], more_ports=ports[1:]),
            meshes.Service("blue", "10.96.0.30", meshes.HTTP),
            meshes.Service("green", "10.96.0.40", meshes.HTTP),
            meshes.Service("ledger", "10.96.0.50", ports[3]),
            *(meshes.Service(v, f"10.96.1.{n}", ports[1]) for n, v in enumerate(VAULTS, 1)),
        ),
        rules={
            "gateway": gateway(authority),
            "bound": bound_rules(),
        },
    )


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    """Make the authority of all certificates."""
    with Authority.made() as made:
        yield made


@pytest.fixture(scope="module")
def stage(authority: Authority) -> Iterator[PlannedStage]:
    """Start the mesh, once."""
    network.require()
    with PlannedStage(plan(authority)) as made:
        made.wait(lambda: made.ask(at_ingress("shop.lab")).status == 200, "the ingress answers")
        yield made


def at_ingress(host: str, path: str = "/") -> client.Request:
    """Return a request to the gateway by HTTP."""
    return client.Request(host, path, ip=INGRESS, port=8080)


def by_tls(host: str, port: int, authority: Authority, sni: str = "") -> client.Request:
    """Return a request to the gateway by TLS."""
    tls = client.Tls(sni or host, authority.ca_file)
    return client.Request(host, ip=INGRESS, port=port, tls=tls)


@pytest.mark.parametrize(
    ("host", "pod"), [("shop.lab", "blue"), ("a.wild.lab", "green"), ("b.c.wild.lab", "green")]
)
def test_a_gateway_routes_by_host(stage: PlannedStage, host: str, pod: str) -> None:
    """Each host goes where its rule says."""
    reply = stage.ask(at_ingress(host))
    assert (reply.status, reply.pod) == (200, pod)


@pytest.mark.parametrize("host", ["unknown.lab", "wild.lab", "blue.lab"])
def test_a_gateway_knows_no_other_host(stage: PlannedStage, host: str) -> None:
    """A host of no server on that port is not found."""
    assert stage.ask(at_ingress(host)).status == 404


def test_a_gateway_sends_to_https(stage: PlannedStage) -> None:
    """A server that redirects to HTTPS answers so, and asks nobody."""
    reply = stage.ask(at_ingress("moved.lab", "/page?a=b"))
    assert (reply.status, reply.headers["location"]) == (301, "https://moved.lab/page?a=b")


@pytest.mark.parametrize("color", SHOPS)
def test_a_gateway_ends_tls(stage: PlannedStage, authority: Authority, color: str) -> None:
    """The gateway shows the certificate of the host that SNI names, and speaks plain HTTP to the server."""
    reply = stage.ask(by_tls(f"{color}.lab", 8443, authority))
    assert (reply.status, reply.pod, reply.told["is_tls"]) == (200, color, False)
    assert reply.told["headers"]["x-forwarded-proto"] == "https"


def test_a_gateway_has_no_certificate_for_others(stage: PlannedStage, authority: Authority) -> None:
    """A name that no server has ends the connection; a host of another server is not found."""
    assert stage.ask(by_tls("unknown.lab", 8443, authority)).status == 0
    # Each server of HTTPS has its own hosts: who came in as one does not get another.
    assert stage.ask(by_tls("green.lab", 8443, authority, sni="blue.lab")).status == 404


def test_a_gateway_knows_its_clients(stage: PlannedStage, authority: Authority) -> None:
    """With MUTUAL only who shows a certificate of the authority comes in."""
    *_, own_file = authority.issue("client.lab")
    with Authority.made() as stranger:
        *_, strange_file = stranger.issue("client.lab")
        statuses = [
            stage.ask(
                client.Request(
                    "known.lab",
                    ip=INGRESS,
                    port=8443,
                    tls=client.Tls("known.lab", authority.ca_file, file),
                )
            ).status
            for file in (own_file, strange_file, "")
        ]
    assert statuses == [200, 0, 0]


@pytest.mark.parametrize("vault", VAULTS)
def test_sni_passes_through(stage: PlannedStage, authority: Authority, vault: str) -> None:
    """With PASSTHROUGH the TLS of the client ends at the server that SNI names, not at the gateway."""
    reply = stage.ask(by_tls(f"{vault}.lab", 15443, authority))
    assert (reply.status, reply.pod, reply.told["is_tls"]) == (200, vault, True)


def test_unknown_sni_does_not_pass(stage: PlannedStage, authority: Authority) -> None:
    """A name that no rule has goes nowhere."""
    assert stage.ask(by_tls("blue.lab", 15443, authority)).status == 0


def test_tcp_passes(stage: PlannedStage) -> None:
    """A TCP server of a gateway leads to the service of its rule, which speaks first."""
    assert set(stage.talk_many(INGRESS, 9000, 10)) == {("ledger-1", "hello")}


def test_no_proxy_refuses_anything(stage: PlannedStage) -> None:
    """Whatever the rules above ask for, Envoy takes."""
    assert stage.n_refused() == 0
