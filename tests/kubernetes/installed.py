"""A release of the chart on a real API server: its objects applied, its pod a process of this machine."""

from __future__ import annotations

import base64
import functools
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from deploy import render
from navarch.crds import manifests
from tests.kubernetes import api as apis
from tests.kubernetes.servers import build
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.kubernetes import cluster as clusters

ADMISSION: Final = "admissionregistration.k8s.io/v1"
WEBHOOKS: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_NAVARCH: Final = str(Path(sys.executable).with_name("navarch"))
_WAIT_SECONDS: Final = 60.0


def prepare(client: apis.Api) -> None:
    """Make what belongs to the cluster and to no release: the definitions, and the namespace."""
    client.apply(manifests.build_manifests())
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": render.NAMESPACE}})


def render_release(name: str, *flags: str) -> list[apis.Object]:
    """Return the objects that helm makes of the chart with those flags, without the definitions."""
    helm = build.find_servers().helm
    text = render.render_chart(helm, "--set", "crds.install=false", *flags, release=name)
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


class Release:
    """A release that runs.

    Attributes:
        objects: What the chart became.
        web: Where it answers over HTTP.
        port: Where its webhooks are, on loopback.
    """

    def __init__(
        self,
        cluster: clusters.Cluster,
        folder: Path,
        flags: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        name: str = "navarch",
    ) -> None:
        """Install and start it.

        Args:
            cluster: An API server that was prepared.
            folder: For its files and its log.
            flags: Of helm.
            variables: In the place of the Deployment's own; addresses that are not named here are free ones.
            name: Of the release.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.client: apis.Api = cluster.api()
        self.folder = folder
        self.objects = render_release(name, *flags)
        self.client.apply(self.objects)
        self.log = folder / "navarch.log"
        self._write_kubeconfig(cluster)
        self.process = self._start(variables or {})
        self.web = self.wait_for(r"HTTP on (\S+)")
        self.port = int(self.wait_for(r"webhooks on \S+:(\d+)"))

    def one(self, kind: str, name: str = "") -> apis.Object:
        """Return the one object of a kind, or that of a name."""
        (found,) = (
            each
            for each in self.objects
            if each["kind"] == kind and name in ("", each["metadata"]["name"])
        )
        return found

    def _write_kubeconfig(self, cluster: clusters.Cluster) -> None:
        name = self.one("ServiceAccount")["metadata"]["name"]
        path = f"/api/v1/namespaces/{render.NAMESPACE}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self.client.request("POST", path, body)["status"]["token"]
        made = cluster.kubeconfig_object()
        made["users"][0]["user"] = {"token": token}
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(made))

    def _start(self, variables: Mapping[str, str]) -> processes.Process:
        deployment = self.one("Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        env = {each["name"]: each.get("value", "") for each in container["env"]}
        # What the kubelet would fill in or mount, and addresses that are free here.
        env["POD_NAMESPACE"] = render.NAMESPACE
        env["POD_NAME"] = f"{deployment['metadata']['name']}-0"
        held = self.one("ConfigMap", f"{deployment['metadata']['name']}-injection")
        (self.folder / "settings").write_text(held["data"]["settings"])
        env |= {name: "127.0.0.1:0" for name in env if name.endswith("_ADDRESS")}
        env["NAVARCH_INJECTION_SETTINGS"] = str(self.folder / "settings")
        env["NAVARCH_AUTHORITY_DIR"] = str(self.folder / "authority")
        env["NAVARCH_KUBECONFIG"] = str(self.folder / "kubeconfig")
        told = [f"{name}={value}" for name, value in (env | dict(variables)).items()]
        return processes.Process(["env", *told, _NAVARCH, *container["args"]], self.log)

    def wait_for(self, pattern: str) -> str:
        """Wait until its log has a line; return the pattern's first group."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline and self.process.is_running:
            if found := re.search(pattern, self.log.read_text()):
                return found[1]
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def ask(self, path: str) -> tuple[int, str]:
        """Ask its HTTP port; return status code and text."""
        try:
            with urllib.request.urlopen(f"http://{self.web}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_ready(self) -> None:
        """Wait until proxies may come."""
        self.wait(lambda: self.ask("/ready")[0] == 200)

    def wait(self, look: Callable[[], Any]) -> Any:
        """Ask until there is an answer."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                if found := look():
                    return found
            except apis.ApiError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"{self.ask('/ready')[1]}\n{self.log.read_text()}")

    def bundles(self, kind: str) -> set[str]:
        """Return the roots in this release's webhook configurations of a kind; none while one has none."""
        mine = {each["metadata"]["name"] for each in self.objects if each["kind"] == kind}
        found = [e for e in self.client.list(ADMISSION, kind) if e["metadata"]["name"] in mine]
        hooks = [hook["clientConfig"] for each in found for hook in each["webhooks"]]
        told = {base64.b64decode(hook.get("caBundle", "")).decode() for hook in hooks}
        return told if all(told) else set()

    def wait_published(self) -> str:
        """Wait until all its webhook configurations have the roots; return them."""
        (root,) = {
            each for kind in WEBHOOKS for each in self.wait(functools.partial(self.bundles, kind))
        }
        return str(root)

    def redirect_webhooks(self) -> None:
        """Lead the API server's questions to the process, where there is no kube-proxy."""
        for wanted in self.objects:
            if wanted["kind"] not in WEBHOOKS:
                continue
            name = wanted["metadata"]["name"]
            configured = self.client.get(ADMISSION, wanted["kind"], "", name)
            for hook in configured["webhooks"]:
                path = hook["clientConfig"].pop("service")["path"]
                hook["clientConfig"]["url"] = f"https://localhost:{self.port}{path}"
            self.client.request("PUT", self.client.path_of(configured), configured)
