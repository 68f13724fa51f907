"""Pods that come and go over an API server that fails: nothing is lost, and nothing is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.kubernetes import churn

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
    told = churn.sit_out(own_cluster(), tmp_path, churn.Plan(20, 3, 0, 0, ()), OUTAGE_SECONDS)
    assert told.n_assigned >= 20
    assert told.differences == []
    assert told.n_unready == 0
    assert "can't be read" in told.told
    assert told.emptied == []
    assert told.n_responses <= 8, "what was known is not sent again"
