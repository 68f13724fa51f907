"""TCP services, and what is in no registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import meshes

if TYPE_CHECKING:
    from tests.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]


def test_a_tcp_service_lets_the_server_speak_first(lab: Lab) -> None:
    """A protocol in which the server greets works, through both sidecars; the rule's subset answers."""
    assert {lab.talk("ledger") for _ in range(20)} == {("ledger-1", "hello")}


def test_a_tcp_rule_moves_connections(lab: Lab) -> None:
    """A VirtualService's TCP route to another subset is followed by new connections."""
    lab.write("ledger.yaml", meshes.tcp_virtual_service("ledger", "v2"))
    lab.wait(lambda: lab.talk("ledger") == ("ledger-2", "hello"), "ledger is v2")
    assert {lab.talk("ledger") for _ in range(20)} == {("ledger-2", "hello")}
    lab.write("ledger.yaml", meshes.tcp_virtual_service("ledger", "v1"))
    lab.wait(lambda: lab.talk("ledger") == ("ledger-1", "hello"), "ledger is v1 again")


@pytest.mark.parametrize("port", [80, 8080])
def test_an_unknown_http_server_is_reached(lab: Lab, port: int) -> None:
    """By default a destination outside the mesh is let through, on a port of the mesh's and on another."""
    assert lab.get(meshes.OUTSIDE_IP, port=port).pod == "outside"


def test_an_unknown_tcp_server_is_reached(lab: Lab) -> None:
    """By default any TCP destination is let through."""
    assert lab.talk(meshes.OUTSIDE_IP, 9999) == ("outside", "hello")


def test_registry_only_shuts_the_unknown_out(lab: Lab) -> None:
    """With REGISTRY_ONLY the unknown is refused, HTTP with 502 and TCP by a closed connection; the mesh goes on."""
    lab.write("sidecar.yaml", meshes.closed_sidecar())
    lab.wait(lambda: lab.get(meshes.OUTSIDE_IP, port=80).status == 502, "HTTP is refused")
    lab.wait(lambda: lab.talk(meshes.OUTSIDE_IP, 9999) == ("", ""), "TCP is refused")
    assert lab.get(meshes.OUTSIDE_IP, port=8080).status == 0
    assert lab.get("reviews").status == 200
    assert lab.talk("ledger") == ("ledger-1", "hello")
    lab.reset()
    lab.wait(
        lambda: lab.get(meshes.OUTSIDE_IP, port=8080).status == 200, "all is let through again"
    )
