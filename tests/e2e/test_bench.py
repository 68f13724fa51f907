"""Every scenario of the benchmark runs, at a size that tells nothing about speed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benches import injection, places, run, suites, world
from tests import desk

MESH = world.World(n_services=20, n_namespaces=10, n_rules=5)
N_SIDECARS = 12
# What one sidecar has: clusters with their endpoints, those of its own, listeners, and one route configuration.
N_CLUSTERS = (20 + 5 * world.N_VERSIONS) * 2


def test_the_world_is_as_described(tmp_path: Path) -> None:
    MESH.write(tmp_path)
    kinds: dict[str, int] = {}
    for path in tmp_path.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            kinds[document["kind"]] = kinds.get(document["kind"], 0) + 1
    assert kinds == {
        "Namespace": 10,
        "Service": 20,
        "EndpointSlice": 20,
        "Pod": 40,
        "VirtualService": 5,
        "DestinationRule": 5,
    }
    nodes = [MESH.node(k) for k in range(MESH.n_pods)]
    assert len({node["id"] for node in nodes}) == MESH.n_pods


def test_a_scoped_world_has_a_sidecar_in_each_namespace(tmp_path: Path) -> None:
    scoped = dataclasses.replace(MESH, is_scoped=True)
    scoped.write(tmp_path)
    documents = list(yaml.safe_load_all((tmp_path / "namespaces.yaml").read_text()))
    sidecars = [each for each in documents if each["kind"] == "Sidecar"]
    assert [each["metadata"]["namespace"] for each in sidecars] == [f"ns-{i}" for i in range(10)]


def test_a_change_is_one_file_that_yaml_can_read(tmp_path: Path) -> None:
    MESH.write(tmp_path)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    MESH.write_service(tmp_path, world.Service(3, addresses=("10.250.0.1",)))
    changed = [path for path in tmp_path.iterdir() if path.read_text() != before[path]]
    assert [path.name for path in changed] == ["service-3.yaml"]
    assert "10.250.0.1" in changed[0].read_text()
    assert list(yaml.safe_load_all(changed[0].read_text()))


def test_every_suite_can_be_shrunk_and_still_has_who_sees_its_changes() -> None:
    for suite in suites.SUITES.values():
        for case in suite.cases:
            small = suites.shrink(case, 0.01)
            mesh = small.mesh
            changed = (mesh.find_plain(), mesh.find_ruled(), mesh.find_new(3))
            assert all(mesh.n_viewers(number, small.n_sidecars) > 0 for number in changed)
            assert {mesh.namespace(number) for number in changed} == {"ns-0"}
            assert mesh.find_ruled() < mesh.n_rules
            assert mesh.find_new(0) >= mesh.n_services


def test_addresses_of_changes_are_no_part_of_each_other() -> None:
    told = [places.address(serial) for serial in range(0, 60_000, 7)]
    assert len(set(told)) == len(told)
    # All have one length, so that none can hold another.
    assert {len(each) for each in told} == {len("10.250.100.100")}


def _tools() -> run.Tools:
    desk.find_program("cargo", "the load client is Rust")
    return run.Tools([sys.executable, "-m", "navarch", "serve"], run.build_client("dev"))


def _check(figures: dict[str, dict[str, Any]], n_told: int) -> None:
    assert figures["connect"]["n_resources"] > 0
    for scenario, n_rounds in (("endpoint", 4), ("virtual_service", 1), ("service", 1)):
        assert figures[scenario]["n_rounds"] == n_rounds
        assert figures[scenario]["n_told"] == n_told
        assert 0 < figures[scenario]["median_ms"] <= figures[scenario]["worst_ms"]
        assert figures[scenario]["sent_kb"] > 0
    assert figures["restart"]["sent_mb"] > 0


@pytest.mark.extension
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
def test_every_scenario_ends(*, is_delta: bool) -> None:
    case = suites.Case("tiny", MESH, N_SIDECARS, is_delta, n_rounds=4, churn_seconds=1.0)
    case = dataclasses.replace(case, settle_seconds=0.1)
    figures = run.measure_alone(case, _tools())
    _check(figures, n_told=N_SIDECARS)
    assert figures["connect"]["n_resources"] > 2 * N_CLUSTERS
    assert figures["churn"]["n_writes"] == 50
    assert figures["churn"]["sent_mb"] > 0 < figures["churn"]["n_probes"]
    assert figures["churn"]["median_ms"] <= figures["churn"]["p99_ms"]
    assert figures["no_op"]["sent_mb"] == 0
    resources_mb = figures["connect"]["sent_mb"]
    # In delta a sidecar that comes again tells what it has, and is sent the rest.
    assert (figures["restart"]["sent_mb"] < resources_mb / 10) == is_delta
    assert list(run.table({"delta": figures}))


@pytest.mark.extension
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_change_reaches_the_sidecars_of_its_namespace_alone() -> None:
    mesh = dataclasses.replace(MESH, is_scoped=True)
    scenarios = (*suites.CHANGES, "restart")
    case = suites.Case("scoped", mesh, N_SIDECARS, scenarios=scenarios, n_rounds=4)
    case = dataclasses.replace(case, settle_seconds=0.1)
    # Of 12 sidecars in 10 namespaces, two are in the first.
    _check(run.measure_alone(case, _tools()), n_told=2)


@pytest.mark.extension
def test_the_bench_of_injection_ends() -> None:
    for each in injection.run(n_pods=12, n_clients=(1, 3)):
        assert (each.n_pods, each.median_ms > 0, each.max_ms >= each.p99_ms) == (12, True, True)
