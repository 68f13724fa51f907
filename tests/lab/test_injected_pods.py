"""Pods that the API server took and the webhook injected, run as they came out of it: the whole way of a user's pod.

The chart's release answers a real API server; containers run as the pods' objects say, and traffic is what is asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kubernetes import conftest as requirements
from tests.lab import client, clustered, network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kubernetes import api as apis
    from tests.kubernetes import installed

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.envoy]

SHOP, FILES = "shop", "files"
TAG = "prod"
SERVER_IP, FILES_IP, ISTIO_IP = "10.96.0.10", "10.96.0.20", "10.96.0.30"
ASK = f"""
import json, urllib.request
request = urllib.request.Request("http://{SERVER_IP}/", headers={{"Host": "server"}})
print(json.load(urllib.request.urlopen(request, timeout=5))["headers"]["x-forwarded-client-cert"])
"""
SETTINGS = {
    "proxy": {"agent": "navarch", "image": clustered.PROXY},
    "init": {"image": clustered.ISTIO},
    "templates": {
        "istio": {
            "spec": {
                "containers": [
                    {
                        "name": "istio-proxy",
                        "image": clustered.ISTIO,
                        "command": ["/usr/local/bin/pilot-agent"],
                    }
                ]
            }
        }
    },
}
FLAGS = (
    *("--set-json", f"injection.settings={json.dumps(SETTINGS)}"),
    *("--set", "meshConfig.defaultConfig.terminationDrainDuration=1s"),
)


def strict(namespace: str) -> apis.Object:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def inject_offline(stage: clustered.Stage, pod: apis.Object) -> apis.Object:
    """Return what `navarch inject -f` makes of a pod, by the settings that the release's webhook has."""
    file = stage.dir / "pod.yaml"
    own = clustered.namespace(pod["metadata"]["namespace"], {"istio.io/rev": "stable"})
    file.write_text(yaml.safe_dump_all([own, pod]))
    settings = stage.releases["stable"].folder / "settings"
    command = [sys.executable, "-m", "navarch", "inject", "-f", str(file)]
    command += ["--settings", str(settings)]
    made = subprocess.run(command, check=True, capture_output=True, timeout=60)
    told: list[apis.Object] = list(yaml.safe_load_all(made.stdout))
    return told[-1]


@pytest.fixture(scope="module")
def stage() -> Iterator[clustered.Stage]:
    """Start the cluster, a release with a tag, and a pod of each way of injection."""
    network.require()
    requirements.require_servers()
    with clustered.Stage() as made:
        made.install("stable", "10.77.0.1", "--set", f"tags={{{TAG}}}", *FLAGS)
        made.apply(
            clustered.namespace(SHOP, {"istio.io/rev": TAG}),
            clustered.namespace(FILES, {}),
            strict(SHOP),
            strict(FILES),
        )
        made.create_pod(clustered.pod("server", SHOP), "10.77.1.1")
        made.serve("server", SHOP, SERVER_IP, "server")
        ordinary = clustered.pod("files", FILES, {"sidecar.istio.io/nativeSidecar": "false"})
        made.create_pod(inject_offline(made, ordinary), "10.77.1.2")
        made.serve("files", FILES, FILES_IP, "files")
        istio = clustered.pod("istio", SHOP, {"inject.istio.io/templates": "sidecar,istio"})
        made.create_pod(istio, "10.77.1.3")
        made.serve("istio", SHOP, ISTIO_IP, "istio")
        ask = {"name": "ask", "image": clustered.TOOL, "args": ["-c", ASK]}
        made.create_pod(clustered.pod("web", SHOP, inits=[ask]), "10.77.1.4")
        yield made


def names(containers: list[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in containers]


def ask(stage: clustered.Stage, source: str, service: str, ip: str) -> client.Reply:
    """Ask a service by its address, as the application of a pod does."""
    return stage.ask(source, client.Request(service, ip=ip, port=80))


def wait_answer(stage: clustered.Stage, source: str, service: str, ip: str) -> None:
    """Wait until a service answers a pod."""
    stage.wait(lambda: ask(stage, source, service, ip).status == 200, f"{service} answers {source}")


def test_each_way_of_injection_makes_the_pod_that_it_promises(stage: clustered.Stage) -> None:
    spec = stage.pods["web"].pod["spec"]
    assert names(spec["initContainers"]) == ["istio-init", "istio-proxy", "ask"]
    assert names(spec["containers"]) == ["app"]
    spec = stage.pods["files"].pod["spec"]
    assert names(spec["initContainers"]) == ["istio-init"]
    assert names(spec["containers"]) == ["app", "istio-proxy"]
    proxy = stage.pods["istio"].pod["spec"]["initContainers"][1]
    assert proxy["image"] == clustered.ISTIO


@pytest.mark.parametrize("source", ["web", "server", "files", "istio"])
@pytest.mark.parametrize(
    ("target", "namespace", "ip"),
    [("server", SHOP, SERVER_IP), ("files", FILES, FILES_IP), ("istio", SHOP, ISTIO_IP)],
)
@pytest.mark.timeout(240)
def test_traffic_between_injected_pods_has_mutual_tls(
    stage: clustered.Stage, source: str, target: str, namespace: str, ip: str
) -> None:
    """Names in certificates are those of the pods' accounts, by tokens that the API server gave out."""
    host = f"{target}.{namespace}"
    wait_answer(stage, source, host, ip)
    reply = ask(stage, source, host, ip)
    assert (reply.status, reply.pod) == (200, target)
    if source == target:
        return
    told = reply.told["headers"]["x-forwarded-client-cert"]
    own = stage.pods[source].pod["metadata"]["namespace"]
    assert f"By=spiffe://cluster.local/ns/{namespace}/sa/{target}" in told
    assert f"URI=spiffe://cluster.local/ns/{own}/sa/{source}" in told


def test_an_init_container_is_in_the_mesh(stage: clustered.Stage) -> None:
    """The proxy is a sidecar container: it serves before the application's first container runs."""
    told = stage.pods["web"].log("ask")
    assert f"URI=spiffe://cluster.local/ns/{SHOP}/sa/web" in told


@pytest.mark.parametrize("target", ["server", "files", "istio"])
def test_what_comes_past_the_mesh_is_refused(stage: clustered.Stage, target: str) -> None:
    """Capture sends it to the proxy, which wants a certificate; the kubelet's probes went through the agent."""
    ip = stage.pods[target].ip
    reply = stage.at_node(client.get, ip, 8080, "/", {})
    assert reply.status == 0, reply.body
    assert stage.at_node(client.get, ip, 15020, "/app-health/app/readyz", {}).status == 200


def test_a_tag_moves_to_another_revision_under_traffic(stage: clustered.Stage) -> None:
    """New pods are the other revision's; those of the former one go on, and both kinds talk with each other."""
    lost: list[client.Reply] = []
    is_over = threading.Event()

    def insist() -> None:
        while not is_over.wait(0.02):
            reply = ask(stage, "web", "server", SERVER_IP)
            if reply.status != 200:
                lost.append(reply)

    traffic = threading.Thread(target=insist)
    traffic.start()
    try:
        canary = stage.install("canary", "10.77.0.2", *FLAGS)
        roots = stage.at_node(stage.api.get, "v1", "ConfigMap", SHOP, "istio-ca-root-cert")
        stage.move_tag(TAG, "canary")
        moved = stage.create_pod(clustered.pod("moved", SHOP), "10.77.1.5")
        stage.serve("moved", SHOP, "10.96.0.40", "moved")
        status = json.loads(moved.pod["metadata"]["annotations"]["sidecar.istio.io/status"])
        assert status["revision"] == "canary"
        for source, target, ip in (
            ("moved", "server", SERVER_IP),
            ("web", "moved", "10.96.0.40"),
            ("istio", "moved", "10.96.0.40"),
        ):
            wait_answer(stage, source, target, ip)
        assert connected(canary, stage) == {"moved.shop"}
        assert connected(stage.releases["stable"], stage) >= {"web.shop", "server.shop"}
        again = stage.at_node(stage.api.get, "v1", "ConfigMap", SHOP, "istio-ca-root-cert")
        assert again["metadata"]["resourceVersion"] == roots["metadata"]["resourceVersion"]
        finish_move(stage)
    finally:
        is_over.set()
        traffic.join()
    assert lost == []


def finish_move(stage: clustered.Stage) -> None:
    """Start a pod anew after the move, then end the former revision: nobody needs it."""
    codes = stage.delete_pod("istio")
    assert set(codes) == {"app", "istio-proxy"}
    stage.create_pod(clustered.pod("istio", SHOP), "10.77.1.6")
    stage.serve("istio", SHOP, ISTIO_IP, "istio")
    wait_answer(stage, "web", "istio", ISTIO_IP)
    former = stage.releases["stable"]
    assert former.process.stop() == 0
    assert "ERROR" not in former.log.read_text()
    for source in ("web", "moved"):
        assert ask(stage, source, "server", SERVER_IP).status == 200


def connected(release: installed.Release, stage: clustered.Stage) -> set[str]:
    """Return the proxies of a release, as `pod.namespace`."""
    told = json.loads(stage.at_node(release.ask, "/debug/syncz")[1])
    return {each["proxy"].split("~")[2] for each in told}
