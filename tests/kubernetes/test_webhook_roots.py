"""What the webhooks need of the cluster, on a real API server: their roots told, one authority for all replicas."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Any

import pytest

from navarch.sources.kubernetes import authority_secret, client, webhook_roots
from tests.kubernetes import cluster as clusters
from tests.unit.webhooks import conftest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

ADMISSION = "admissionregistration.k8s.io/v1"
OURS = {"app.kubernetes.io/part-of": "navarch", "istio.io/rev": "roots"}


def hook(name: str, namespace: str) -> dict[str, Any]:
    service = {"name": "istiod", "namespace": namespace, "path": "/inject"}
    return {
        "name": f"{name}.istio.io",
        "clientConfig": {"service": service},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
        # No kind has this name: the configurations ask nobody.
        "rules": [
            {
                "operations": ["CREATE"],
                "apiGroups": ["tests.navarch.io"],
                "apiVersions": ["v1"],
                "resources": ["nothing"],
            }
        ],
    }


def configuration(kind: str, name: str, labels: dict[str, str], *namespaces: str) -> dict[str, Any]:
    hooks = [hook(f"h{index}", namespace) for index, namespace in enumerate(namespaces)]
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": ADMISSION, "kind": kind, "metadata": metadata, "webhooks": hooks}


def as_navarch(cluster: Cluster) -> client.Client:
    """Give a client with the rights that the chart gives."""
    cluster.grant(
        clusters.NAVARCH,
        [
            {
                "apiGroups": ["admissionregistration.k8s.io"],
                "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
                "verbs": ["get", "list", "patch"],
            },
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]},
        ],
    )
    return client.Client(client.Access(kubeconfig=cluster.kubeconfig()))


def test_roots_go_into_our_own_webhooks_and_only_when_they_change(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Another revision's, and a webhook of another namespace's, are left alone."""
    api = cluster.api()
    mutating, validating = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
    api.apply(
        [
            configuration(mutating, "roots-ours", OURS, "istio-system", "elsewhere"),
            configuration(validating, "roots-ours", OURS, "istio-system"),
            configuration(mutating, "roots-other", OURS | {"istio.io/rev": "x"}, "istio-system"),
        ]
    )
    publisher = webhook_roots.WebhookRoots(as_navarch(cluster), "istio-system", "roots")

    def bundles(kind: str, name: str) -> list[str]:
        hooks = api.get(ADMISSION, kind, "", name)["webhooks"]
        texts = [each["clientConfig"].get("caBundle", "") for each in hooks]
        return [base64.b64decode(text).decode() for text in texts]

    one, two = make_root(tmp_path / "one"), make_root(tmp_path / "two")
    for pem in (one, two):
        publisher.publish_roots(pem)
        assert bundles(mutating, "roots-ours") == [pem, ""]
        assert bundles(validating, "roots-ours") == [pem]
        assert bundles(mutating, "roots-other") == [""]
    before = api.get(ADMISSION, mutating, "", "roots-ours")["metadata"]["resourceVersion"]
    publisher.publish_roots(two)
    after = api.get(ADMISSION, mutating, "", "roots-ours")["metadata"]["resourceVersion"]
    assert after == before


def make_root(folder: Path) -> str:
    """Return a certificate: the server looks at what it is given."""
    conftest.make_certificate(folder)
    return (folder / "ca.crt").read_text()


def test_of_many_replicas_one_makes_the_authority_and_all_have_it(cluster: Cluster) -> None:
    api = cluster.api()
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "authority"}})
    made: list[dict[str, bytes]] = []
    barrier = threading.Barrier(6)

    def replica(number: int) -> None:
        own = authority_secret.AuthoritySecret(as_navarch(cluster), "authority")
        files = {"ca-key.pem": f"key {number}".encode(), "root-cert.pem": b"root"}
        barrier.wait()
        made.append(own.find_or_make(lambda: files))

    threads = [threading.Thread(target=replica, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert all(each == made[0] for each in made)


def test_an_authority_that_is_plugged_in_comes_before_our_own_and_istios_is_taken_over(
    cluster: Cluster,
) -> None:
    api = cluster.api()
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plugged"}})
    own = authority_secret.AuthoritySecret(as_navarch(cluster), "plugged")
    assert own.find() is None

    def secret(name: str, **data: bytes) -> dict[str, Any]:
        encoded = {
            key.replace("_", "-").replace("-pem", ".pem"): base64.b64encode(text).decode()
            for key, text in data.items()
        }
        metadata = {"name": name, "namespace": "plugged"}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}

    istios = secret(
        authority_secret.OWN, ca_cert_pem=b"c", ca_key_pem=b"k", root_cert_pem=b"", other=b"x"
    )
    api.apply(istios)
    assert own.find() == {"ca-cert.pem": b"c", "ca-key.pem": b"k", "root-cert.pem": b"c"}
    api.apply(secret(authority_secret.PLUGGED_IN, ca_cert_pem=b"p", root_cert_pem=b"r"))
    assert own.find_or_make(dict) == {"ca-cert.pem": b"p", "root-cert.pem": b"r"}


def test_a_folder_follows_the_secret_and_survives_its_loss(cluster: Cluster) -> None:
    api = cluster.api()
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "folder"}})
    held: dict[str, bytes] = {}
    writes: list[dict[str, bytes]] = []

    def write(files: Mapping[str, bytes]) -> None:
        held.clear()
        held.update(files)
        writes.append(dict(files))

    own = authority_secret.AuthoritySecret(as_navarch(cluster), "folder")
    folder = authority_secret.AuthorityFolder(
        own, lambda: held or None, write, lambda: {"ca-key.pem": b"1"}
    )
    folder.fill()
    folder.fill()
    assert writes == [{"ca-key.pem": b"1"}]
    secret = api.get("v1", "Secret", "folder", authority_secret.OWN)
    api.patch(secret, {"data": {"ca-key.pem": base64.b64encode(b"2").decode()}})
    folder.fill()
    assert held == {"ca-key.pem": b"2"}
