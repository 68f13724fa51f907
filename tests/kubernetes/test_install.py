"""What the chart installs, run as its Deployment says, on a real API server and with the rights of its roles alone."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from deploy import render
from tests.kubernetes import api, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.extension, pytest.mark.timeout(300)]

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


@pytest.fixture
def release(own_cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[installed.Release]:
    own = own_cluster()
    installed.prepare(own.api())
    own.api().apply(SHOP)
    made = installed.Release(own, tmp_path)
    yield made
    made.process.stop()


def test_a_release_is_ready_makes_its_authority_and_answers_the_api_server(
    release: installed.Release,
) -> None:
    client = release.client
    release.wait_ready()
    secret = client.get("v1", "Secret", render.NAMESPACE, "istio-ca-secret")
    root = base64.b64decode(secret["data"]["root-cert.pem"]).decode()
    assert release.wait_published() == root
    release.redirect_webhooks()

    def roots() -> Any:
        found = client.get("v1", "ConfigMap", "shop", "istio-ca-root-cert")
        return found["data"]["root-cert.pem"]

    assert release.wait(roots) == root

    def injected() -> Any:
        made = client.create(POD)
        client.delete(POD)
        return made["spec"].get("initContainers")

    names = [each["name"] for each in release.wait(injected)]
    assert names == ["istio-init", "istio-proxy"]
    bad = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bad", "namespace": "shop"},
        "spec": {"hosts": ["*.*"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
    }
    with pytest.raises(api.ApiError, match=r"spec\.hosts\[0\]"):
        client.create(bad)
    told = release.log.read_text().lower()
    assert "forbidden" not in told, told
    assert "traceback" not in told, told
