"""What navarch does in a cluster for the mesh's identities: roots in every namespace, callers looked up."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest

from navarch import errors
from navarch.sources.kubernetes import authority_secret, client, reviews, roots
from tests.kubernetes import api as apis
from tests.kubernetes import mesh as meshes
from tests.lab import processes
from tests.xds import identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import cluster as clusters

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]


def namespace(name: str, **labels: str) -> apis.Object:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def test_every_namespace_that_counts_has_the_roots_also_after_someone_changed_them(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    own = own_cluster()
    own.grant("navarch", meshes.RIGHTS)
    admin = own.api()
    admin.apply([namespace("istio-system"), namespace("before", mesh="yes"), namespace("outside")])
    selectors = 'discoverySelectors: [{matchLabels: {mesh: "yes"}}]'
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"mesh": selectors}}
    admin.apply(settings | {"metadata": {"name": "istio", "namespace": "istio-system"}})

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
        admin.apply(namespace("after", mesh="yes"))
        processes.wait_until(lambda: held("after") == pem, "a new namespace has them", 20)
        wrong = {"apiVersion": "v1", "kind": "ConfigMap", "data": {roots.KEY: "x"}}
        admin.apply(wrong | {"metadata": {"name": roots.NAME, "namespace": "after"}})
        processes.wait_until(lambda: held("after") == pem, "they are mended", 20)
        admin.delete(wrong | {"metadata": {"name": roots.NAME, "namespace": "after"}})
        processes.wait_until(lambda: held("after") == pem, "they are back", 20)
        assert held("kube-system") == ""
        assert held("outside") == "", "it is not selected"
        admin.apply(namespace("outside", mesh="yes"))
        processes.wait_until(lambda: held("outside") == pem, "it is selected now", 20)


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


def test_a_control_plane_waits_for_the_api_server_that_has_its_authority(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    """It does not end, says what it waits for, and makes no root of its own meanwhile."""
    own = own_cluster()
    own.grant(
        "navarch",
        [*meshes.RIGHTS, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}],
    )
    own.api().apply(namespace("istio-system"))
    own.stop_apiserver()
    directory = tmp_path / "authority"
    flags = ("--secure-grpc-address", "127.0.0.1:0", "--authority-dir", str(directory))
    with meshes.Navarch(
        tmp_path / "navarch", own.kubeconfig(), *flags, "--authority-secret"
    ) as navarch:
        processes.wait_until(lambda: navarch.get("/ready")[0] == 503, "it tells of itself", 30)
        assert "the Secret of the certificate authority" in navarch.get("/ready")[1]
        assert navarch.get("/healthz")[0] == 200
        assert not (directory / "ca-key.pem").exists()
        own.start_apiserver()
        navarch.wait_ready()
        held = own.api().get("v1", "Secret", "istio-system", authority_secret.OWN)
        assert (
            base64.b64decode(held["data"]["ca-key.pem"]) == (directory / "ca-key.pem").read_bytes()
        )


def test_a_token_ends_with_its_service_account(cluster: clusters.Cluster) -> None:
    """Deleted, or made anew under the same name: the former's tokens are refused by the API server itself."""
    cluster.grant("navarch", meshes.RIGHTS)
    admin = cluster.api()
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "leaver", "namespace": "default"},
    }

    def token() -> str:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        path = "/api/v1/namespaces/default/serviceaccounts/leaver/token"
        made = admin.request("POST", path, request | {"spec": {"audiences": ["istio-ca"]}})
        return str(made["status"]["token"])

    admin.apply(account)
    reviewer = reviews.KubernetesReviewer(client.Client(client.Access(cluster.kubeconfig())))
    former = token()
    port = identity.Port(platform=reviewer)
    try:
        request = identity.make_request(identity.make_key())
        chain = port.create(former, csr=request)
        assert "/ns/default/sa/leaver" in identity.uris(chain[0])
        admin.delete(account)
        # What the API server said is taken again for ten seconds (docs/security.md).
        processes.wait_until(lambda: not _is_let_in(port, former), "the token is refused", 30)
        admin.apply(account)
        assert _is_let_in(port, token())
        assert not _is_let_in(port, former)
    finally:
        port.close()


def _is_let_in(port: identity.Port, token: str) -> bool:
    try:
        port.create(token, csr=identity.make_request(identity.make_key()))
    except grpc.RpcError as refusal:
        if refusal.code() is grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise
    return True
