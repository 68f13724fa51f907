"""A served mesh whose every resource a test can make, change and remove by a letter.

Service `x` has an HTTP port of its own and a TCP port: two clusters, two load assignments, one listener of its TCP port
(and one for all of its HTTP port), one route configuration.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from navarch import core, records

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE: Final = "shop"
TCP_PORT: Final = 9000
NODE: Final[dict[str, Any]] = {
    "id": f"sidecar~10.1.0.1~web-1.{NAMESPACE}~{NAMESPACE}.svc.cluster.local",
    "cluster": f"web.{NAMESPACE}",
    "metadata": {
        "NAMESPACE": NAMESPACE,
        "INSTANCE_IPS": "10.1.0.1",
        "CLUSTER_ID": "Kubernetes",
        "LABELS": {"app": "web"},
    },
}


def host(letter: str) -> str:
    """Return a service's full host name."""
    return f"{letter}.{NAMESPACE}.svc.cluster.local"


def cluster_ip(letter: str) -> str:
    """Return a service's address."""
    return f"10.96.{ord(letter) >> 8}.{ord(letter) & 255}"


def http_port(letter: str) -> int:
    """Return the port of a service's HTTP."""
    return 8000 + ord(letter)


def name(xds: str, letter: str) -> str:
    """Return the resource of a type that a service has."""
    return {
        "CDS": f"outbound|{TCP_PORT}||{host(letter)}",
        "EDS": f"outbound|{TCP_PORT}||{host(letter)}",
        "LDS": f"{cluster_ip(letter)}_{TCP_PORT}",
        "RDS": str(http_port(letter)),
    }[xds]


class Mesh:
    """A core that serves.

    Attributes:
        core: It.
        address: Where it serves.
    """

    def __init__(self, letters: str = "") -> None:
        self.core = core.Core()
        self._rules: dict[str, dict[str, Any]] = {}
        self.add(*letters)
        self.address = self.core.serve("127.0.0.1:0")

    def close(self) -> None:
        """Stop serving."""
        self.core.drain(0.0)

    def add(self, *letters: str) -> None:
        """Add services, each with one endpoint, in one batch."""
        self.core.apply([c for letter in letters for c in _service(letter)])

    def remove(self, *letters: str) -> None:
        """Remove services and all that changes made of them, in one batch."""
        kinds = ("Service", "EndpointSlice", "DestinationRule", "VirtualService")
        self.core.apply([_change(kind, letter, None) for letter in letters for kind in kinds])

    def change(self, xds: str, letter: str, turn: int) -> None:
        """Change the resource of that type that a service has, and no other of the type; each turn differs."""
        if xds in _RULES:
            # One VirtualService carries both, so that the one change leaves the other.
            rules = self._rules.setdefault(letter, {"hosts": [host(letter)]})
            rules.update(_RULES[xds](letter, turn))
            change = _object("VirtualService", letter, "networking.istio.io/v1", spec=rules)
        else:
            change = _CHANGES[xds](letter, turn)
        self.core.apply([change])

    def apply(self, kind: str, name_: str, payload: Mapping[str, Any] | None) -> None:
        """Make or replace an object, or remove it."""
        self.core.apply([_change(kind, name_, payload)])

    def metric(self, line: str) -> float:
        """Return the value of a metric by its name and labels as they are written."""
        values = dict(row.rsplit(" ", 1) for row in self.core.metrics().splitlines() if " " in row)
        return float(values.get(line, 0))

    def n_connected(self) -> int:
        """Return how many streams are open."""
        return len(json.loads(self.core.sync_status()))


def _change(kind: str, name_: str, payload: Mapping[str, Any] | None) -> records.Change:
    key = records.SourceKey(kind, NAMESPACE, name_)
    return records.Change(key, None if payload is None else json.dumps(payload).encode())


def _object(kind: str, letter: str, group: str = "v1", **rest: Any) -> records.Change:
    metadata = {"name": letter, "namespace": NAMESPACE} | rest.pop("metadata", {})
    return _change(kind, letter, {"apiVersion": group, "kind": kind, "metadata": metadata, **rest})


def _service(letter: str) -> list[records.Change]:
    ports = [
        {"name": "http", "port": http_port(letter), "targetPort": 8080, "protocol": "TCP"},
        {"name": "tcp", "port": TCP_PORT, "targetPort": TCP_PORT, "protocol": "TCP"},
    ]
    ip = cluster_ip(letter)
    spec = {"clusterIP": ip, "clusterIPs": [ip], "ports": ports, "selector": {"app": letter}}
    return [_object("Service", letter, spec=spec), _change_endpoints(letter, 0)]


def _change_endpoints(letter: str, turn: int) -> records.Change:
    ip = f"10.{turn >> 8}.{turn & 255}.{ord(letter) & 255}"
    return _object(
        "EndpointSlice",
        letter,
        "discovery.k8s.io/v1",
        metadata={"labels": {"kubernetes.io/service-name": letter}},
        addressType="IPv4",
        ports=[
            {"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "tcp", "port": TCP_PORT, "protocol": "TCP"},
        ],
        endpoints=[{"addresses": [ip], "conditions": {"ready": True}}],
    )


def _change_cluster(letter: str, turn: int) -> records.Change:
    pool = {"tcp": {"connectTimeout": f"{1 + turn}s"}}
    spec = {"host": host(letter), "trafficPolicy": {"connectionPool": pool}}
    return _object("DestinationRule", letter, "networking.istio.io/v1", spec=spec)


def _listener_rules(letter: str, turn: int) -> dict[str, Any]:
    destination = {"host": host(letter), "port": {"number": TCP_PORT}}
    # Two shares of one destination: the listener differs by their weights.
    shares = [{"destination": destination, "weight": weight} for weight in (1 + turn, 1000)]
    return {"tcp": [{"match": [{"port": TCP_PORT}], "route": shares}]}


def _route_rules(letter: str, turn: int) -> dict[str, Any]:
    destination = {"host": host(letter), "port": {"number": http_port(letter)}}
    return {"http": [{"route": [{"destination": destination}], "timeout": f"{1 + turn}s"}]}


_CHANGES: Final = {"CDS": _change_cluster, "EDS": _change_endpoints}
_RULES: Final = {"LDS": _listener_rules, "RDS": _route_rules}
