"""Fixtures of a real API server. `cluster` is shared by all tests: give each test's objects names of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import desk
from tests.kubernetes import cluster as clusters
from tests.kubernetes.servers import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def require_servers() -> None:
    """Skip the test where no servers are built; in CI, which builds them, fail it."""
    are_built = build.find_servers().are_built
    desk.require(are_built, "kube-apiserver and etcd are not built: run `make servers` (needs Go)")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    """Give the API server that all tests share; don't stop it."""
    require_servers()
    with clusters.Cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Callable[..., clusters.Cluster]]:
    """Give a function that starts API servers for one test alone, with further flags."""
    require_servers()
    made: list[clusters.Cluster] = []

    def start(*flags: str) -> clusters.Cluster:
        made.append(clusters.Cluster(tmp_path / f"cluster-{len(made)}", *flags))
        return made[-1]

    yield start
    for each in made:
        each.close()
