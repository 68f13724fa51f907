"""Which endpoint answers: consistent hashing, ejection of outliers, circuit breakers, and zones that fail over."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import client, meshes, network
from tests.lab.planned import Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

COOKIE = "lab-session"
FAR = "far-1"
NEAR = {"near-1", "near-2"}
ALL = NEAR | {FAR}
OUTLIERS: dict[str, Any] = {
    "consecutive5xxErrors": 2,
    "interval": "0.2s",
    "baseEjectionTime": "3s",
    "maxEjectionPercent": 100,
}


def balanced(host: str, **policy: Any) -> list[dict[str, Any]]:
    """Return the policy of a service, and a rule by which what fails is not tried again."""
    route = [{"route": [{"destination": {"host": host}}], "retries": {"attempts": 0}}]
    spec = {"host": host, "trafficPolicy": policy}
    return [meshes.rule("DestinationRule", host, spec), *meshes.virtual_service(host, route)]


def hashed(**key: Any) -> dict[str, Any]:
    """Return a load balancer that hashes a key."""
    return {"consistentHash": key, "localityLbSetting": {"enabled": False}}


def plan() -> Plan:
    """Return the mesh: a client in the zone `near`, and one pool of servers that all services have."""
    everywhere = {"localityLbSetting": {"enabled": False}}
    narrow = {
        "tcp": {"maxConnections": 1},
        "http": {"http1MaxPendingRequests": 1},
    }
    spread = {"distribute": [{"from": "here/near/*", "to": {"here/near/*": 80, "here/far/*": 20}}]}
    cookie = {"name": COOKIE, "path": "/", "ttl": "600s"}
    rules = {
        "by-header": balanced("by-header", loadBalancer=hashed(httpHeaderName="x-user")),
        "by-cookie": balanced("by-cookie", loadBalancer=hashed(httpCookie=cookie)),
        "by-query": balanced("by-query", loadBalancer=hashed(httpQueryParameterName="user")),
        "ejecting": balanced("ejecting", loadBalancer=everywhere, outlierDetection=OUTLIERS),
        "narrow": balanced("narrow", connectionPool=narrow),
        "in-turn": balanced("in-turn", loadBalancer=everywhere | {"simple": "ROUND_ROBIN"}),
        "spread": balanced("spread", loadBalancer={"localityLbSetting": spread}),
        "zoned": balanced("zoned", outlierDetection=OUTLIERS),
    }
    services = tuple(
        meshes.Service(name, f"10.96.0.{n}", meshes.HTTP, "pool") for n, name in enumerate(rules, 1)
    )
    return Plan(
        pods=(
            meshes.Pod("web-1", "10.77.1.1", "web", workload=(), zone="near"),
            meshes.Pod("near-1", "10.77.2.1", "pool", proxy="", zone="near"),
            meshes.Pod("near-2", "10.77.2.2", "pool", proxy="", zone="near"),
            meshes.Pod(FAR, "10.77.3.1", "pool", proxy="", zone="far"),
        ),
        services=services,
        rules=rules,
    )


@pytest.fixture(scope="module")
def stage() -> Iterator[PlannedStage]:
    """Start the mesh, once."""
    network.require()
    with PlannedStage(plan()) as made:
        for service in plan().services:
            made.wait_for(service.name)
        yield made


def pods_of(replies: list[client.Reply]) -> set[str]:
    """Return who gave these answers; all of them must be good."""
    assert {reply.status for reply in replies} == {200}
    return {reply.pod for reply in replies}


def test_a_header_chooses_the_pod(stage: PlannedStage) -> None:
    """Requests with the same key go to the same pod; many keys use all pods."""
    by_user = {
        user: pods_of(stage.get_many("by-header", 5, {"x-user": f"user-{user}"}))
        for user in range(30)
    }
    assert {len(pods) for pods in by_user.values()} == {1}
    assert set().union(*by_user.values()) == ALL


def test_a_query_parameter_chooses_the_pod(stage: PlannedStage) -> None:
    """Requests with the same parameter go to the same pod; many values use all pods."""
    by_user = {
        user: {stage.get("by-query", f"/?user={user}").pod for _ in range(4)} for user in range(30)
    }
    assert {len(pods) for pods in by_user.values()} == {1}
    assert set().union(*by_user.values()) == ALL


def test_a_cookie_holds_to_the_pod(stage: PlannedStage) -> None:
    """Who comes without a cookie is given one, and by it comes to the same pod ever after."""
    seen = set()
    for _ in range(30):
        first = stage.get("by-cookie")
        name, _, value = first.headers["set-cookie"].partition(";")[0].partition("=")
        assert name == COOKIE
        assert "Max-Age=600" in first.headers["set-cookie"]
        cookie = {"cookie": f"{name}={value}"}
        again = [stage.get("by-cookie", "/", cookie) for _ in range(4)]
        assert pods_of(again) == {first.pod}
        assert not any("set-cookie" in reply.headers for reply in again)
        seen.add(first.pod)
    assert seen == ALL


def test_pods_take_turns(stage: PlannedStage) -> None:
    """ROUND_ROBIN: requests one after the other go to one pod after the other."""
    pods = [stage.get("in-turn").pod for _ in range(12)]
    assert pods[:3] * 4 == pods
    assert set(pods) == ALL


def test_zones_get_what_they_are_given(stage: PlannedStage) -> None:
    """With `distribute` each zone gets its share, within 4.5 standard deviations."""
    n_requests = 300
    n_by_pod = Counter(reply.pod for reply in stage.get_many("spread", n_requests))
    assert set(n_by_pod) == ALL
    assert abs(n_by_pod[FAR] - 0.2 * n_requests) <= 4.5 * math.sqrt(n_requests * 0.2 * 0.8)


def test_a_failing_pod_is_ejected_and_comes_back(stage: PlannedStage) -> None:
    """A pod that answers with errors gets no requests for a while, and then gets its share again."""
    assert pods_of(stage.get_many("ejecting", 60)) == ALL
    replies = fail_until_ejected(stage, "ejecting", {"near-2"})
    assert sum(reply.status == 503 for reply in replies) >= OUTLIERS["consecutive5xxErrors"]
    assert {reply.pod for reply in replies if reply.status == 503} == {"near-2"}
    stage.wait(lambda: pods_of(stage.get_many("ejecting", 30)) == ALL, "it is back", 40)


def test_a_zone_fails_over_to_another(stage: PlannedStage) -> None:
    """The own zone serves alone while it can; when all of it fails the other does, until it is back."""
    assert pods_of(stage.get_many("zoned", 60)) == NEAR
    fail_until_ejected(stage, "zoned", NEAR)
    stage.wait(lambda: pods_of(stage.get_many("zoned", 30)) == NEAR, "the zone is back", 40)


def fail_until_ejected(stage: PlannedStage, host: str, pods: set[str]) -> list[client.Reply]:
    """Let pods fail until nothing comes to them any more; return all answers on the way."""
    headers = {"x-fail-pods": ",".join(pods)}
    replies: list[client.Reply] = []

    def is_ejected() -> bool:
        # That so many miss a pod which takes its share is less likely than once in 100,000 tries.
        burst = stage.get_many(host, 30, headers)
        replies.extend(burst)
        assert {reply.status for reply in burst} <= {200, 503}
        return {reply.status for reply in burst} == {200} and pods_of(burst) == ALL - pods

    stage.wait(is_ejected, f"{pods} are ejected", 40)
    return replies


def test_what_overflows_a_circuit_breaker_is_refused(stage: PlannedStage) -> None:
    """What neither has a connection nor may wait for one is refused at once; no server sees it."""
    headers = {"x-sleep": "1.5", "x-key": "narrow"}
    replies = stage.get_many("narrow", 16, headers)
    n_by_answer = Counter((r.status, r.headers.get("x-envoy-overloaded")) for r in replies)
    assert set(n_by_answer) == {(200, None), (503, "true")}
    # Envoy lets each of the three pods have one connection, whatever the limit.
    assert n_by_answer[503, "true"] >= 8
    assert all(reply.seconds < 1.5 for reply in replies if reply.status == 503)
    n_seen = sum(stage.n_seen(pod, "narrow") for pod in ALL)
    assert n_seen == n_by_answer[200, None]
    assert stage.stat("web-1", r".*narrow.*upstream_rq_pending_overflow") == 16 - n_seen
    assert stage.get("narrow").status == 200


def test_no_proxy_refuses_anything(stage: PlannedStage) -> None:
    """Whatever the rules above ask for, Envoy takes."""
    assert stage.n_refused() == 0
