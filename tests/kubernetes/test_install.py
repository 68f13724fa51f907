"""What the chart installs, run as its Deployment says, on a real API server and with the rights of its roles alone."""

from __future__ import annotations

import base64
import functools
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy import render
from navarch.crds import manifests
from tests.kubernetes import api
from tests.kubernetes.servers import build
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kubernetes.api import Api
    from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.extension, pytest.mark.timeout(300)]

NAVARCH = str(Path(sys.executable).with_name("navarch"))
WAIT_SECONDS = 60
SHOP = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}},
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {
        "serviceAccountName": "default",
        "containers": [{"name": "app", "image": "web:1"}],
    },
}


class Installed:
    """A release whose pod is a process of this machine."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.client: Api = cluster.api()
        self.folder = folder
        text = render.render_chart(build.find_servers().helm, "--set", "crds.install=false")
        self.objects = [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]
        self.client.apply(manifests.build_manifests())
        namespace = {"apiVersion": "v1", "kind": "Namespace"}
        self.client.apply([namespace | {"metadata": {"name": render.NAMESPACE}}, SHOP])
        self.client.apply(self.objects)
        self.log = folder / "navarch.log"
        self._write_kubeconfig(cluster)
        self.process = self._start()
        self.web = self.wait_for(r"HTTP on (\S+)")
        self.port = int(self.wait_for(r"webhooks on \S+:(\d+)"))

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        (found,) = (
            each
            for each in self.objects
            if each["kind"] == kind and name in ("", each["metadata"]["name"])
        )
        assert isinstance(found, dict)
        return found

    def _write_kubeconfig(self, cluster: Cluster) -> None:
        name = self.one("ServiceAccount")["metadata"]["name"]
        path = f"/api/v1/namespaces/{render.NAMESPACE}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self.client.request("POST", path, body)["status"]["token"]
        made = cluster.kubeconfig_object()
        made["users"][0]["user"] = {"token": token}
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(made))

    def _start(self) -> processes.Process:
        (container,) = self.one("Deployment")["spec"]["template"]["spec"]["containers"]
        env = {each["name"]: each.get("value", "") for each in container["env"]}
        # What the kubelet would fill in or mount, and addresses that are free here.
        env["POD_NAMESPACE"], env["POD_NAME"] = render.NAMESPACE, "navarch-0"
        settings = self.one("ConfigMap", "navarch-injection")["data"]["settings"]
        (self.folder / "settings").write_text(settings)
        env |= {name: "127.0.0.1:0" for name in env if name.endswith("_ADDRESS")}
        env["NAVARCH_INJECTION_SETTINGS"] = str(self.folder / "settings")
        env["NAVARCH_AUTHORITY_DIR"] = str(self.folder / "authority")
        env["NAVARCH_KUBECONFIG"] = str(self.folder / "kubeconfig")
        told = [f"{name}={value}" for name, value in env.items()]
        return processes.Process(["env", *told, NAVARCH, *container["args"]], self.log)

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and self.process.is_running:
            if found := re.search(pattern, self.log.read_text()):
                return found[1]
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def wait_ready(self) -> None:
        said, deadline = "", time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{self.web}/ready", timeout=5) as answer:
                    said = answer.read().decode()
                    return
            except urllib.error.HTTPError as error:
                said = error.read().decode()
            time.sleep(0.1)
        raise AssertionError(f"{said}\n{self.log.read_text()}")

    def wait(self, look: Callable[[], Any]) -> Any:
        """Ask until there is an answer."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                if found := look():
                    return found
            except api.ApiError:
                pass
            time.sleep(0.2)
        raise AssertionError(self.log.read_text())


@pytest.fixture
def installed(own_cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[Installed]:
    made = Installed(own_cluster(), tmp_path)
    yield made
    made.process.stop()


def test_a_release_is_ready_makes_its_authority_and_answers_the_api_server(
    installed: Installed,
) -> None:
    client = installed.client
    installed.wait_ready()
    secret = client.get("v1", "Secret", render.NAMESPACE, "istio-ca-secret")
    root = base64.b64decode(secret["data"]["root-cert.pem"]).decode()

    def bundles(kind: str) -> list[str]:
        group = "admissionregistration.k8s.io/v1"
        (found,) = client.list(group, kind)
        hooks = [each["clientConfig"].get("caBundle", "") for each in found["webhooks"]]
        return [base64.b64decode(each).decode() for each in hooks] if all(hooks) else []

    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert set(installed.wait(functools.partial(bundles, kind))) == {root}
        # No kube-proxy here: the Service's address leads nowhere, the process itself does.
        group = "admissionregistration.k8s.io/v1"
        configured = client.list(group, kind)[0] | {"apiVersion": group, "kind": kind}
        for hook in configured["webhooks"]:
            path = hook["clientConfig"].pop("service")["path"]
            hook["clientConfig"]["url"] = f"https://localhost:{installed.port}{path}"
        client.request("PUT", client.path_of(configured), configured)

    def roots() -> Any:
        found = client.get("v1", "ConfigMap", "shop", "istio-ca-root-cert")
        return found["data"]["root-cert.pem"]

    assert installed.wait(roots) == root

    def injected() -> Any:
        made = client.create(POD)
        client.delete(POD)
        return made["spec"].get("initContainers")

    names = [each["name"] for each in installed.wait(injected)]
    assert names == ["istio-init", "istio-proxy"]
    bad = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bad", "namespace": "shop"},
        "spec": {"hosts": ["*.*"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
    }
    with pytest.raises(api.ApiError, match=r"spec\.hosts\[0\]"):
        client.create(bad)
    told = installed.log.read_text().lower()
    assert "forbidden" not in told, told
    assert "traceback" not in told, told
