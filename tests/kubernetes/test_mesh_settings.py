"""The mesh's settings in the cluster: read from Istio's ConfigMap, changed at run time, and what they select."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kubernetes import mesh as meshes
from tests.kubernetes import proxies
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import api as apis
    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]

SELECTORS = """
discoverySelectors:
- matchLabels: {mesh: "yes"}
- matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: [always]}
"""


def namespace(name: str, **labels: str) -> apis.Object:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def config_map(name: str = "istio", **data: str) -> apis.Object:
    metadata = {"name": name, "namespace": "istio-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def start(own: clusters.Cluster, *objects: apis.Object) -> apis.Api:
    own.grant("navarch", meshes.RIGHTS)
    admin = own.api()
    admin.apply([namespace("istio-system"), *objects])
    return admin


def expect(proxy: proxies.Proxy, what: str, is_so: Callable[[dict[str, bytes]], bool]) -> None:
    processes.wait_until(lambda: is_so(proxy.state()["CDS"]), what, 40)


def timeout_of(clusters: dict[str, bytes], seconds: int) -> bool:
    """Whether any cluster has this connect timeout: field 4, a Duration of whole seconds."""
    wanted = bytes([0x22, 2, 8, seconds])
    return any(name.startswith("outbound|80") and wanted in raw for name, raw in clusters.items())


def test_mesh_config_is_read_from_the_config_map_and_followed(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    admin = start(own, config_map(mesh="connectTimeout: 7s\n"), meshes.service("a"))
    admin.apply(config_map("istio-canary", mesh="connectTimeout: 9s\n"))
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        with proxies.Proxy(navarch.grpc_port, proxies.sidecar("default")) as proxy:
            expect(proxy, "the first is in force", lambda made: timeout_of(made, 7))
            admin.apply(config_map(mesh="connectTimeout: 8s\n"))
            expect(proxy, "the change is in force", lambda made: timeout_of(made, 8))
            admin.apply(config_map(mesh="connectTimeout: [\n", meshNetworks="networks: {}"))
            processes.wait_until(
                lambda: "key mesh" in json.dumps(navarch.diagnostics()), "what is wrong is told", 20
            )
            assert timeout_of(proxy.state()["CDS"], 8), "what was read last stays in force"
            admin.apply(config_map(mesh="connectTimeout: 6s\n"))
            expect(proxy, "it is mended", lambda made: timeout_of(made, 6))
            processes.wait_until(
                lambda: "key mesh" not in json.dumps(navarch.diagnostics()), "it is well", 20
            )
            admin.delete(config_map())
            expect(proxy, "defaults are in force", lambda made: timeout_of(made, 10))
    flags = ("--revision", "canary")
    with meshes.Navarch(tmp_path / "canary", own.kubeconfig(), *flags) as canary:
        canary.wait_ready()
        with proxies.Proxy(canary.grpc_port, proxies.sidecar("default")) as proxy:
            expect(proxy, "the revision's own is in force", lambda made: timeout_of(made, 9))


def names(made: dict[str, bytes]) -> set[str]:
    """Return the services that a proxy has clusters of."""
    return {name.split("|")[3].split(".")[0] for name in made if name.startswith("outbound|80|")}


def test_discovery_selectors_keep_namespaces_out_and_follow_their_labels(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    spaces = {"in": {"mesh": "yes"}, "out": {}, "always": {}}
    admin = start(
        own,
        config_map(mesh=SELECTORS),
        *(namespace(name, **labels) for name, labels in spaces.items()),
        *(meshes.service(f"of-{name}", name) for name in spaces),
        meshes.service("of-root", "istio-system"),
    )
    admin.apply([meshes.slice_of(f"of-{name}", "10.9.9.9", namespace=name) for name in spaces])

    def objects(navarch: meshes.Navarch) -> float:
        return navarch.metric("navarch_objects")

    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        with proxies.Proxy(navarch.grpc_port, proxies.sidecar("always")) as proxy:

            def expect_names(*wanted: str) -> None:
                expect(proxy, f"{wanted} are seen", lambda made: names(made) == set(wanted))

            expect_names("of-in", "of-always", "of-root")
            n_before = objects(navarch)
            relabel(admin, "out", {"mesh": "yes"})
            expect_names("of-in", "of-out", "of-always", "of-root")
            processes.wait_until(
                lambda: objects(navarch) == n_before + 2, "its Service and slice were read", 10
            )
            relabel(admin, "in", {"mesh": None})
            expect_names("of-out", "of-always", "of-root")
            processes.wait_until(
                lambda: objects(navarch) == n_before, "the source gave them up", 10
            )
            admin.apply(namespace("new", mesh="yes"))
            admin.apply(meshes.service("of-new", "new"))
            expect_names("of-out", "of-new", "of-always", "of-root")
            admin.apply(config_map(mesh="{}"))
            every = {"of-in", "of-out", "of-always", "of-new", "of-root"}
            expect(proxy, "without selectors all are seen", lambda made: names(made) >= every)


def relabel(admin: apis.Api, name: str, labels: dict[str, Any]) -> None:
    admin.patch(namespace(name), {"metadata": {"labels": labels}})
