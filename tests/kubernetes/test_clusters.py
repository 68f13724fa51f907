"""One mesh of several clusters and networks: whose address, whose endpoints and whose gateway a proxy gets."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.kubernetes import cluster as clusters
from tests.kubernetes import mesh as meshes
from tests.kubernetes import proxies
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kubernetes import api as apis

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]

NEAR, FAR = "Kubernetes", "far"
NEAR_IP, FAR_IP = "10.96.0.11", "10.96.0.22"
NEAR_END, FAR_END = "10.1.0.1:8080", "10.2.0.1:8080"
NAME = "a.default.svc.cluster.local"
CLUSTER = f"outbound|80||{NAME}"
ROUTE = "80"
GATEWAY, OTHER_GATEWAY = "192.0.2.7", "192.0.2.8"


def system(network: str) -> apis.Object:
    labels = {"topology.istio.io/network": network}
    metadata = {"name": "istio-system", "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def networks(gateway: str) -> apis.Object:
    """Return the mesh's settings with a network that the far cluster is, behind a gateway."""
    told = {
        "endpoints": [{"fromRegistry": FAR}],
        "gateways": [{"address": gateway, "port": 15443}],
    }
    near = {"endpoints": [{"fromRegistry": NEAR}], "gateways": []}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"meshNetworks": json.dumps({"networks": {"east": near, "west": told}})},
    }


def populate(admin: apis.Api, service_ip: str, address: str) -> None:
    """Make the Service `a` with one Pod, which has mutual TLS."""
    service = meshes.service("a")
    service["spec"]["clusterIP"] = service_ip
    pod: apis.Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "a-1",
            "namespace": "default",
            "labels": {"app": "a", "security.istio.io/tlsMode": "istio"},
        },
        "spec": {"serviceAccountName": "a", "containers": [{"name": "app", "image": "app:1"}]},
    }
    ends = meshes.slice_of("a", address)
    ends["endpoints"][0]["targetRef"] = {"kind": "Pod", "name": "a-1", "namespace": "default"}
    admin.apply([service, pod])
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    admin.patch(pod, {"status": status}, "status")
    admin.apply(ends)


class Pair:
    """Two clusters that have the same Service, and a navarch that reads both."""

    def __init__(self, near: clusters.Cluster, far: clusters.Cluster, folder: Path) -> None:
        self.near, self.far = near, far
        self.folder = folder
        self.admin, self.far_admin = meshes.prepare(near), meshes.prepare(far)
        populate(self.admin, NEAR_IP, "10.1.0.1")
        populate(self.far_admin, FAR_IP, "10.2.0.1")
        self.admin.apply(far.remote_secret(FAR))

    @contextlib.contextmanager
    def proxies(self) -> Iterator[tuple[proxies.Proxy, proxies.Proxy]]:
        """Run navarch with a proxy in each cluster, which say that they are in the networks `east` and `west`."""
        with contextlib.ExitStack() as stack:
            self.navarch = stack.enter_context(
                meshes.Navarch(self.folder / "navarch", self.near.kubeconfig())
            )
            self.navarch.wait_ready()
            nodes = (
                proxies.sidecar("default", "10.1.0.9", NEAR, NETWORK="east"),
                proxies.sidecar("default", "10.2.0.9", FAR, NETWORK="west"),
            )
            port = self.navarch.grpc_port
            near, far = (stack.enter_context(proxies.Proxy(port, node)) for node in nodes)
            yield near, far


@pytest.fixture
def pair(own_cluster: Callable[..., clusters.Cluster], tmp_path: Path) -> Pair:
    return Pair(own_cluster(), own_cluster(), tmp_path)


def expect_endpoints(proxy: proxies.Proxy, *wanted: str) -> None:
    try:
        processes.wait_until(lambda: proxy.endpoints(CLUSTER) == set(wanted), "", 30)
    except AssertionError:
        raise AssertionError(f"{proxy.endpoints(CLUSTER)} in place of {wanted}") from None


def expect_address(proxy: proxies.Proxy, *wanted: str) -> None:
    def is_so() -> bool:
        domains = proxy.domains(ROUTE)
        return NAME in domains and {NEAR_IP, FAR_IP, "10.96.0.33"} & domains == set(wanted)

    processes.wait_until(is_so, f"{wanted} is the Service's address", 30)


def test_a_service_has_the_address_of_the_clients_cluster(pair: Pair) -> None:
    """Routes lead by it there, also after it has changed, and after the other cluster has gone."""
    with pair.proxies() as (near, far):
        expect_address(near, NEAR_IP)
        expect_address(far, FAR_IP)
        for each in (near, far):
            expect_endpoints(each, NEAR_END, FAR_END)
        pair.far_admin.delete(meshes.service("a"))
        expect_address(far, NEAR_IP)
        expect_endpoints(near, NEAR_END)
        populate(pair.far_admin, "10.96.0.33", "10.2.0.1")
        expect_address(far, "10.96.0.33")
        expect_address(near, NEAR_IP)
        expect_endpoints(near, NEAR_END, FAR_END)
        pair.admin.delete(pair.far.remote_secret(FAR))
        expect_address(far, NEAR_IP)
        expect_endpoints(near, NEAR_END)
        expect_endpoints(far, NEAR_END)


def test_a_service_may_be_headless_in_one_cluster(pair: Pair) -> None:
    """Its clients have no address to route by, and all clients choose among the endpoints of both clusters."""
    pair.far_admin.delete(meshes.service("a"))
    populate(pair.far_admin, "None", "10.2.0.1")
    with pair.proxies() as (near, far):
        expect_address(near, NEAR_IP)
        expect_address(far)
        for each in (near, far):
            expect_endpoints(each, NEAR_END, FAR_END)
        pair.admin.delete(meshes.service("a"))
        populate(pair.admin, "None", "10.1.0.1")
        pair.far_admin.delete(meshes.service("a"))
        populate(pair.far_admin, FAR_IP, "10.2.0.1")
        expect_address(far, FAR_IP)
        expect_address(near)


def test_another_networks_endpoints_are_behind_its_gateway(pair: Pair) -> None:
    """What is told of networks is followed at run time, and a cluster that can't be reached keeps its place."""
    with pair.proxies() as (near, far):
        for each in (near, far):
            expect_endpoints(each, NEAR_END, FAR_END)
        pair.admin.apply(networks(GATEWAY))
        expect_endpoints(near, NEAR_END, f"{GATEWAY}:15443")
        # No gateway is told for the near network: what has one address only is asked there.
        expect_endpoints(far, NEAR_END, FAR_END)
        pair.far.stop_apiserver()
        pair.admin.apply(networks(OTHER_GATEWAY))
        expect_endpoints(near, NEAR_END, f"{OTHER_GATEWAY}:15443")
        processes.wait_until(
            lambda: "cluster far can't be read" in pair.navarch.get("/ready")[1], "it is told", 40
        )
        expect_endpoints(far, NEAR_END, FAR_END)
        pair.admin.delete(networks(OTHER_GATEWAY))
        expect_endpoints(near, NEAR_END, FAR_END)
        pair.admin.delete(pair.far.remote_secret(FAR))
        expect_endpoints(near, NEAR_END)
        assert near.emptied == []


def test_a_gateway_is_found_by_the_label_of_its_service(pair: Pair) -> None:
    """Networks by the label of the system namespace, and gateways by that of their Services, in each cluster."""
    pair.admin.apply(system("east"))
    pair.far_admin.apply(system("west"))
    for admin, network, address in (
        (pair.admin, "east", OTHER_GATEWAY),
        (pair.far_admin, "west", GATEWAY),
    ):
        make_gateway(admin, network, address)
    with pair.proxies() as (near, far):
        expect_endpoints(near, NEAR_END, f"{GATEWAY}:15443")
        expect_endpoints(far, FAR_END, f"{OTHER_GATEWAY}:15443")
        pair.far_admin.delete(gateway("west"))
        expect_endpoints(near, NEAR_END, FAR_END)
        make_gateway(pair.far_admin, "west", GATEWAY)
        expect_endpoints(near, NEAR_END, f"{GATEWAY}:15443")
        pair.far_admin.apply(system("east"))
        expect_endpoints(near, NEAR_END, FAR_END)


def gateway(network: str) -> apis.Object:
    labels = {"topology.istio.io/network": network}
    port = {"name": "tls", "port": 15443, "targetPort": 15443}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{network}-gateway", "namespace": "istio-system", "labels": labels},
        "spec": {"type": "LoadBalancer", "ports": [port], "selector": {"app": "gateway"}},
    }


def make_gateway(admin: apis.Api, network: str, address: str) -> None:
    admin.apply(gateway(network))
    ingress = {"loadBalancer": {"ingress": [{"ip": address}]}}
    admin.patch(gateway(network), {"status": ingress}, "status")
