"""Histories of small meshes: objects that come, change, break and go, in every order."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

import hypothesis
from hypothesis import strategies as st

from navarch import records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMESPACES: Final = ("other", "shop")
SERVICES: Final = ("a", "b", "c")
N_VARIANTS: Final = 4
BROKEN: Final = b'{"metadata": 1'
"""A payload that can't be decoded: the last good version of its key stays in force."""

_LABELS: Final = {"app": "a", "version": "v1"}
NODES: Final[tuple[dict[str, Any], ...]] = tuple(
    {
        "id": f"{kind}~10.1.0.1~a-1.{namespace}~{namespace}.svc.cluster.local",
        "metadata": {"NAMESPACE": namespace, "INSTANCE_IPS": "10.1.0.1", "LABELS": _LABELS} | more,
    }
    for kind, namespace, more in (
        ("sidecar", "shop", {"ISTIO_VERSION": "1.32.0"}),
        ("sidecar", "other", {}),
        ("router", "shop", {"LABELS": {"app": "gate"}}),
    )
)
"""Proxies that see much of it: an Istio sidecar of a service, a stock one under a Sidecar scope, a gateway."""


def _host(name: str, namespace: str) -> str:
    return f"{name}.{namespace}.svc.cluster.local"


def _service(namespace: str, name: str, variant: int) -> dict[str, Any]:
    ip = f"10.96.{NAMESPACES.index(namespace)}.{SERVICES.index(name)}"
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    extra = {1: ("tcp", 9000), 2: ("grpc", 9090), 3: ("data", 9001)}[variant]
    ports.append({"name": extra[0], "port": extra[1], "targetPort": extra[1], "protocol": "TCP"})
    return {
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name}, "ports": ports}
    }


def _slice(namespace: str, name: str, variant: int) -> dict[str, Any]:
    number = NAMESPACES.index(namespace) * 16 + SERVICES.index(name) * 4
    ports = [("http", 8080), ("tcp", 9000), ("grpc", 9090), ("data", 9001)]
    return {
        "metadata": {"labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": n, "port": port, "protocol": "TCP"} for n, port in ports],
        "endpoints": [
            {
                "addresses": [f"10.1.0.{number + i}"],
                "conditions": {"ready": variant + i != 3},
                "targetRef": {"kind": "Pod", "name": f"{name}-{i}", "namespace": namespace},
            }
            for i in range(variant)
        ],
    }


def _pod(namespace: str, name: str, variant: int) -> dict[str, Any]:
    app, _, i = name.partition("-")
    number = NAMESPACES.index(namespace) * 16 + SERVICES.index(app) * 4 + int(i)
    ip = f"10.1.0.{number}"
    return {
        "metadata": {"labels": {"app": app, "version": f"v{variant}"}},
        "spec": {"serviceAccountName": app, "nodeName": "n"},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def _virtual_service(namespace: str, name: str, variant: int) -> dict[str, Any]:
    # Two objects for one host: which wins is a matter of age and name, never of arrival.
    host = _host("a" if name in ("x", "y") else "b", namespace)
    shares = [
        {"destination": {"host": host, "subset": "v1"}, "weight": 10 * variant},
        {"destination": {"host": host, "subset": "v2"}, "weight": 100 - 10 * variant},
    ]
    match = [{"uri": {"prefix": f"/{name}"}}]
    gateways = {"gateways": ["mesh", "gate"]} if variant == 2 else {}
    http = [
        {"match": match, "route": shares, "timeout": f"{variant}s"},
        {"route": [{"destination": {"host": host}}], "retries": {"attempts": variant}},
    ]
    return {"spec": {"hosts": [host], "http": http, **gateways}}


def _destination_rule(namespace: str, name: str, variant: int) -> dict[str, Any]:
    subsets = [{"name": f"v{i}", "labels": {"version": f"v{i}"}} for i in range(1, 1 + variant)]
    pool = {"tcp": {"connectTimeout": f"{variant}s"}}
    policy = {"connectionPool": pool, "loadBalancer": {"simple": "ROUND_ROBIN"}}
    host = _host("a" if name in ("x", "y") else "b", namespace)
    return {"spec": {"host": host, "subsets": subsets, "trafficPolicy": policy}}


def _service_entry(namespace: str, name: str, variant: int) -> dict[str, Any]:
    resolution = {1: "STATIC", 2: "DNS", 3: "NONE"}[variant]
    endpoints = [{"address": "10.9.0.1" if variant == 1 else "e.example"}] if variant < 3 else []
    return {
        "spec": {
            "hosts": [f"{name}.example"],
            "addresses": ["10.8.0.1"] if namespace == "shop" else [],
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
            "location": "MESH_EXTERNAL",
            "resolution": resolution,
            "endpoints": endpoints,
        }
    }


def _peer_authentication(_: str, __: str, variant: int) -> dict[str, Any]:
    return {"spec": {"mtls": {"mode": ("STRICT", "PERMISSIVE", "DISABLE")[variant - 1]}}}


def _sidecar(namespace: str, _: str, variant: int) -> dict[str, Any]:
    hosts = [["./*"], [f"{namespace}/*", "shop/a.shop.svc.cluster.local"], ["*/*"]][variant - 1]
    return {"spec": {"egress": [{"hosts": hosts}]}}


def _gateway(_: str, __: str, variant: int) -> dict[str, Any]:
    server = {"port": {"number": 80 + variant, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return {"spec": {"selector": {"app": "gate"}, "servers": [server]}}


_NETWORKING: Final = "networking.istio.io/v1"
_MADE: Final[dict[str, tuple[str, tuple[str, ...], Callable[[str, str, int], dict[str, Any]]]]] = {
    "Service": ("v1", SERVICES, _service),
    "EndpointSlice": ("discovery.k8s.io/v1", SERVICES, _slice),
    "Pod": ("v1", ("a-0", "a-1", "b-0"), _pod),
    "VirtualService": (_NETWORKING, ("x", "y", "z"), _virtual_service),
    "DestinationRule": (_NETWORKING, ("x", "y", "z"), _destination_rule),
    "ServiceEntry": (_NETWORKING, ("s", "t"), _service_entry),
    "PeerAuthentication": ("security.istio.io/v1", ("default",), _peer_authentication),
    "Sidecar": (_NETWORKING, ("default",), _sidecar),
    "Gateway": (_NETWORKING, ("gate",), _gateway),
}


@st.composite
def changes(draw: st.DrawFn) -> records.Change:
    """Draw one event: an object made or changed, gone, or written so that it can't be read."""
    kind = draw(st.sampled_from(sorted(_MADE)))
    namespace = draw(st.sampled_from(NAMESPACES))
    name = draw(st.sampled_from(_MADE[kind][1]))
    variant = draw(st.integers(-1, N_VARIANTS - 1))
    if variant <= 0:
        key = records.SourceKey(kind, namespace, name)
        return records.Change(key, None if variant == 0 else BROKEN)
    return make(kind, namespace, name, variant)


def make(kind: str, namespace: str, name: str, variant: int) -> records.Change:
    """Make an object of a kind; each variant, from 1 on, differs from the others."""
    group, _, build = _MADE[kind]
    made = build(namespace, name, variant)
    metadata = {"name": name, "namespace": namespace} | made.pop("metadata", {})
    body = {"apiVersion": group, "kind": kind, "metadata": metadata, **made}
    return records.Change(records.SourceKey(kind, namespace, name), json.dumps(body).encode())


BASE: Final = [
    *(make("Service", namespace, name, 1) for namespace in NAMESPACES for name in SERVICES),
    *(make("EndpointSlice", namespace, name, 2) for namespace in NAMESPACES for name in SERVICES),
    *(make("Pod", "shop", f"a-{i}", 1 + i) for i in range(2)),
    make("DestinationRule", "shop", "x", 2),
    make("VirtualService", "shop", "x", 1),
]
"""A mesh in which most changes are seen; histories begin with it or with nothing."""

HISTORIES: Final = st.builds(
    lambda first, then: [*first, *then],
    st.sampled_from([BASE, []]),
    st.lists(changes(), max_size=20),
)


def share(percent: int) -> hypothesis.settings:
    """Take a share of the profile's examples, so that the heavy laws leave time for the others."""
    return hypothesis.settings(
        max_examples=max(20, hypothesis.settings().max_examples * percent // 100)
    )


def cut(history: Sequence[records.Change], places: Sequence[int]) -> list[list[records.Change]]:
    """Cut a history into batches at these places."""
    borders = [0, *sorted(place % (len(history) + 1) for place in places), len(history)]
    return [list(history[i:j]) for i, j in itertools.pairwise(borders)]


@st.composite
def reordered(draw: st.DrawFn, history: list[records.Change]) -> list[records.Change]:
    """Shuffle a history, each key's own events staying in order."""
    by_key: dict[records.SourceKey, list[records.Change]] = {}
    for change in history:
        by_key.setdefault(change.key, []).append(change)
    order = draw(st.permutations([change.key for change in history]))
    return [by_key[key].pop(0) for key in order]
