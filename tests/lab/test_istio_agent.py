"""Istio's own agent in place of navarch's: it gets its certificate and configuration from navarch, and traffic flows.

Envoy is a stock one here: it says so itself, beside the version that Istio's agent names as its own.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import desk
from tests.kubernetes.servers import build
from tests.lab import agents, meshes, network
from tests.lab.planned import Plan
from tests.lab.test_agents import TRUST, peer_authentication

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(240)]

ISTIOS = ("web-1", "server-1")
"""The pods with Istio's agent."""
LIFE_SECONDS = 10


def plan() -> Plan:
    """Return a client and a server with Istio's agent, a server with navarch's, and mutual TLS demanded."""
    http = meshes.Port("http", 80, 8080)
    return Plan(
        pods=(
            meshes.Pod("web-1", "10.77.1.1", "web", account="web", has_agent=True),
            meshes.Pod("server-1", "10.77.2.1", "server", account="server", has_agent=True),
            meshes.Pod("other-1", "10.77.2.2", "other", account="other", has_agent=True),
        ),
        services=(
            meshes.Service("server", "10.96.0.10", http),
            meshes.Service("other", "10.96.0.20", http),
        ),
        rules={"strict": peer_authentication({"mtls": {"mode": "STRICT"}})},
    )


class IstioStage(agents.AgentStage):
    """A mesh in which some sidecars are children of Istio's agent."""

    def __init__(self) -> None:
        super().__init__(plan())
        servers = build.find_servers()
        self._istio = Path(shutil.copy2(servers.pilot_agent, self.dir / "pilot-agent"))
        self._template = Path(shutil.copy2(servers.bootstrap_template, self.dir / "template.json"))
        self._template.chmod(0o644)

    def _start_envoy(self, pod: meshes.Pod) -> None:
        if pod.name not in ISTIOS:
            super()._start_envoy(pod)
            return
        home = self.dir / pod.name
        # Where Istio's injector mounts them.
        files = {
            "var/run/secrets/tokens/istio-token": self._issuer.issue(pod.account),
            "var/run/secrets/istio/root-cert.pem": (self.authority / "root-cert.pem").read_text(),
            "etc/istio/pod/labels": "".join(f'{k}="{v}"\n' for k, v in pod.labels.items()),
        }
        for name, text in files.items():
            file = home / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for path in (home, *home.rglob("*")):
            os.chown(path, network.PROXY_UID, network.PROXY_UID)
        proxy = {
            "discoveryAddress": agents.SECURE,
            "binaryPath": str(self._envoy),
            "proxyBootstrapTemplatePath": str(self._template),
            "concurrency": 1,
        }
        told = {
            "POD_NAME": pod.name,
            "POD_NAMESPACE": meshes.NAMESPACE,
            "INSTANCE_IP": pod.ip,
            "SERVICE_ACCOUNT": pod.account,
            "CA_ADDR": agents.SECURE,
            "PILOT_CERT_PROVIDER": "istiod",
            "PROXY_CONFIG": json.dumps(proxy),
            "SECRET_TTL": f"{LIFE_SECONDS}s",
            "ISTIO_META_CLUSTER_ID": "Kubernetes",
            "TRUST_DOMAIN": "cluster.local",
        }
        pairs = [f"{key}={value}" for key, value in told.items()]
        command = ["env", f"--chdir={home}", *pairs, str(self._istio), "proxy", "sidecar"]
        command += ["--domain", f"{meshes.NAMESPACE}.svc.cluster.local"]
        namespace = self._namespaces[pod.name]
        self._run(f"{pod.name}-envoy", namespace, command, network.PROXY_UID)


@pytest.fixture(scope="module")
def stage() -> Iterator[IstioStage]:
    """Start the mesh, once."""
    network.require()
    are_built = build.find_servers().are_built
    desk.require(are_built, "Istio's agent is not built: run `make servers`")
    with IstioStage() as made:
        made.wait_for("server")
        made.wait_for("other")
        yield made


def test_istios_agent_becomes_ready_and_has_mutual_tls(stage: IstioStage) -> None:
    """Its readiness probe succeeds, and names in certificates are those of the tokens, either way."""
    for pod in ISTIOS:
        assert stage.is_live(pod)
    for service in ("server", "other"):
        reply = stage.get(service)
        assert reply.status == 200
        assert f"URI={TRUST}/web" in reply.told["headers"]["x-forwarded-client-cert"]
        assert f"By={TRUST}/{service}" in reply.told["headers"]["x-forwarded-client-cert"]
    assert stage.n_refused() == 0


def test_istios_agent_renews_its_certificate(stage: IstioStage) -> None:
    """Before the end of a life of seconds there is the next, and the next request is taken."""
    stage.wait_renewed("web-1", stage.serial("web-1"), 2 * LIFE_SECONDS)
    assert stage.get("server").status == 200
    assert stage.get("other").status == 200


def test_istios_agent_follows_changes(stage: IstioStage) -> None:
    """A rule that comes later is in force through the agent's relay."""
    stage.write("mark.yaml", meshes.plain("other", "later"))
    stage.wait(lambda: stage.get("other").rule == "later", "the rule is in force")
