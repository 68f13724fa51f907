"""Whole objects: where each kind has its pod, lists, namespaces, ProxyConfig objects, the JSON patch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navarch.injection import documents, mesh_view, owner, patching, wishes
from tests.unit.injection import pods as made

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "web:1"}]},
}


def workload(kind: str, api_version: str = "apps/v1", **metadata: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"template": TEMPLATE}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "web"} | metadata,
        "spec": spec,
    }


def run(*given_documents: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    offline = documents.prepare(given_documents, made.DEFAULT, made.MESH)
    changed, told = [], []
    for each in given_documents:
        document, notes = documents.inject_document(each, offline, "default")
        changed.append(document)
        told += [str(note) for note in notes]
    return changed, told


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet", "Job", "ReplicaSet"])
def test_the_pod_of_a_workload_gets_a_proxy_and_knows_its_owner(kind: str) -> None:
    (document,), _ = run(workload(kind, namespace="shop"))
    pod = document["spec"]["template"]
    assert made.names(pod, "initContainers") == ["istio-init", "istio-proxy"]
    found = made.variables(pod)
    assert (
        found["ISTIO_META_OWNER"]
        == f"kubernetes://apis/apps/v1/namespaces/shop/{kind.lower()}s/web"
    )
    assert found["ISTIO_META_WORKLOAD_NAME"] == "web"


def test_pods_cron_jobs_and_lists_too() -> None:
    bare = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one"},
        "spec": TEMPLATE["spec"],
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    cron = workload("CronJob", "batch/v1")
    (found,), _ = run({"kind": "List", "apiVersion": "v1", "items": [bare, cron, service]})
    one, timed, kept = found["items"]
    assert "istio-proxy" in made.names(one, "initContainers")
    inner = timed["spec"]["jobTemplate"]["spec"]["template"]
    assert "istio-proxy" in made.names(inner, "initContainers")
    assert kept == service


def test_a_namespace_among_the_documents_decides_and_it_is_said() -> None:
    namespace = {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}}
    deployment = workload("Deployment", namespace="shop")
    (_, document), told = run(namespace, deployment)
    assert document == deployment
    assert told == [
        "Deployment shop/web: not injected: neither it nor its namespace asks for a proxy"
    ]


def test_a_fault_names_the_object() -> None:
    broken = workload("Deployment")
    broken["spec"] = {
        "template": {"metadata": {"annotations": {wishes.STATUS_PORT: "x"}}, "spec": {}}
    }
    with pytest.raises(wishes.InjectionError, match=r"^Deployment default/web: annotation status"):
        run(broken)
    _, told = run({"kind": "Deployment", "metadata": {"name": "empty"}, "spec": {}})
    assert told == ["Deployment default/empty: has no spec.template; nothing was injected"]


def proxy_config(
    namespace: str, selector: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    chosen = {"selector": {"matchLabels": selector}} if selector else {}
    metadata = {"name": "p", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"kind": "ProxyConfig", "metadata": metadata, "spec": chosen | spec}


def test_proxy_configs_hold_from_the_mesh_to_the_workload() -> None:
    objects = [
        proxy_config("shop", {"app": "web"}, environmentVariables={"A": "own"}),
        proxy_config("shop", {"app": "other"}, environmentVariables={"A": "other"}),
        proxy_config("shop", environmentVariables={"A": "shop", "B": "shop"}),
        proxy_config("istio-system", concurrency=3, environmentVariables={"C": "mesh"}),
        proxy_config("elsewhere", concurrency=9),
    ]
    found = mesh_view.merge_proxy_configs(objects, "shop", {"app": "web"}, "istio-system")
    assert found == {"concurrency": 3, "proxyMetadata": {"A": "own", "B": "shop", "C": "mesh"}}


def test_of_two_proxy_configs_of_one_rank_the_older_wins() -> None:
    older, newer = proxy_config("shop", concurrency=1), proxy_config("shop", concurrency=2)
    newer["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    for objects in ([older, newer], [newer, older]):
        found = mesh_view.merge_proxy_configs(objects, "shop", {}, "istio-system")
        assert found == {"concurrency": 1}


def referenced(kind: str, name: str, **labels: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": True}
    return {
        "metadata": {"generateName": f"{name}-", "labels": labels, "ownerReferences": [reference]}
    }


@pytest.mark.parametrize(
    ("pod", "kind", "name"),
    [
        (
            referenced("ReplicaSet", "web-5d4f8c", **{"pod-template-hash": "5d4f8c"}),
            "Deployment",
            "web",
        ),
        (referenced("ReplicaSet", "web-5d4f8c7b9"), "Deployment", "web"),
        (referenced("StatefulSet", "db"), "StatefulSet", "db"),
        (referenced("Job", "report-28391820"), "CronJob", "report"),
        (referenced("Job", "migrate"), "Job", "migrate"),
        ({"metadata": {"name": "bare"}}, "Pod", "bare"),
        ({"metadata": {"generateName": "run-"}}, "Pod", "run"),
    ],
)
def test_a_pods_owner_is_the_workload_that_people_know(pod: Any, kind: str, name: str) -> None:
    found = owner.find_owner(pod, "shop")
    assert (found.kind, found.name) == (kind, name)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


def apply_patch(document: Any, operations: list[dict[str, Any]]) -> Any:
    made_anew = json.loads(json.dumps(document))
    for operation in operations:
        *path, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        holder = made_anew
        for part in path:
            holder = holder[part]
        if operation["op"] == "remove":
            del holder[last]
        else:
            assert (last in holder) == (operation["op"] == "replace")
            holder[last] = operation["value"]
    return made_anew


@given(before=OBJECTS, after=OBJECTS)
def test_a_patch_leads_from_one_object_to_the_other(before: Any, after: Any) -> None:
    operations = patching.diff_objects(before, after)
    assert apply_patch(before, operations) == after
    assert bool(operations) == (before != after)
