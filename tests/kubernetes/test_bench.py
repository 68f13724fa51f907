"""The benchmark's world lies in an API server as it does in files, and is left as it was."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from benches import places, processes, run, suites, world
from tests import desk
from tests.kubernetes import cluster as clusters
from tests.kubernetes import mesh as meshes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MESH = world.World(n_services=20, n_namespaces=10, n_rules=5)
N_SIDECARS = 6


@pytest.mark.extension
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_scenario_ends_on_an_api_server(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    desk.find_program("cargo", "the load client is Rust")
    own = own_cluster()
    own.grant(clusters.NAVARCH, meshes.RIGHTS)
    api = own.api()
    place = places.Objects(MESH, api)

    def read() -> dict[str, object]:
        named = [("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice")]
        named.append(("networking.istio.io/v1", "VirtualService"))
        return {
            f"{kind} {each['metadata']['name']}": each.get("spec") or each["endpoints"]
            for version, kind in named
            for each in api.list(version, kind)
        }

    before = read()
    tools = run.Tools([sys.executable, "-m", "navarch", "serve"], run.build_client("dev"))
    source = ["--kubeconfig", str(own.kubeconfig()), "--drain-seconds", "0"]
    case = suites.Case("tiny", MESH, N_SIDECARS, n_rounds=4, churn_seconds=1.0, settle_seconds=0.1)
    program = processes.navarch(tools.command, source, tmp_path / "navarch")
    figures = run.measure(case, tools, program, place)
    assert read() != before
    place.restore()
    assert read() == before
    for scenario in suites.CHANGES:
        assert figures[scenario]["n_told"] == N_SIDECARS
        assert figures[scenario]["sent_kb"] > 0
    assert figures["churn"]["n_probes"] > 0
    assert figures["no_op"]["sent_mb"] == 0
