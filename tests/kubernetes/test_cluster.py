"""The API server of the tests does what the other tests rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kubernetes import api, cluster

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME}
data: {answer: "42"}
"""


def test_objects_are_applied_read_listed_and_deleted(cluster: cluster.Cluster) -> None:
    client = cluster.api()
    [made] = client.apply(CONFIG_MAP.replace("NAME", "fixture"))
    assert client.get("v1", "ConfigMap", "default", "fixture")["data"] == {"answer": "42"}
    client.patch(made, {"data": {"answer": "43"}})
    found = {each["metadata"]["name"]: each for each in client.list("v1", "ConfigMap", "default")}
    assert found["fixture"]["data"] == {"answer": "43"}
    client.delete(made)
    with pytest.raises(api.ApiError) as error:
        client.get("v1", "ConfigMap", "default", "fixture")
    assert error.value.status == 404


def test_a_user_may_do_what_was_granted_and_no_more(cluster: cluster.Cluster) -> None:
    client = cluster.api("remote")
    with pytest.raises(api.ApiError) as error:
        client.list("v1", "ConfigMap")
    assert error.value.status == 403
    cluster.grant("remote", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}])
    client.list("v1", "ConfigMap")
    with pytest.raises(api.ApiError):
        client.list("v1", "Secret")


def test_a_server_that_was_killed_comes_back_with_all_objects_and_compaction_forgets(
    own_cluster: Callable[..., cluster.Cluster],
) -> None:
    own = own_cluster("--watch-cache=false")
    client = own.api()
    first = client.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    )
    version = first["metadata"]["resourceVersion"]
    own.stop_apiserver()
    with pytest.raises(OSError, match="refused"):
        client.list("v1", "ConfigMap")
    own.start_apiserver()
    assert [each["metadata"]["name"] for each in client.list("v1", "ConfigMap", "default")] == ["a"]
    for number in range(3):
        client.patch(first, {"data": {"number": str(number)}})
    own.compact()
    path = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1&resourceVersion="
    told = client.request("GET", path + version)
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)
