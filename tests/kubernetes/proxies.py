"""Proxies that stay connected: they take and acknowledge all, and keep what they were sent."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Final, Self

from tests.xds import stream

TYPES: Final = tuple(stream.MESSAGES)
_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
_UNHEALTHY: Final = 2
"""`HealthStatus.UNHEALTHY` of Envoy."""

State = dict[str, dict[str, bytes]]


def sidecar(
    namespace: str, address: str = "10.1.0.1", cluster: str = "Kubernetes", **metadata: str
) -> dict[str, Any]:
    """Return the node of a sidecar."""
    domain = f"{namespace}.svc.cluster.local"
    return {
        "id": f"sidecar~{address}~client.{namespace}~{domain}",
        "metadata": {
            "NAMESPACE": namespace,
            "INSTANCE_IPS": address,
            "LABELS": {"app": "client"},
            "ISTIO_VERSION": "1.32.0",
            "CLUSTER_ID": cluster,
            **metadata,
        },
    }


class Proxy:
    """One proxy on a thread of its own.

    Attributes:
        n_responses: How many came.
        emptied: Names of assignments whose last endpoint went while it had some.
    """

    def __init__(self, port: int, node: dict[str, Any], form: str = stream.DELTA) -> None:
        self._context = contextlib.ExitStack()
        self._form = form
        self._stream = self._context.enter_context(
            stream.open_stream(f"127.0.0.1:{port}", form, node)
        )
        self._types = {xds: stream.Subscriber(self._stream, xds) for xds in TYPES}
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self.n_responses = 0
        self.emptied: list[str] = []
        self.ended: stream.StreamEnded | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        for subscriber in self._types.values():
            subscriber.want("*")
            subscriber.take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        self._context.close()
        self._thread.join(_WAIT_SECONDS)

    def state(self) -> State:
        """Return the bytes of all that it has, by type and name."""
        with self._lock:
            return {xds: dict(each.raw) for xds, each in self._types.items()}

    def endpoints(self, cluster: str) -> set[str]:
        """Return the endpoints of an assignment, as `address:port`; none if it has none."""
        with self._lock:
            assignment = self._types["EDS"].state.get(cluster)
            groups = assignment.endpoints if assignment is not None else ()
            ends = [end.endpoint for group in groups for end in group.lb_endpoints]
            places = [end.address.socket_address for end in ends]
        return {f"{place.address}:{place.port_value}" for place in places}

    def unhealthy(self, cluster: str) -> set[str]:
        """Return which endpoints of an assignment get no traffic, by their addresses."""
        with self._lock:
            assignment = self._types["EDS"].state.get(cluster)
            groups = assignment.endpoints if assignment is not None else ()
            ends = [end for group in groups for end in group.lb_endpoints]
            down = [end for end in ends if end.health_status == _UNHEALTHY]
            return {end.endpoint.address.socket_address.address for end in down}

    def domains(self, route: str) -> set[str]:
        """Return the domains of all virtual hosts of a route configuration; none if there is none."""
        with self._lock:
            made = self._types["RDS"].state.get(route)
            hosts = made.virtual_hosts if made is not None else ()
            return {domain for host in hosts for domain in host.domains}

    def _run(self) -> None:
        while not self._is_closed.is_set():
            try:
                got = self._stream.receive(_POLL_SECONDS)
            except AssertionError:
                continue
            except stream.StreamEnded as ended:
                self.ended = None if self._is_closed.is_set() else ended
                return
            with self._lock:
                self._note_emptied(got)
                self._types[got.xds].apply(got)
                self.n_responses += 1
            self._stream.ack(got, ("*",))

    def _note_emptied(self, got: stream.Response) -> None:
        if got.xds != "EDS":
            return
        before = self._types["EDS"].state
        for name, assignment in got.resources.items():
            if name in before and before[name].endpoints and not assignment.endpoints:
                self.emptied.append(name)


def difference(one: State, other: State) -> list[str]:
    """Return which resources differ, at most twenty, each with how."""
    told = []
    for xds in TYPES:
        for name in sorted(one[xds].keys() | other[xds].keys()):
            left, right = one[xds].get(name), other[xds].get(name)
            if left != right:
                how = "missing" if left is None else "too many" if right is None else "different"
                told.append(f"{xds} {name}: {how}")
    return told[:20]
