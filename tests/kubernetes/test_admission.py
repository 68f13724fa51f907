"""A real API server asks the webhooks: bad objects are refused, pods get their proxy, other kinds are never held up."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import pytest

from navarch import settings
from navarch.crds import manifests
from navarch.webhooks import certificates, door
from tests.kubernetes import api
from tests.unit.webhooks import conftest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kubernetes.api import Api
    from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

GROUP = "admissionregistration.k8s.io/v1"
NAMESPACE = "admission"
ROUTE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "web", "namespace": NAMESPACE},
    "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": NAMESPACE, "labels": {"app": "web"}},
    "spec": {
        # The server that would fill it in is switched off in these tests.
        "serviceAccountName": "default",
        "containers": [
            {
                "name": "app",
                "image": "web:1",
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
            }
        ],
        "initContainers": [{"name": "migrate", "image": "m"}],
    },
}


def configuration(kind: str, path: str, port: int, roots: bytes, rule: dict[str, Any]) -> Any:
    return {
        "apiVersion": GROUP,
        "kind": kind,
        "metadata": {"name": f"tests{path.replace('/', '-')}"},
        "webhooks": [
            {
                "name": "tests.navarch.io",
                "clientConfig": {
                    "url": f"https://127.0.0.1:{port}{path}",
                    "caBundle": base64.b64encode(roots).decode(),
                },
                "rules": [rule | {"apiVersions": ["*"], "scope": "*"}],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 5,
            }
        ],
    }


class Asked:
    """An API server that asks webhooks."""

    def __init__(self, client: Api, webhooks: door.Webhooks) -> None:
        self.client = client
        self.webhooks = webhooks

    def wait_refused(self, bad: dict[str, Any]) -> str:
        """Create until it is refused: the server takes a second to learn of a configuration."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.client.create(bad)
            except api.ApiError as error:
                return str(error)
            self.client.delete(bad)
            time.sleep(0.2)
        raise AssertionError("never refused")


@pytest.fixture
def asked(own_cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[Asked]:
    folder = tmp_path / "certificates"
    conftest.make_certificate(folder)
    issuer = certificates.FileIssuer(folder)
    webhooks = door.Webhooks(door.Plan(settings.Address("127.0.0.1", 0), None, issuer))
    client = own_cluster().api()
    client.apply(manifests.build_manifests())
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    port, roots = webhooks.address.port, issuer.root_bundle().encode()
    mesh = {
        "apiGroups": [f"{group}.istio.io" for group in ("networking", "security", "telemetry")],
        "resources": ["*"],
        "operations": ["CREATE", "UPDATE"],
    }
    pods = {"apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]}
    client.apply(
        [
            configuration("ValidatingWebhookConfiguration", "/validate", port, roots, mesh),
            configuration("MutatingWebhookConfiguration", "/inject", port, roots, pods),
        ]
    )
    yield Asked(client, webhooks)
    webhooks.close()


def wait_established(client: Api) -> None:
    """Wait until the definitions are served."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.list("networking.istio.io/v1", "VirtualService")
        except (api.ApiError, KeyError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the definitions are not served")


def test_the_api_server_asks_before_it_stores(asked: Asked) -> None:
    client = asked.client
    wait_established(client)
    # The definition allows it; the rule is the webhook's.
    bad = ROUTE | {"spec": {"hosts": ["*.*"], "http": ROUTE["spec"]["http"]}}
    told = asked.wait_refused(bad)
    assert 'admission webhook "tests.navarch.io" denied the request' in told
    assert "spec.hosts[0]" in told
    stored = client.create(ROUTE)
    changed: api.Object = {"spec": {"http": [{"route": []}]}}
    with pytest.raises(api.ApiError, match=r"spec\.http\[0\]"):
        client.patch(stored, changed)

    made = client.create(POD)
    inits = [each["name"] for each in made["spec"]["initContainers"]]
    assert inits == ["istio-init", "istio-proxy", "migrate"]
    (app,) = made["spec"]["containers"]
    assert app["readinessProbe"]["httpGet"]["path"] == "/app-health/app/readyz"
    proxy = made["spec"]["initContainers"][1]
    assert proxy["restartPolicy"] == "Always"
    volumes = {each["name"] for each in made["spec"]["volumes"]}
    assert {mount["name"] for mount in proxy["volumeMounts"]} <= volumes
    wrong = POD | {
        "metadata": POD["metadata"]
        | {"name": "wrong", "annotations": {"status.sidecar.istio.io/port": "x"}}
    }
    with pytest.raises(api.ApiError, match=r"status\.sidecar\.istio\.io/port must be a port"):
        client.create(wrong)

    asked.webhooks.close()
    with pytest.raises(api.ApiError, match="failed calling webhook"):
        client.create(ROUTE | {"metadata": ROUTE["metadata"] | {"name": "other"}})
    metadata = {"name": "free", "namespace": NAMESPACE}
    client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
