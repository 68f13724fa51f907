"""What navarch does in a cluster for the mesh's identities: roots in every namespace, callers looked up."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from navarch import errors
from navarch.sources.kubernetes import client, reviews, roots
from tests.kubernetes import api as apis
from tests.kubernetes import mesh as meshes
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]


def namespace(name: str) -> apis.Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def test_every_namespace_has_the_roots_also_after_someone_changed_them(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    own.grant("navarch", meshes.RIGHTS)
    admin = own.api()
    admin.apply([namespace("istio-system"), namespace("before")])

    def held(name: str) -> str:
        with contextlib.suppress(apis.ApiError):
            found = admin.get("v1", "ConfigMap", name, roots.NAME)
            return str(found.get("data", {}).get(roots.KEY, ""))
        return ""

    flags = ("--secure-grpc-address", "127.0.0.1:0", "--authority-dir", str(tmp_path / "authority"))
    with meshes.Navarch(tmp_path / "navarch", own.kubeconfig(), *flags) as navarch:
        navarch.wait_ready()
        processes.wait_until(lambda: "BEGIN CERTIFICATE" in held("before"), "the roots", 30)
        pem = held("before")
        admin.apply(namespace("after"))
        processes.wait_until(lambda: held("after") == pem, "a new namespace has them", 20)
        wrong = {"apiVersion": "v1", "kind": "ConfigMap", "data": {roots.KEY: "x"}}
        admin.apply(wrong | {"metadata": {"name": roots.NAME, "namespace": "after"}})
        processes.wait_until(lambda: held("after") == pem, "they are mended", 20)
        admin.delete(wrong | {"metadata": {"name": roots.NAME, "namespace": "after"}})
        processes.wait_until(lambda: held("after") == pem, "they are back", 20)
        assert held("kube-system") == ""


def test_tokens_and_rights_are_looked_up(cluster: clusters.Cluster) -> None:
    cluster.grant("navarch", meshes.RIGHTS)
    admin = cluster.api()
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "shop", "namespace": "default"},
    }
    admin.apply(account)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    path = "/api/v1/namespaces/default/serviceaccounts/shop/token"
    made = admin.request("POST", path, request | {"spec": {"audiences": ["istio-ca"]}})
    token = made["status"]["token"]
    asked = reviews.KubernetesReviewer(client.Client(client.Access(cluster.kubeconfig())))
    assert asked.review_token(token, ["istio-ca"]) == ("default", "shop")
    with pytest.raises(errors.RefusedError, match="audience"):
        asked.review_token(token, ["another"])
    with pytest.raises(errors.RefusedError):
        asked.review_token("nonsense", ["istio-ca"])
    with pytest.raises(errors.RefusedError, match="no service account"):
        asked.review_token("token-of-admin", [])
    assert not asked.may_read_secrets("default", "shop")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "secrets-reader"}}
    role["metadata"] |= {"namespace": "default"}  # type: ignore[operator]
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    reference = {
        "kind": "Role",
        "name": "secrets-reader",
        "apiGroup": "rbac.authorization.k8s.io",
    }
    subject = {"kind": "ServiceAccount", "name": "shop", "namespace": "default"}
    admin.apply([role | {"kind": "Role", "rules": rules}])
    admin.apply([role | {"kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}])
    processes.wait_until(
        lambda: asked.may_read_secrets("default", "shop"), "the right is in force", 20
    )
