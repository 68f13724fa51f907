"""What agents of machines tell of their health stands in WorkloadEntries, and decides who gets traffic."""

from __future__ import annotations

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

NETWORKING = "networking.istio.io/v1"
HEALTH = "type.googleapis.com/istio.v1.HealthInformation"
CLUSTER = "outbound|80||vm.example"
ENTRY = "vm-10.0.0.9"
DOWN = {"10.0.0.9"}


def service_entry() -> apis.Object:
    return {
        "apiVersion": NETWORKING,
        "kind": "ServiceEntry",
        "metadata": {"name": "vm", "namespace": "default"},
        "spec": {
            "hosts": ["vm.example"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "workloadSelector": {"labels": {"app": "vm"}},
        },
    }


def workload_entry() -> apis.Object:
    return {
        "apiVersion": NETWORKING,
        "kind": "WorkloadEntry",
        "metadata": {
            "name": ENTRY,
            "namespace": "default",
            "annotations": {"proxy.istio.io/health-checks-enabled": "true"},
        },
        "spec": {"address": "10.0.0.9", "labels": {"app": "vm"}, "serviceAccount": "vm"},
    }


def healthy(admin: apis.Api) -> dict[str, Any]:
    told = admin.get(NETWORKING, "WorkloadEntry", "default", ENTRY).get("status", {})
    every = told.get("conditions", ())
    made: dict[str, Any] = next((each for each in every if each["type"] == "Healthy"), {})
    return made


def is_known(proxy: proxies.Proxy) -> bool:
    return proxy.endpoints(CLUSTER) == {"10.0.0.9:80"}


@pytest.mark.parametrize("form", [stream.SOTW, stream.DELTA])
def test_an_agents_word_is_written_and_decides(
    form: str, own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    admin = meshes.prepare(own, "ServiceEntry", "WorkloadEntry")
    admin.apply([service_entry(), workload_entry()])
    node = proxies.sidecar("default", "10.0.0.9", AUTO_REGISTER_GROUP="vm", SERVICE_ACCOUNT="vm")
    with meshes.Navarch(tmp_path / "one", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        with proxies.Proxy(navarch.grpc_port, proxies.sidecar("default")) as proxy:

            def expect(down: set[str], status: str) -> None:
                is_so = lambda: is_known(proxy) and proxy.unhealthy(CLUSTER) == down  # noqa: E731
                processes.wait_until(is_so, f"{down} are down", 30)
                is_written = lambda: healthy(admin).get("status") == status  # noqa: E731
                processes.wait_until(is_written, f"Healthy is {status}", 30)

            address = f"127.0.0.1:{navarch.grpc_port}"
            with stream.open_stream(address, form, node) as agent:
                agent.send("CDS")
                agent.expect("CDS")
                processes.wait_until(lambda: is_known(proxy), "the endpoint is there", 30)
                assert proxy.unhealthy(CLUSTER) == DOWN, "nobody has said that it is up"
                agent.send(HEALTH)
                expect(set(), "True")
                agent.send(HEALTH, error="the application answers 503")
                expect(DOWN, "False")
                assert healthy(admin)["message"] == "the application answers 503"
    with meshes.Navarch(tmp_path / "two", own.kubeconfig()) as navarch:
        navarch.wait_ready()
        with proxies.Proxy(navarch.grpc_port, proxies.sidecar("default")) as proxy:
            processes.wait_until(lambda: is_known(proxy), "the endpoint is there", 30)
            assert proxy.unhealthy(CLUSTER) == DOWN, "a restarted one knows it by the condition"
