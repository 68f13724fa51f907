"""Pods that come and go over an API server that fails: nothing is lost, and nothing is left over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.kubernetes import churn, proxies
from tests.kubernetes import mesh as meshes
from tests.lab import processes
from tests.xds import stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(300)]

OUTAGE_SECONDS: Final = 18.0
"""Longer than the Lease and the first eight tries of a reader; `make soak-kubernetes` takes a minute."""


def test_what_is_served_after_churn_and_restarts_is_what_a_fresh_start_serves(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    plan = churn.Plan(n_services=40, n_pods=5, seconds=12, per_second=50, outages=((4, 1), (9, 1)))
    told = churn.endure(own_cluster(), tmp_path, plan)
    assert told.n_changes > 100
    assert told.n_retries > 0, "the API server was away"
    assert told.n_resources > 100
    assert told.n_responses > 20
    assert not told.notes, "no stream ended"
    assert told.differences == []


def test_while_the_api_server_is_away_proxies_keep_and_get_the_last_good_state(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    own.grant("navarch", meshes.RIGHTS)
    population = churn.Churn(own, churn.Plan(20, 3, 0, 0, ()))
    population.fill()
    red = proxies.sidecar("red")
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        with proxies.Proxy(navarch.grpc_port, red) as live:
            known = live.state()
            assert sum(b"10." in each for each in known["EDS"].values()) >= 20
            time.sleep(1.0)
            n_responses = live.n_responses
            own.stop_apiserver()
            until = time.monotonic() + OUTAGE_SECONDS
            while time.monotonic() < until:
                for form in (stream.DELTA, stream.SOTW):
                    with proxies.Proxy(navarch.grpc_port, red, form) as late:
                        assert proxies.difference(late.state(), known) == []
                assert navarch.get("/ready")[0] == 200
                time.sleep(2.0)
            assert "can't be read" in navarch.get("/ready")[1]
            own.start_apiserver()
            before = len(known["CDS"])
            population.writer.apply(meshes.service("later", "red"))
            processes.wait_until(
                lambda: len(live.state()["CDS"]) == before + 1, "what came later is served", 60
            )
            assert live.emptied == []
            assert live.n_responses - n_responses <= 8, "what was known is not sent again"
