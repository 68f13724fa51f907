"""How navarch comes up: in a Pod, by one settings file, and while its API server is away."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kubernetes import cluster as clusters
from tests.kubernetes import mesh as meshes
from tests.kubernetes import proxies
from tests.lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kubernetes import api as apis

pytestmark = [pytest.mark.extension, pytest.mark.kubernetes, pytest.mark.timeout(240)]

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CLUSTER = "outbound|80||a.default.svc.cluster.local"
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}


def prepare(own: clusters.Cluster) -> apis.Api:
    admin = meshes.prepare(own)
    admin.apply(meshes.service("a"))
    return admin


def test_while_the_api_server_is_away_at_start_it_is_waited_for(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    """Nobody is let in before the mesh is known, and whoever asks is told what is waited for."""
    own = own_cluster()
    prepare(own)
    own.stop_apiserver()
    flags = (
        *("--secure-grpc-address", f"127.0.0.1:{clusters.free_port()}", "--authority-secret"),
        *("--authority-dir", str(tmp_path / "authority")),
    )
    own_flags = (("plain", ()), ("with-authority", flags))
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(meshes.Navarch(tmp_path / name, own.kubeconfig(), *more))
            for name, more in own_flags
        ]
        for navarch in started:
            expect_waiting(navarch)
        own.start_apiserver()
        own.grant("navarch", [*meshes.RIGHTS, SECRETS])
        for navarch in started:
            navarch.wait_ready()
            with proxies.Proxy(navarch.grpc_port, proxies.sidecar("default")) as proxy:
                assert CLUSTER in proxy.state()["CDS"]


def expect_waiting(navarch: meshes.Navarch) -> None:
    try:
        processes.wait_until(
            lambda: "Connection refused" in navarch.get("/ready")[1], "it tells what is missing", 30
        )
    except AssertionError as error:
        raise AssertionError(
            f"{error}: {navarch.get('/ready')} {navarch.process.tail()}"
        ) from error
    status, told = navarch.get("/ready")
    assert status == 503
    assert "waiting for" in told
    assert navarch.get("/healthz")[0] == 200, "it must not be killed for it"


def test_a_pod_needs_no_flag_and_a_settings_file_holds_the_others(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    """The account's files and the API server's address are where the kubelet puts them."""
    own = own_cluster()
    prepare(own)
    account = tmp_path / "account"
    account.mkdir()
    user = own.kubeconfig_object()["users"][0]["user"]
    (account / "token").write_text(user["token"])
    (account / "ca.crt").write_bytes(own.certificates.read_bytes())
    (account / "namespace").write_text("istio-system")
    web, ads = clusters.free_port(), clusters.free_port()
    told = {
        "grpc-address": f"127.0.0.1:{ads}",
        "http-address": f"127.0.0.1:{web}",
        "drain-seconds": 0,
        "cluster-id": "by-file",
    }
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(told))
    # In a mount namespace of its own, so that this machine has no account of a Pod.
    script = (
        f"mount -t tmpfs none /var/run && mkdir -p {ACCOUNT} && cp {shlex.quote(str(account))}/*"
        f' {ACCOUNT} && exec "$@"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "navarch"]
    command += ["serve", "--settings", str(settings)]
    environment = [
        *("env", "KUBERNETES_SERVICE_HOST=127.0.0.1", f"KUBERNETES_SERVICE_PORT={own.port}"),
        "NAVARCH_CLUSTER_ID=by-environment",
    ]
    process = processes.Process([*environment, *command], tmp_path / "navarch.log")
    try:
        processes.wait_until(lambda: is_ready(web), "it is ready", 60)
        with proxies.Proxy(ads, proxies.sidecar("default")) as proxy:
            assert CLUSTER in proxy.state()["CDS"]
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics", timeout=5) as answer:
            assert 'cluster="by-environment"' in answer.read().decode(), "it comes before the file"
    finally:
        process.stop(signal.SIGTERM)


def is_ready(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer,
    ):
        return bool(answer.status == 200)
    return False


def test_two_revisions_serve_side_by_side_while_namespaces_move(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    """A canary upgrade: each revision has its rules, and common ones; moving a rule moves its effect."""
    own = own_cluster()
    admin = prepare(own)
    meshes.install_definitions(admin, "DestinationRule")
    admin.apply([rule("a", "stable", 3), rule("a-next", "canary", 4)])
    canary_flags = ("--revision", "canary")
    with (
        meshes.Navarch(tmp_path / "old", own.kubeconfig(), "--revision", "stable") as old,
        meshes.Navarch(tmp_path / "new", own.kubeconfig(), *canary_flags) as new,
    ):
        for each in (old, new):
            each.wait_ready()
        with (
            proxies.Proxy(old.grpc_port, proxies.sidecar("default")) as stays,
            proxies.Proxy(new.grpc_port, proxies.sidecar("default")) as moved,
        ):
            expect_timeout(stays, 3)
            expect_timeout(moved, 4)
            n_before = stays.n_responses
            admin.apply(rule("a-next", "canary", 5))
            expect_timeout(moved, 5)
            assert stays.n_responses == n_before, "the other revision is not disturbed"
            admin.delete(rule("a", "stable", 3))
            admin.apply(rule("a-next", "stable", 6))
            expect_timeout(stays, 6)
            expect_timeout(moved, 10)
            leases = admin.list("coordination.k8s.io/v1", "Lease", "istio-system")
            names = {each["metadata"]["name"] for each in leases}
            assert {"navarch-writer", "navarch-writer-stable", "navarch-writer-canary"} <= names
        old.process.stop(signal.SIGTERM)
        with proxies.Proxy(new.grpc_port, proxies.sidecar("default")) as moved:
            assert CLUSTER in moved.state()["CDS"], "the new revision serves without the old one"


def test_of_two_revisions_one_writes_what_both_read_and_each_its_own(
    own_cluster: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    """They may think differently of an object: the subset that it names is one revision's alone.

    Subsets are looked for where routes are made, for proxies.
    """
    own = own_cluster()
    admin = prepare(own)
    meshes.install_definitions(admin, "DestinationRule", "VirtualService")
    subset = rule("a", "stable", 3)
    subset["spec"]["subsets"] = [{"name": "v1", "labels": {"version": "v1"}}]
    common = meshes.virtual_service("common", "a", "a")
    common["spec"]["http"][0]["route"][0]["destination"]["subset"] = "v1"
    admin.apply([subset, common, rule("a-next", "canary", 4)])

    def told(kind: str, name: str) -> dict[str, str]:
        found = admin.get("networking.istio.io/v1", kind, "default", name)
        made = (found.get("status") or {}).get("conditions", [])
        return {each["type"]: each["status"] for each in made}

    def expect(kind: str, name: str, wanted: str) -> None:
        what = f"{kind} {name}: {wanted}"
        processes.wait_until(lambda: told(kind, name).get("ResolvedRefs") == wanted, what, 40)

    flags = ("--revision", "stable")
    with meshes.Navarch(tmp_path / "old", own.kubeconfig(), *flags) as old:
        old.wait_ready()
        expect("VirtualService", "common", "True")
        flags = ("--revision", "canary")
        with (
            meshes.Navarch(tmp_path / "new", own.kubeconfig(), *flags) as new,
            proxies.Proxy(old.grpc_port, proxies.sidecar("default")),
        ):
            new.wait_ready()
            with proxies.Proxy(new.grpc_port, proxies.sidecar("default")):
                processes.wait_until(
                    lambda: "unknown-subset" in json.dumps(new.diagnostics()), "it is missed", 30
                )
                expect("DestinationRule", "a-next", "True")
                admin.apply(meshes.virtual_service("later", "b", "a"))
                expect("VirtualService", "later", "True")
                assert told("VirtualService", "common")["ResolvedRefs"] == "True"
                assert old.process.stop(signal.SIGTERM) == 0
                leases = admin.list("coordination.k8s.io/v1", "Lease", "istio-system")
                holders = {each["metadata"]["name"]: each["spec"] for each in leases}
                assert holders["navarch-writer-stable"]["holderIdentity"] == "", "it is given up"
                expect("VirtualService", "common", "False")


def rule(name: str, revision: str, seconds: int) -> apis.Object:
    policy = {"connectionPool": {"tcp": {"connectTimeout": f"{seconds}s"}}}
    labels = {"istio.io/rev": revision}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"host": "a", "trafficPolicy": policy},
    }


def expect_timeout(proxy: proxies.Proxy, seconds: int) -> None:
    """Wait for a connect timeout: field 4 of a cluster, a Duration of whole seconds."""
    wanted = bytes([0x22, 2, 8, seconds])
    processes.wait_until(
        lambda: wanted in proxy.state()["CDS"][CLUSTER], f"a timeout of {seconds} s", 30
    )
