"""Routes in pieces: an Envoy that gets virtual hosts as resources of their own (VHDS)."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import meshes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

APART, WHOLE = "web-3", "web-1"
EXTRA = "extra.yaml"
"""Taken away after each test."""
N_MORE = 150


def _extra(host: str, port: int, n_more: int = 0) -> list[dict[str, Any]]:
    """Return a service of the outside on a port, and some that only make its route configuration large."""

    def entry(name: str) -> dict[str, Any]:
        ports = [{"number": port, "name": "http", "protocol": "HTTP", "targetPort": 80}]
        spec = {"hosts": [name], "ports": ports, "resolution": "STATIC"}
        endpoints = {"endpoints": [{"address": meshes.OUTSIDE_IP}]}
        return meshes.rule("ServiceEntry", name.partition(".")[0], spec | endpoints)

    return [entry(host), *(entry(f"more-{n}.example") for n in range(n_more))]


def _virtual_hosts(lab: Lab, pod: str) -> dict[str, set[str]]:
    """Return the names of an Envoy's virtual hosts by route configuration."""
    page = "/config_dump?resource=dynamic_route_configs"
    routes = json.loads(lab.ask_sidecar(pod, page).body).get("configs", [])
    routes = [route["route_config"] for route in routes]
    return {
        route["name"]: {host["name"] for host in route.get("virtual_hosts", [])} for route in routes
    }


def _counts(lab: Lab, pod: str, ending: str) -> dict[str, int]:
    """Return an Envoy's counts of updates to routes (`rds.80`) and their virtual hosts (`rds.vhds.80`)."""
    told = lab.ask_sidecar(pod, f"/stats?filter=rds.*{ending}$").body
    pairs = (line.rsplit(": ", 1) for line in told.splitlines())
    return {name.partition(";.")[2].removesuffix(f".{ending}"): int(n) for name, n in pairs}


def _updates(lab: Lab, pod: str) -> dict[str, int]:
    """Return how often an Envoy took them."""
    return _counts(lab, pod, "update_success")


@pytest.fixture(autouse=True)
def _nothing_is_rejected(lab: Lab) -> Iterator[None]:
    """See to it that no test here has the Envoy reject anything; what other tests had it reject is counted too."""

    def rejected() -> dict[str, int]:
        return {name: n for name, n in _counts(lab, APART, "update_rejected").items() if n}

    before = rejected()
    yield
    assert rejected() == before


def _n_received_bytes(lab: Lab, pod: str) -> int:
    told = lab.ask_sidecar(pod, "/stats?filter=cluster.xds-grpc.upstream_cx_rx_bytes_total").body
    return int(told.rpartition(": ")[2])


@pytest.fixture
def many(lab: Lab) -> Iterator[Lab]:
    """Give a mesh with many services on a port; afterwards none of them is left at the sidecars."""
    lab.write(EXTRA, _extra("extra.example", 80, N_MORE))
    last = "extra.example:80"
    lab.wait(lambda: f"80/{last}" in _virtual_hosts(lab, APART)["80"], "the services are there")
    lab.wait(lambda: last in _virtual_hosts(lab, WHOLE)["80"], "the services are there")
    yield lab
    lab.reset()
    lab.wait(lambda: len(_virtual_hosts(lab, APART)["80"]) < N_MORE, "the services are gone")


def test_all_virtual_hosts_come_apart(lab: Lab) -> None:
    """The Envoy that asks has the virtual hosts that another has, by names that say their route configuration."""
    whole, apart = _virtual_hosts(lab, WHOLE), _virtual_hosts(lab, APART)
    assert apart == {route: {f"{route}/{h}" for h in hosts} for route, hosts in whole.items()}
    assert {"rds.vhds.80", "rds.vhds.8000"} <= _updates(lab, APART).keys()
    assert not any("vhds" in name for name in _updates(lab, WHOLE))
    types = {each["proxy"].split("~")[2]: each["types"] for each in lab.sync_status()}
    assert types["web-3.lab"]["vhds"]["status"] == "SYNCED"
    assert "vhds" not in types["web-1.lab"]


def test_a_rule_costs_one_virtual_host(many: Lab) -> None:
    """A VirtualService that changes sends its virtual host, not the others of the port; both Envoys follow it."""
    updates = _updates(many, APART)
    before = [_n_received_bytes(many, pod) for pod in (WHOLE, APART)]
    many.write("reviews.yaml", meshes.canary(0, 100))
    many.wait(lambda: many.get("reviews", pod=WHOLE).rule == "0-100", "the new rule")
    many.wait(lambda: many.get("reviews", pod=APART).rule == "0-100", "the new rule")
    n_whole, n_apart = (
        _n_received_bytes(many, pod) - was for pod, was in zip((WHOLE, APART), before, strict=True)
    )
    assert _updates(many, APART) == updates | {"rds.vhds.80": updates["rds.vhds.80"] + 1}
    # A virtual host is a few hundred bytes, and a route configuration has more than 150 of them.
    assert 0 < n_apart < n_whole / 20


def test_services_come_and_go(many: Lab) -> None:
    """A service that is added is one virtual host more, at once in use; one that goes is gone, and all else stays."""
    updates, hosts = _updates(many, APART), _virtual_hosts(many, APART)
    added = _extra("added.example", 80)
    many.write(EXTRA, [*_extra("extra.example", 80, N_MORE), *added])
    name = "80/added.example:80"
    many.wait(lambda: name in _virtual_hosts(many, APART)["80"], "the added service")
    assert _virtual_hosts(many, APART) == hosts | {"80": hosts["80"] | {name}}
    assert _updates(many, APART) == updates | {"rds.vhds.80": updates["rds.vhds.80"] + 1}
    told = {"Host": "added.example"}
    reply = many.get(meshes.OUTSIDE_IP, headers=told, port=80, pod=APART)
    assert (reply.status, reply.pod) == (200, "outside")
    many.write(EXTRA, _extra("extra.example", 80, N_MORE))
    many.wait(lambda: _virtual_hosts(many, APART) == hosts, "the service is gone")
    assert many.get("reviews", pod=APART).rule == "90-10"


def test_a_port_comes_goes_and_comes_again(lab: Lab) -> None:
    """Of a route configuration that comes later Envoy asks for no virtual hosts, and gets them all the same."""
    name = "8085/late.example:8085"

    def has_it() -> bool:
        return name in _virtual_hosts(lab, APART).get("8085", ())

    def is_routed() -> bool:
        told = {"Host": "late.example"}
        reply = lab.get(meshes.OUTSIDE_IP, headers=told, port=8085, pod=APART)
        return reply.status == 200 and reply.pod == "outside"

    for _ in range(2):
        lab.write(EXTRA, _extra("late.example", 8085))
        lab.wait(has_it, "the new port")
        lab.wait(is_routed, "the new port's listener is in use")
        lab.write(EXTRA, [])
        # The listener drains before Envoy lets its route configuration go.
        lab.wait(lambda: "8085" not in _virtual_hosts(lab, APART), "the port is gone", 40)


def test_what_is_for_unknown_hosts_changes(lab: Lab) -> None:
    """The virtual host for all other hosts is replaced by another of the same domain, and back; nothing is rejected."""
    told = {"Host": "nobody.example"}

    def ask() -> int:
        return lab.get(meshes.OUTSIDE_IP, headers=told, port=80, pod=APART).status

    lab.wait(lambda: ask() == 200, "unknown hosts are let through")
    lab.write("sidecar.yaml", meshes.closed_sidecar())
    lab.wait(lambda: ask() == 502, "unknown hosts are refused")
    assert "80/block_all" in _virtual_hosts(lab, APART)["80"]
    (lab.mesh_dir / "sidecar.yaml").unlink()
    lab.wait(lambda: ask() == 200, "unknown hosts are let through again")


def test_a_stream_that_comes_back_gets_what_changed(lab: Lab) -> None:
    """Envoy says on its next stream which virtual hosts it has: only those come that changed meanwhile."""
    with lab.load("reviews", n_clients=1, pod=APART) as replies:
        with lab.away(signal.SIGKILL):
            lab.write("reviews.yaml", meshes.canary(20, 80))
            n_before = len(replies)
            lab.wait(lambda: len(replies) > n_before + 20, "traffic without navarch")
            updates = _updates(lab, APART)
        lab.wait(lambda: replies[-1].rule == "20-80", "the new rule", seconds=40)
    assert {reply.status for reply in replies} == {200}
    assert {name for name, n in _updates(lab, APART).items() if n != updates[name]} == {
        "rds.vhds.80"
    }
    lab.wait(lambda: len(lab.sync_status()) == len(meshes.PODS), "all are back", seconds=40)
