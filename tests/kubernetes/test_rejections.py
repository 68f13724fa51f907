"""What a proxy rejects stands in the status of the objects that it was made of, and costs nobody a push."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kubernetes import mesh as meshes
from tests.kubernetes import proxies
from tests.lab import processes
from tests.xds import stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import api as apis
    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]

CLUSTER = "outbound|80||a.default.svc.cluster.local"


def rule(name: str, seconds: int) -> apis.Object:
    policy = {"connectionPool": {"tcp": {"connectTimeout": f"{seconds}s"}}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"host": name, "trafficPolicy": policy},
    }


def programmed(admin: apis.Api, name: str) -> dict[str, Any]:
    found = admin.get("networking.istio.io/v1", "DestinationRule", "default", name)
    told = found.get("status", {}).get("conditions", ())
    made: dict[str, Any] = next((each for each in told if each["type"] == "Programmed"), {})
    return made


def expect(admin: apis.Api, name: str, reason: str) -> dict[str, Any]:
    what = f"{name} is {reason}"
    processes.wait_until(lambda: programmed(admin, name).get("reason") == reason, what, 30)
    return programmed(admin, name)


def answer_all(opened: stream.Stream, seconds: float) -> int:
    """Accept what comes until it is quiet; return how much came."""
    n_responses, until = 0, time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            opened.ack(opened.receive(left), ("*",))
        except AssertionError:
            break
        n_responses += 1
    return n_responses


def test_a_rejected_cluster_is_told_of_its_rule_until_proxies_take_it(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own, "DestinationRule")
    admin.apply([meshes.service("a"), meshes.service("b"), rule("a", 3), rule("b", 3)])
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        address = f"127.0.0.1:{navarch.grpc_port}"
        with stream.open_stream(address, stream.DELTA, proxies.sidecar("default")) as opened:
            clusters_of = stream.Subscriber(opened, "CDS")
            clusters_of.want("*")
            got = opened.expect("CDS")
            assert CLUSTER in got.resources
            words = f"Error adding/updating cluster(s) {CLUSTER}: it is of no use"
            opened.ack(got, error=words)
            told = expect(admin, "a", "RejectedByProxy")
            assert told["status"] == "False"
            assert "it is of no use" in told["message"]
            expect(admin, "b", "Programmed")
            assert answer_all(opened, 3.0) == 0, "neither the rejection nor its status is a push"
            admin.apply(rule("a", 4))
            assert answer_all(opened, 5.0) > 0
            assert expect(admin, "a", "Programmed")["status"] == "True"
