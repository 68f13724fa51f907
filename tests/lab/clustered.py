"""A mesh on a real API server: releases of the chart on the node, and pods that run as their objects say."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from tests.kubernetes import cluster as clusters
from tests.kubernetes import installed
from tests.kubernetes import mesh as meshes
from tests.kubernetes.servers import build
from tests.lab import agents, client, kubelet, network, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.kubernetes import api as apis

P = ParamSpec("P")
T = TypeVar("T")

APP: Final = "app:1"
TOOL: Final = "python:3"
PROXY: Final = "navarch-proxy:1"
ISTIO: Final = "istio/proxyv2:1"
_REPOSITORY: Final = Path(__file__).parents[2]
_APP_PORT: Final = 8080
_SECURE_PORT: Final = 15012
_WEBHOOK_PORT: Final = 15017


class Stage:
    """A cluster whose one node is the network's; a context manager that leaves nothing behind.

    Attributes:
        api: What tests ask and tell the API server with, by `at_node`.
        releases: By their revision.
    """

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="navarch-lab-"))
        # Containers that are not root read and run what lies here.
        self.dir.chmod(0o755)
        self.releases: dict[str, installed.Release] = {}
        self.pods: dict[str, kubelet.RunningPod] = {}
        self._namespaces: dict[str, network.Namespace] = {}
        self._hosts: dict[str, str] = {}
        self._network: network.Network | None = None
        self._cluster: clusters.Cluster | None = None
        self.api: apis.Api

    def __enter__(self) -> Self:
        try:
            self._network = network.Network()
            self._cluster = self.at_node(clusters.Cluster, self.dir / "cluster")
            self.api = self._cluster.api()
            self.at_node(installed.prepare, self.api)
            self._node = kubelet.Node(self.api, self._make_images(), self._hosts, self.dir / "pods")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods.values():
            pod.tell_to_end()
        for pod in self.pods.values():
            with contextlib.suppress(AssertionError):
                pod.stop()
        for release in self.releases.values():
            release.process.stop()
        if self._cluster is not None:
            self._cluster.close()
        if self._network is not None:
            self._network.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def at_node(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread of the node's namespace, where the API server and navarch are."""
        assert self._network is not None
        return self._network.node.submit(call, *args, **kwargs).result()

    def apply(self, *objects: apis.Object) -> None:
        """Do what `kubectl apply --server-side` does."""
        self.at_node(self.api.apply, objects)

    def install(self, revision: str, ip: str, *flags: str) -> installed.Release:
        """Install the chart under a name and address of its own; return it when proxies may come."""
        assert self._network is not None
        assert self._cluster is not None
        self._network.add_node_address(ip)
        name = f"navarch-{revision}"
        variables = {
            "NAVARCH_SECURE_GRPC_ADDRESS": f"{ip}:{_SECURE_PORT}",
            "NAVARCH_HTTPS_ADDRESS": f"{ip}:{_WEBHOOK_PORT}",
            "NAVARCH_DRAIN_SECONDS": "1",
        }
        told = ("--set", f"revision={revision}", *flags)
        made = self.at_node(
            installed.Release, self._cluster, self.dir / name, told, variables, name
        )
        self.releases[revision] = made
        host = f"istiod-{revision}"
        # What the cluster's DNS and kube-proxy would do for its Service.
        self._hosts[f"{host}.istio-system.svc"] = ip
        service = self.at_node(self.api.get, "v1", "Service", "istio-system", host)
        self._network.lead(service["spec"]["clusterIP"], 443, f"{ip}:{_WEBHOOK_PORT}")
        self.at_node(made.wait_ready)
        self.at_node(made.wait_published)
        return made

    def move_tag(self, tag: str, revision: str) -> None:
        """Make a tag that of another revision, by the command of docs/upgrade.md."""
        flags = ("--set", f"revision={revision}", "--set", f"tags={{{tag}}}")
        only = ("--show-only", "templates/tags.yaml")
        self.apply(*installed.render_release(f"navarch-{revision}", *flags, *only))

    def create_pod(self, pod: apis.Object, ip: str) -> kubelet.RunningPod:
        """Create a pod, which whoever injects it may change, and run what the API server has then."""
        assert self._network is not None
        metadata = pod["metadata"]
        self.apply(account(metadata["name"], metadata["namespace"]))
        made = self.at_node(self.api.create, pod)
        namespace = self._network.add(metadata["name"], ip, has_redirection=False)
        running = self.at_node(kubelet.RunningPod, made, self._node, namespace, ip)
        self._namespaces[metadata["name"]] = namespace
        self.pods[metadata["name"]] = running
        self.at_node(running.start)
        return running

    def delete_pod(self, name: str) -> dict[str, int]:
        """Delete a pod; return its containers' exit codes."""
        running = self.pods.pop(name)
        codes = self.at_node(running.stop)
        self.at_node(self.api.delete, running.pod)
        self._namespaces.pop(name).remove()
        return codes

    def serve(self, service: str, namespace: str, ip: str, *pods: str) -> None:
        """Make a Service of those pods at an address, as Kubernetes' controllers do."""
        made = meshes.service(service, namespace)
        made["spec"]["clusterIP"] = ip
        made["spec"]["ports"][0]["targetPort"] = _APP_PORT
        ends = meshes.slice_of(service, namespace=namespace)
        ends["endpoints"] = [
            {
                "addresses": [self.pods[name].ip],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": name, "namespace": namespace},
            }
            for name in pods
        ]
        self.apply(made, ends)

    def ask(self, pod: str, request: client.Request) -> client.Reply:
        """Make an HTTP request as a pod's application does."""
        return self._namespaces[pod].submit(client.ask, request).result()

    def wait(self, is_true: Callable[[], bool], what: str, seconds: float = 40) -> None:
        """Wait until something is true; a failure tells what all processes have said."""
        try:
            processes.wait_until(is_true, what, seconds)
        except AssertionError as error:
            logs = [each.process.tail() for each in self.releases.values()]
            logs += [
                pod.log(each["name"])[-2000:]
                for pod in self.pods.values()
                for each in pod.containers
            ]
            raise AssertionError("\n".join([str(error), *logs])) from None

    def _make_images(self) -> dict[str, kubelet.Image]:
        envoy, agent = processes.find_envoy(), agents.find_agent()
        servers = build.find_servers()
        ours = self._make_folder("navarch", envoy=envoy, **{"navarch-agent": agent})
        theirs = self._make_folder(
            "istio", envoy=envoy, **{"pilot-agent": Path(servers.pilot_agent)}
        )
        template = {"envoy_bootstrap_tmpl.json": Path(servers.bootstrap_template)}
        istio = {
            "/usr/local/bin": theirs,
            "/var/lib/istio/envoy": self._make_folder("template", **template),
        }
        return {
            APP: kubelet.python_image(("/app/workloads.py",), {"/app": Path(__file__).parent}),
            TOOL: kubelet.python_image(()),
            PROXY: proxy_image(ours),
            ISTIO: kubelet.Image(("/usr/local/bin/pilot-agent",), folders=istio),
        }

    def _make_folder(self, name: str, **files: Path) -> Path:
        made = self.dir / "images" / name
        made.mkdir(parents=True)
        for target, file in files.items():
            shutil.copy(file, made / target)
            (made / target).chmod(0o755)
        return made


def proxy_image(folder: Path) -> kubelet.Image:
    """Return the image of the stage `proxy` of the Dockerfile, with its files from a folder of this machine."""
    text = (_REPOSITORY / "deploy" / "Dockerfile").read_text()
    stage = text.partition(" AS proxy\n")[2].partition("\nFROM ")[0]
    words = {
        name: re.findall(r'"([^"]+)"', told)
        for name, told in re.findall(r"^(ENTRYPOINT|CMD) (.+)$", stage, re.MULTILINE)
    }
    places = [Path(each) for each in re.findall(r"^COPY \S+ \S+ (\S+)$", stage, re.MULTILINE)]
    assert {place.name for place in places} == {file.name for file in folder.iterdir()}
    (directory,) = {str(place.parent) for place in places}
    found = re.search(r"^USER (\d+):", stage, re.MULTILINE)
    assert found is not None
    return kubelet.Image(
        tuple(words["ENTRYPOINT"]), tuple(words["CMD"]), {directory: folder}, int(found[1])
    )


def account(name: str, namespace: str) -> apis.Object:
    """Make a service account."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def namespace(name: str, labels: Mapping[str, str]) -> apis.Object:
    """Make a namespace."""
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def pod(
    name: str,
    namespace: str,
    annotations: Mapping[str, str] | None = None,
    inits: Sequence[apis.Object] = (),
) -> apis.Object:
    """Make a pod of one HTTP server, whose readiness is asked for."""
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    app: dict[str, Any] = {
        "name": "app",
        "image": APP,
        "args": ["http", name, str(_APP_PORT)],
        "ports": [{"name": "http", "containerPort": _APP_PORT}],
        "readinessProbe": probe,
    }
    spec = {"serviceAccountName": name, "containers": [app], "initContainers": list(inits)}
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {"app": name, "version": "v1"},
        "annotations": dict(annotations or {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
