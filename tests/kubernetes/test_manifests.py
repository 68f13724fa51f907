"""The manifests on a real API server, which reads every field of them strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from deploy import render
from tests.kubernetes.servers import build

if TYPE_CHECKING:
    from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

VARIANTS: list[dict[str, object]] = [
    {"revision": "canary", "tags": ["prod", "default"]},
    {
        "autoscaling": {"enabled": False},
        "image": {"pullSecrets": ["key"]},
        "affinity": {"podAntiAffinity": {}},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"a": "b"},
        "networkPolicy": {"from": [{"namespaceSelector": {}}]},
        "serviceAccount": {"annotations": {"a": "b"}},
        "extraArgs": ["--log-level=DEBUG"],
        "env": {"A": "b"},
        "meshConfig": {"accessLogFile": "/dev/stdout"},
    },
]


def apply(cluster: Cluster, text: str) -> set[str]:
    """Apply as `kubectl apply --server-side --validate=strict --dry-run=server` would; return the kinds."""
    client, kinds = cluster.api(), set()
    for each in yaml.load_all(text, yaml.CSafeLoader):
        if not each:
            continue
        query = "fieldManager=tests&force=true&fieldValidation=Strict&dryRun=All"
        if each["kind"] == "Namespace":
            query = "fieldManager=tests&force=true"
        path = f"{client.path_of(each)}?{query}"
        client.request("PATCH", path, each, content_type="application/apply-patch+yaml")
        kinds.add(each["kind"])
    return kinds


def test_the_server_takes_the_plain_manifests(cluster: Cluster) -> None:
    kinds = apply(cluster, render.MANIFESTS.read_text())
    assert {"Deployment", "MutatingWebhookConfiguration", "ClusterRole", "NetworkPolicy"} <= kinds


@pytest.mark.parametrize("values", VARIANTS, ids=["revision", "everything"])
def test_the_server_takes_what_values_make_of_the_chart(
    cluster: Cluster, values: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    file.write_text(yaml.safe_dump({"crds": {"install": False}} | values))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": render.NAMESPACE}}
    text = render.render_chart(build.find_servers().helm, "--values", str(file))
    assert len(apply(cluster, f"{yaml.safe_dump(namespace)}---\n{text}")) > 8
