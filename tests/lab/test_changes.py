"""The mesh changes under load: rules, pods, and navarch itself."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import meshes

if TYPE_CHECKING:
    from tests.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

# One asks for differences, one for the state of the world, one for virtual hosts as resources of their own.
each_client = pytest.mark.parametrize("client", ["web-1", "web-2", "web-3"])

# A program that RE2 compiles and Istio's admission lets pass, but that is over Envoy's limit of
# re2.max_program_size.error_level: https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/matcher/v3/regex.proto
TOO_LARGE_REGEX = ".{1000}" * 17

N_CHANGES = 200
EXTRA = "extra.yaml"


@each_client
def test_a_rule_changes_without_a_failure(lab: Lab, client: str) -> None:
    """A new rule comes into force without a restart and without a failed request."""
    with lab.load("reviews", pod=client) as replies:
        lab.wait(lambda: len(replies) > 100, "load")
        lab.write("reviews.yaml", meshes.canary(0, 100))
        lab.wait(lambda: replies[-1].rule == "0-100", "the new rule answers")
        time.sleep(0.5)
        n_before = len(replies)
        lab.wait(lambda: len(replies) > n_before + 100, "load")
    assert {r.status for r in replies} == {200}
    assert {(r.pod, r.rule) for r in replies[n_before:]} == {("reviews-v2", "0-100")}


@each_client
def test_a_pod_goes_away_without_a_failure(lab: Lab, client: str) -> None:
    """Once a pod has left its EndpointSlice it may die: no request fails before, during or after it."""
    with lab.load("details", pod=client) as replies:
        lab.wait(lambda: {r.pod for r in replies} == {"details-1", "details-2"}, "both answer")
        lab.write("details-endpoints.yaml", meshes.endpoint_slice("details", ("details-2",)))
        lab.wait(lambda: {r.pod for r in replies[-100:]} == {"details-1"}, "one answers")
        lab.kill_pod("details-2")
        n_before = len(replies)
        lab.wait(lambda: len(replies) > n_before + 300, "load")
        lab.start_pod("details-2")
        lab.wait(lambda: lab.is_live("details-2"), "the pod is back")
        lab.write("details-endpoints.yaml", meshes.endpoint_slice("details"))
        lab.wait(lambda: "details-2" in {r.pod for r in replies[-100:]}, "both answer again")
    assert Counter((r.status, r.body if r.status != 200 else "") for r in replies) == {
        (200, ""): len(replies)
    }
    assert {r.pod for r in replies[n_before : n_before + 300]} == {"details-1"}


def test_what_envoy_refuses_stops_nothing_else(lab: Lab) -> None:
    """A NACK is seen; the old rule holds, all other rules go on, and a mended one is taken."""
    n_rejects = lab.metric("pilot_total_xds_rejects")
    refused = meshes.canary(50, 50)
    refused[0]["spec"]["http"][0]["match"] = [{"uri": {"regex": TOO_LARGE_REGEX}}]
    lab.write("reviews.yaml", refused)
    lab.wait(lambda: lab.metric("pilot_total_xds_rejects") > n_rejects, "the NACK is counted")
    lab.wait(lambda: "regex" in lab.ask_navarch("/debug/syncz").body, "the NACK is shown")
    assert {(r.status, r.rule) for r in lab.get_many("reviews", 50)} == {(200, "90-10")}
    lab.write("details.yaml", meshes.plain("details", "changed"))
    lab.wait(lambda: lab.get("details").rule == "changed", "another route configuration goes on")
    lab.write("ledger.yaml", meshes.tcp_virtual_service("ledger", "v2"))
    lab.wait(lambda: lab.talk("ledger")[0] == "ledger-2", "listeners go on")
    lab.write("reviews.yaml", meshes.canary(30, 70))
    lab.wait(lambda: lab.get("reviews").rule == "30-70", "the mended rule is in force")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_navarch_may_be_away(lab: Lab, number: signal.Signals) -> None:
    """While navarch is away traffic goes on by the last rules; back again, it brings what has changed meanwhile."""
    with lab.load("reviews", n_clients=1) as replies:
        with lab.away(number) as code:
            assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
            lab.write("reviews.yaml", meshes.canary(20, 80))
            n_before = len(replies)
            lab.wait(lambda: len(replies) > n_before + 50, "traffic without navarch")
            assert {r.rule for r in replies} == {"90-10"}
        lab.wait(lambda: replies[-1].rule == "20-80", "the new rule", seconds=40)
    assert {r.status for r in replies} == {200}
    lab.wait(lambda: len(lab.sync_status()) == len(meshes.PODS), "all are back", seconds=40)


def _turn(number: int, version: str) -> list[dict[str, Any]]:
    """Return rules that send reviews to a subset, a cluster, that did not exist before; the one before goes."""
    subset = f"turn-{number}"
    new = {"host": "reviews", "subsets": [{"name": subset, "labels": {"version": version}}]}
    route = [{"destination": {"host": "reviews", "subset": subset}}]
    headers = {"response": {"set": {"x-rule": subset}}}
    return [
        *meshes.virtual_service("reviews", [{"route": route, "headers": headers}]),
        meshes.rule("DestinationRule", "reviews-turns", new),
    ]


def _extra(number: int) -> list[dict[str, Any]]:
    """Return a service of the outside, on a port that others share."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    spec = {"hosts": [f"extra-{number}.example"], "ports": ports, "resolution": "STATIC"}
    endpoints = {"endpoints": [{"address": meshes.OUTSIDE_IP}]}
    return [meshes.rule("ServiceEntry", "extra", spec | endpoints)]


def _change(lab: Lab, dice: random.Random, number: int) -> None:
    kind = dice.choice(["turn", "turn", "mark", "endpoints", "extra"])
    if kind == "turn":
        lab.write("reviews.yaml", _turn(number, dice.choice(["v1", "v2"])))
    elif kind == "mark":
        lab.write("details.yaml", meshes.plain("details", f"mark-{number}"))
    elif kind == "endpoints":
        without = dice.choice([(), ("details-1",), ("details-2",)])
        lab.write("details-endpoints.yaml", meshes.endpoint_slice("details", without))
    else:
        lab.write(EXTRA, _extra(number) if dice.random() < 0.7 else [])


@each_client
def test_no_request_is_lost_in_200_random_changes(lab: Lab, client: str) -> None:
    """Clusters, routes, endpoints and services come and go; every request is answered."""
    dice = random.Random(client)
    try:
        with (
            lab.load("reviews", pod=client, n_clients=2) as reviews,
            lab.load("details", pod=client, n_clients=2) as details,
        ):
            lab.wait(lambda: min(len(reviews), len(details)) > 50, "load")
            for number in range(N_CHANGES):
                _change(lab, dice, number)
                time.sleep(dice.choice([0.0, 0.01, 0.05, 0.15]))
            lab.write("reviews.yaml", _turn(N_CHANGES, "v1"))
            last = f"turn-{N_CHANGES}"
            lab.wait(lambda: reviews[-1].rule == last, "the last rule answers")
    finally:
        (lab.mesh_dir / EXTRA).unlink(missing_ok=True)
    assert {(r.status, r.body if r.status != 200 else "") for r in reviews} == {(200, "")}
    assert {(r.status, r.body if r.status != 200 else "") for r in details} == {(200, "")}
    turns = {r.rule for r in reviews}
    assert len(turns) > N_CHANGES / 10, "the changes came into force"
