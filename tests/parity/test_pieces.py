"""Routes in pieces are the routes that are whole, for every proxy of every case; the whole ones are held to Istio's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from navarch import offline

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = Path(__file__).parent / "cases"

pytestmark = [pytest.mark.extension, pytest.mark.timeout(300)]


def _by_name(texts: list[str]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in map(json.loads, texts)}


def _translations() -> Iterator[tuple[str, dict[str, list[str]], dict[str, list[str]]]]:
    """Yield for each proxy its name, its resources, and those it gets when it asks for virtual hosts apart."""
    for case in sorted(path.parent for path in CASES.glob("*/input.yaml")):
        settings = case / "mesh.yaml"
        given = offline.Input((case / "input.yaml",), settings if settings.exists() else None)
        mesh = offline.Mesh(given)
        for proxy in offline.read_proxies(case / "proxies.yaml"):
            node = proxy["node"]
            metadata = node.get("metadata", {}) | {"NAVARCH_VHDS": "true"}
            yield (
                f"{case.name}/{proxy['name']}",
                mesh.translate(node),
                mesh.translate(node | {"metadata": metadata}),
            )


def _put_together(frame: dict[str, Any], hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a route configuration in pieces as a whole one, its virtual hosts by name."""
    assert frame.pop("vhds")["config_source"]["ads"] == {}
    name = frame["name"]
    own = {key.rpartition("/")[2]: host for key, host in hosts.items() if _route_of(key) == name}
    return frame | {"virtual_hosts": {short: host | {"name": short} for short, host in own.items()}}


def _route_of(virtual_host: str) -> str:
    return virtual_host.rpartition("/")[0]


def test_pieces_put_together_are_the_whole() -> None:
    """Frames with their virtual hosts are the route configurations; all other resources are the same."""
    n_compared = 0
    for what, whole, apart in _translations():
        assert "virtual_hosts" not in whole, what
        hosts = _by_name(apart.pop("virtual_hosts", []))
        routes, frames = _by_name(whole.pop("routes")), _by_name(apart.pop("routes"))
        assert apart == whole, what
        assert frames.keys() == routes.keys() == {_route_of(name) for name in hosts}, what
        for name, route in routes.items():
            told = route.pop("virtual_hosts", [])
            made = _put_together(frames[name], hosts)
            if not told:
                # Envoy waits for a virtual host, so there is one that no request is for.
                assert made["virtual_hosts"].keys() == {"none"}, what
                continue
            assert made == route | {"virtual_hosts": {host["name"]: host for host in told}}, what
            n_compared += len(told)
    assert n_compared > 500
