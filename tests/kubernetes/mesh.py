"""A navarch that runs against clusters of the tests, in a process of its own, and what is asked of it."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final, Self

from navarch.crds import manifests
from tests.kubernetes import api as apis
from tests.kubernetes import cluster as clusters
from tests.lab import processes

if TYPE_CHECKING:
    from pathlib import Path

RIGHTS: Final[list[dict[str, list[str]]]] = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["*"], "resources": ["*/status"], "verbs": ["update"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "update"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update"]},
    {
        "apiGroups": ["authentication.k8s.io", "authorization.k8s.io"],
        "resources": ["tokenreviews", "subjectaccessreviews"],
        "verbs": ["create"],
    },
]
_READY_SECONDS: Final = 60.0


class Navarch:
    """`navarch serve` of a kubeconfig."""

    def __init__(self, folder: Path, kubeconfig: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.grpc_port, self.http_port = clusters.free_port(), clusters.free_port()
        command = [
            *(sys.executable, "-m", "navarch", "serve", "--kubeconfig", str(kubeconfig)),
            *("--grpc-address", f"127.0.0.1:{self.grpc_port}"),
            *("--http-address", f"127.0.0.1:{self.http_port}"),
            *("--drain-seconds", "0"),
            *flags,
        ]
        self.process = processes.Process(command, folder / "navarch.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop(signal.SIGTERM)

    def get(self, path: str) -> tuple[int, str]:
        """Ask its HTTP port; return status code and text, (0, "") while it does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.http_port}{path}", timeout=5
            ) as told:
                return told.status, told.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> float:
        """Wait until proxies may come; return how long it took."""
        try:
            return processes.wait_until(
                lambda: self.get("/ready")[0] == 200, "navarch is ready", _READY_SECONDS
            )
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.get('/ready')} {self.process.tail()}") from error

    def metric(self, name: str, **labels: str) -> float:
        """Return a figure, summed over what the labels leave open."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            known, _, rest = head.partition("{")
            if known == name and all(f'{k}="{v}"' in rest for k, v in labels.items()):
                total += float(value)
        return total

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return what it says is wrong."""
        told: list[dict[str, Any]] = json.loads(self.get("/debug/diagnosticsz")[1])
        return told


def prepare(own: clusters.Cluster, *kinds: str) -> apis.Api:
    """Give navarch its rights in a cluster, make the system namespace and the definitions of these kinds."""
    own.grant(clusters.NAVARCH, RIGHTS)
    admin = own.api()
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    if kinds:
        install_definitions(admin, *kinds)
    return admin


def install_definitions(api: apis.Api, *kinds: str) -> None:
    """Install the definitions of the mesh's kinds, all or those named, and wait until they are served."""
    for made in manifests.build_manifests():
        if kinds and made["spec"]["names"]["kind"] not in kinds:
            continue
        api.apply(made)
        group, version = made["spec"]["group"], made["spec"]["versions"][0]["name"]
        wait_served(api, f"{group}/{version}", made["spec"]["names"]["kind"])


def wait_served(api: apis.Api, api_version: str, kind: str) -> None:
    """Wait until the API server takes objects of a kind."""

    def is_served() -> bool:
        with contextlib.suppress(apis.ApiError, KeyError):
            api.list(api_version, kind)
            return True
        return False

    processes.wait_until(is_served, f"{kind} is served", 30)


def service(name: str, namespace: str = "default", **labels: str) -> apis.Object:
    """Make a Service of one HTTP port."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": name}},
    }


def slice_of(service_name: str, *addresses: str, namespace: str = "default") -> apis.Object:
    """Make the EndpointSlice of a Service, of endpoints without Pods."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def virtual_service(name: str, host: str, destination: str, **extra: Any) -> apis.Object:
    """Make a VirtualService of one route."""
    route = {"route": [{"destination": {"host": destination}}], **extra}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hosts": [host], "http": [route]},
    }


def pause(seconds: float) -> None:
    """Let time pass in which nothing must happen."""
    time.sleep(seconds)
