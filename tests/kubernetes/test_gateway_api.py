"""Gateway API over its real definitions: conditions are written, accepted by their schemas, and read back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kubernetes import api as apis
from tests.kubernetes import mesh as meshes
from tests.kubernetes import proxies
from tests.kubernetes.servers import build
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]

GROUP = "gateway.networking.k8s.io/v1"
EDGE = {"name": "edge"}


def made(kind: str, name: str, spec: dict[str, Any]) -> apis.Object:
    metadata = {"name": name} | ({} if kind == "GatewayClass" else {"namespace": "default"})
    return {"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec}


def route(
    name: str, backend: str, parent: dict[str, Any] | None = None, **more: Any
) -> apis.Object:
    rules = [{"backendRefs": [{"name": backend, "port": 80}]}]
    return made("HTTPRoute", name, {"parentRefs": [parent or EDGE], "rules": rules, **more})


def edge() -> apis.Object:
    listeners = [
        {"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.example.com"},
        {
            "name": "https",
            "port": 443,
            "protocol": "HTTPS",
            "hostname": "secure.example.com",
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": "missing"}]},
        },
        {"name": "tls", "port": 8443, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
    ]
    return made("Gateway", "edge", {"gatewayClassName": "ours", "listeners": listeners})


def objects() -> list[apis.Object]:
    tls = {
        "parentRefs": [EDGE],
        "hostnames": ["t.example.com"],
        "rules": [{"backendRefs": [{"name": "a", "port": 80}]}],
    }
    policy = {
        "targetRefs": [{"group": "", "kind": "Service", "name": "a"}],
        "validation": {
            "hostname": "a.example.com",
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "missing"}],
        },
    }
    return [
        made("GatewayClass", "ours", {"controllerName": "istio.io/gateway-controller"}),
        made("GatewayClass", "theirs", {"controllerName": "example.org/other"}),
        edge(),
        meshes.service("a"),
        route("good", "a"),
        route("lost", "nowhere"),
        route("astray", "a", {"name": "edge", "sectionName": "no-such"}),
        route(
            "elsewhere", "a", {"name": "edge", "sectionName": "http"}, hostnames=["a.example.org"]
        ),
        made("TLSRoute", "tls", tls),
        made("BackendTLSPolicy", "policy", policy),
    ]


def install(admin: apis.Api) -> None:
    """Install Gateway API's own definitions."""
    text = build.find_servers().gateway_api.read_text()
    definitions = [
        each
        for each in yaml.load_all(text, yaml.CSafeLoader)
        if each and each["kind"] == "CustomResourceDefinition"
    ]
    admin.apply(definitions)
    for each in definitions:
        served = next(v["name"] for v in each["spec"]["versions"] if v["served"])
        meshes.wait_served(
            admin, f"{each['spec']['group']}/{served}", each["spec"]["names"]["kind"]
        )


def status(admin: apis.Api, kind: str, name: str) -> dict[str, Any]:
    namespace = "" if kind == "GatewayClass" else "default"
    with contextlib.suppress(apis.ApiError):
        found: dict[str, Any] = admin.get(GROUP, kind, namespace, name).get("status") or {}
        return found
    return {}


def flat(conditions: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    assert all(each["lastTransitionTime"] and "observedGeneration" in each for each in conditions)
    return {each["type"]: (each["status"], each["reason"]) for each in conditions}


def of_parent(admin: apis.Api, kind: str, name: str) -> dict[str, tuple[str, str]]:
    """Return the conditions that navarch wrote for a route's one parent, {} while there are none."""
    for each in status(admin, kind, name).get("parents", ()):
        if each["controllerName"] == "istio.io/gateway-controller":
            return flat(each["conditions"])
    return {}


def test_conditions_are_written_and_follow_and_push_nothing(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own)
    install(admin)
    admin.apply(objects())
    theirs = {
        "parentRef": EDGE,
        "controllerName": "example.org/other",
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Accepted",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }
    admin.patch(route("good", "a"), {"status": {"parents": [theirs]}}, "status")
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        with proxies.Proxy(navarch.grpc_port, proxies.sidecar("default")):
            expect_first(admin)
            parents = status(admin, "HTTPRoute", "good")["parents"]
            assert theirs["conditions"] in [
                [{k: v for k, v in c.items() if k != "observedGeneration"} for c in p["conditions"]]
                for p in parents
            ], "another controller's entry stays"
            expect_quiet(admin, navarch)
            admin.apply(meshes.service("nowhere"))
            processes.wait_until(
                lambda: (
                    of_parent(admin, "HTTPRoute", "lost").get("ResolvedRefs")
                    == ("True", "ResolvedRefs")
                ),
                "a backend that came is told",
                30,
            )


def expect_first(admin: apis.Api) -> None:
    """Wait for what each object is told at first."""
    accepted = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    wanted = {
        ("HTTPRoute", "good"): accepted,
        ("HTTPRoute", "lost"): accepted | {"ResolvedRefs": ("False", "BackendNotFound")},
        ("HTTPRoute", "astray"): {"Accepted": ("False", "NoMatchingParent")},
        ("HTTPRoute", "elsewhere"): {"Accepted": ("False", "NoMatchingListenerHostname")},
        ("TLSRoute", "tls"): accepted,
    }
    for (kind, name), conditions in wanted.items():

        def is_told(
            kind: str = kind,
            name: str = name,
            conditions: dict[str, tuple[str, str]] = conditions,
        ) -> bool:
            return conditions.items() <= of_parent(admin, kind, name).items()

        try:
            processes.wait_until(is_told, f"{kind} {name}: {conditions}", 30)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {of_parent(admin, kind, name)}") from error
    told = flat(status(admin, "GatewayClass", "ours")["conditions"])
    assert told["Accepted"] == ("True", "Accepted")
    other = status(admin, "GatewayClass", "theirs").get("conditions", ())
    assert all(each["status"] == "Unknown" for each in other), "that of others is left alone"
    gateway = status(admin, "Gateway", "edge")
    assert flat(gateway["conditions"])["Accepted"][0] == "True"
    listeners = {each["name"]: each for each in gateway["listeners"]}
    assert listeners["http"]["attachedRoutes"] == 2, "of the hosts of this listener"
    assert flat(listeners["https"]["conditions"])["ResolvedRefs"] == (
        "False",
        "InvalidCertificateRef",
    )
    ancestors = status(admin, "BackendTLSPolicy", "policy")["ancestors"]
    assert ancestors
    assert {flat(each["conditions"])["ResolvedRefs"][0] for each in ancestors} == {"False"}


def expect_quiet(admin: apis.Api, navarch: meshes.Navarch) -> None:
    """What was written once is not written again, and nothing of it reaches a proxy."""
    kinds = ("GatewayClass", "Gateway", "HTTPRoute", "TLSRoute", "BackendTLSPolicy")

    def versions() -> list[str]:
        found = [each for kind in kinds for each in admin.list(GROUP, kind)]
        return [each["metadata"]["resourceVersion"] for each in found]

    meshes.pause(2.0)
    before, pushes = versions(), navarch.metric("pilot_xds_pushes")
    note = {"metadata": {"annotations": {"example.org/turn": "1"}}}
    admin.patch(meshes.service("a"), note)
    meshes.pause(4.0)
    assert versions() == before
    assert navarch.metric("pilot_xds_pushes") == pushes
