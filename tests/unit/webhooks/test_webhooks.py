"""The webhooks over real HTTPS: good and bad objects, pods, garbage."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from typing import Any

import pytest

from navarch import records
from navarch.crds import mesh_config
from navarch.webhooks import injector, review, server
from tests.unit.webhooks import conftest
from tests.unit.webhooks.conftest import Webhooks

GOOD: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
}
BAD: dict[str, Any] = GOOD | {
    "spec": {
        "hosts": ["web"],
        "http": [{"route": [{"destination": {"host": "web"}, "weight": -1}]}],
    }
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "web-", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "web:1"}]},
}


def test_a_good_object_is_allowed(webhooks: Webhooks) -> None:
    assert webhooks.ask("/validate", {"object": GOOD, "name": "web"}) == {
        "uid": "uid-1",
        "allowed": True,
    }


def test_a_bad_object_is_refused_with_the_path_of_its_field(webhooks: Webhooks) -> None:
    response = webhooks.ask("/validate", {"object": BAD, "name": "web"})
    assert response["allowed"] is False
    status = response["status"]
    assert (status["code"], status["reason"]) == (422, "Invalid")
    field = "spec.http[0].route[0].weight"
    assert status["message"].startswith(f"VirtualService shop/web: {field} ")
    assert status["details"]["causes"][0]["field"] == field


def test_fields_that_are_not_known_are_warned_about_as_the_watch_does(webhooks: Webhooks) -> None:
    """Those who write them may have a newer API; what is wrong besides them is refused all the same."""
    newer = GOOD | {"spec": {**GOOD["spec"], "newest": {"x": 1}}}
    response = webhooks.ask("/validate", {"object": newer, "name": "web"})
    assert response["allowed"] is True
    assert response["warnings"][0].startswith("spec.newest ")
    worse = BAD | {"spec": {**BAD["spec"], "newest": 1, "a]b": 2}}
    refusal = webhooks.ask("/validate", {"object": worse, "name": "web"})
    assert refusal["allowed"] is False
    assert "spec.http[0].route[0].weight" in refusal["status"]["message"]


@pytest.mark.parametrize(
    "change",
    [
        {
            "object": {
                **BAD,
                "metadata": {"name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            }
        },
        {"operation": "UPDATE", "object": BAD, "oldObject": BAD},
    ],
)
def test_what_goes_or_keeps_its_spec_is_let_through_with_a_warning(
    webhooks: Webhooks, change: dict[str, Any]
) -> None:
    """Else a finalizer could never be taken off an object that was stored before its rule existed."""
    response = webhooks.ask("/validate", {"name": "web", **change})
    assert response["allowed"] is True
    assert "spec.http[0].route[0].weight" in response["warnings"][0]


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE", "oldObject": BAD},
        {"object": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}},
        {"object": {"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": 3}},
        {"object": GOOD | {"metadata": {"generateName": "web-"}}},
    ],
)
def test_what_is_no_concern_of_the_mesh_is_allowed(
    webhooks: Webhooks, request_: dict[str, Any]
) -> None:
    assert webhooks.ask("/validate", request_)["allowed"] is True


@pytest.mark.parametrize(
    "shape", [{"spec": 1}, {"metadata": 1}, {"metadata": None}, {"apiVersion": 1}]
)
def test_an_object_of_no_shape_at_all_is_refused(webhooks: Webhooks, shape: dict[str, Any]) -> None:
    assert webhooks.ask("/validate", {"object": GOOD | shape})["allowed"] is False


def patch_of(response: dict[str, Any]) -> dict[str, Any]:
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    operations = json.loads(base64.b64decode(response["patch"]))
    return {each["path"]: each["value"] for each in operations}


def test_a_pod_gets_a_patch(webhooks: Webhooks) -> None:
    patch = patch_of(webhooks.ask("/inject", {"object": POD}))
    assert [each["name"] for each in patch["/spec/initContainers"]] == ["istio-init", "istio-proxy"]
    assert patch["/metadata/labels/security.istio.io~1tlsMode"] == "istio"


def test_the_address_says_which_cluster_the_pod_is_in(webhooks: Webhooks) -> None:
    path = "/inject/cluster/east/net/a--slash--b/my_env/x"
    patch = patch_of(webhooks.ask(path, {"object": POD}))
    (proxy,) = (c for c in patch["/spec/initContainers"] if c["name"] == "istio-proxy")
    env = {each["name"]: each.get("value") for each in proxy["env"]}
    assert (env["ISTIO_META_CLUSTER_ID"], env["ISTIO_META_NETWORK"]) == ("east", "a/b")
    assert env["MY_ENV"] == "x"


def test_a_pod_that_wants_none_or_the_impossible_gets_no_patch(webhooks: Webhooks) -> None:
    unwanted = POD | {"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}
    assert webhooks.ask("/inject", {"object": unwanted}) == {"uid": "uid-1", "allowed": True}
    wrong = POD | {"metadata": {"annotations": {"status.sidecar.istio.io/port": "none"}}}
    response = webhooks.ask("/inject", {"object": wrong})
    assert "annotation status.sidecar.istio.io/port must be a port" in response["status"]["message"]
    no_pod = webhooks.ask("/inject", {"object": {"kind": "Pod", "metadata": 1, "spec": []}})
    assert no_pod["allowed"] is False


def test_the_meshs_settings_and_proxy_configs_reach_the_pod(webhooks: Webhooks) -> None:
    settings = mesh_config.read_mesh_config({"trustDomain": "example.org"})
    key = records.SourceKey("ProxyConfig", "shop", "p")
    body = {"metadata": {"namespace": "shop", "name": "p"}, "spec": {"concurrency": 3}}
    webhooks.injector.note_changes(
        [records.Change(mesh_config.KEY, settings), records.Change(key, json.dumps(body).encode())]
    )

    def env() -> dict[str, str]:
        patch = patch_of(webhooks.ask("/inject", {"object": POD}))
        (proxy,) = (c for c in patch["/spec/initContainers"] if c["name"] == "istio-proxy")
        return {each["name"]: each.get("value", "") for each in proxy["env"]}

    assert env()["TRUST_DOMAIN"] == "example.org"
    assert json.loads(env()["PROXY_CONFIG"])["concurrency"] == 3
    webhooks.injector.note_changes(
        [
            records.Change(key, None),
            records.Change(mesh_config.KEY, mesh_config.read_mesh_config({})),
        ]
    )
    assert env()["TRUST_DOMAIN"] == "cluster.local"
    assert "concurrency" not in json.loads(env()["PROXY_CONFIG"])


REVIEW = conftest.as_review({"object": GOOD})


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", b"no JSON"),
        (b"{", b"no JSON"),
        (b"\xff\xfe", b"no JSON"),
        (b"[" * 100_000, b"no JSON"),
        (b"9" * 10_000, b"no JSON"),
        (b"null", b"no AdmissionReview"),
        (json.dumps(REVIEW | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(), b"v1beta1"),
        (json.dumps(REVIEW | {"request": []}).encode(), b"request must be"),
        (json.dumps(REVIEW | {"request": {"uid": 1}}).encode(), b"request.uid"),
        (json.dumps(conftest.as_review({"object": []})).encode()[:-1], b"no JSON"),
        (json.dumps(conftest.as_review({"object": [1]})).encode(), b"request.object"),
    ],
)
@pytest.mark.parametrize("path", ["/validate", "/inject"])
def test_garbage_is_answered_with_400(
    webhooks: Webhooks, path: str, body: bytes, word: bytes
) -> None:
    status, text = webhooks.post(path, body)
    assert (status, word in text) == (400, True), text


def test_other_faults_of_a_request_have_their_own_status(webhooks: Webhooks) -> None:
    assert webhooks.post("/validate", b"{}", "text/plain")[0] == 415
    assert webhooks.post("/elsewhere", b"{}")[0] == 404
    connection = webhooks.connect()
    connection.putrequest("POST", "/validate")
    connection.putheader("Content-Length", str(server.MAX_BODY_BYTES + 1))
    connection.putheader("Content-Type", "application/json")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (413, "close")
    connection.close()
    connection = webhooks.connect()
    connection.putrequest("POST", "/validate")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()
    connection = webhooks.connect()
    connection.request("GET", "/ready")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_that_speaks_no_tls_or_nothing_holds_up_nobody(webhooks: Webhooks) -> None:
    place = ("127.0.0.1", webhooks.server.address.port)
    with socket.create_connection(place) as silent, socket.create_connection(place) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert webhooks.ask("/validate", {"object": GOOD})["allowed"] is True
        assert silent.fileno() > 0
    untrusting = ssl.create_default_context()
    with socket.create_connection(place) as raw, pytest.raises(ssl.SSLCertVerificationError):
        untrusting.wrap_socket(raw, server_hostname="localhost")
    assert webhooks.ask("/validate", {"object": GOOD})["allowed"] is True


def test_one_connection_asks_many_times_and_many_ask_at_once(webhooks: Webhooks) -> None:
    body = json.dumps(conftest.as_review({"object": POD})).encode()
    answers: list[bytes] = []

    def ask_often() -> None:
        connection = webhooks.connect()
        for _ in range(10):
            connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
            answers.append(connection.getresponse().read())
        connection.close()

    threads = [threading.Thread(target=ask_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 80
    assert len(set(answers)) == 1


def test_variables_of_an_address() -> None:
    assert injector.read_variables("/inject") == {}
    assert injector.read_variables("/inject/cluster/a/odd") == {"ISTIO_META_CLUSTER_ID": "a"}
    assert injector.read_variables("/inject/net/a%20b/") == {"ISTIO_META_NETWORK": "a b"}


def test_a_long_refusal_is_cut() -> None:
    verdict = review.Verdict(refusal="no")
    assert json.loads(review.render_verdict("u", verdict))["response"]["allowed"] is False
