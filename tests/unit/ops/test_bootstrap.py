from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from navarch import errors, settings
from navarch.ops import bootstrap

ENVOY = Path(sys.executable).with_name("envoy")
NODE = bootstrap.Node(
    ip="10.1.1.1",
    pod="web-1",
    namespace="shop",
    service_account="web",
    labels={"app": "web"},
    metadata={"ISTIO_VERSION": "1.32.0", "UNPRIVILEGED_POD": True},
)


def build(
    node: bootstrap.Node, discovery: str = "127.0.0.1:15010", *, is_delta: bool = True
) -> Any:
    plan = bootstrap.Plan(
        node,
        settings.Address.parse(discovery, "--discovery-address"),
        settings.Address("127.0.0.1", 15000),
        is_delta=is_delta,
    )
    return bootstrap.build_bootstrap(plan)


def test_the_node_carries_what_navarch_reads() -> None:
    node = build(NODE)["node"]
    assert node["id"] == "sidecar~10.1.1.1~web-1.shop~shop.svc.cluster.local"
    assert node["cluster"] == "web.shop"
    assert node["metadata"] == {
        "NAMESPACE": "shop",
        "CLUSTER_ID": "Kubernetes",
        "INSTANCE_IPS": "10.1.1.1",
        "NAME": "web-1",
        "LABELS": {"app": "web"},
        "INTERCEPTION_MODE": "REDIRECT",
        "SERVICE_ACCOUNT": "web",
        "ISTIO_VERSION": "1.32.0",
        "UNPRIVILEGED_POD": True,
    }


def test_a_node_id_gives_the_parts() -> None:
    node = bootstrap.build_node(
        bootstrap.Node(id="router~10.2.2.2~gw-1.a.b~b.svc.cluster.local", has_redirect=False)
    )
    assert node["metadata"]["NAMESPACE"] == "b"
    assert node["metadata"]["INSTANCE_IPS"] == "10.2.2.2"
    assert node["metadata"]["NAME"] == "gw-1.a"
    assert node["metadata"]["INTERCEPTION_MODE"] == "NONE"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (bootstrap.Node(id="sidecar~10.1.1.1"), "must be TYPE~IP"),
        (bootstrap.Node(id="waypoint~1.1.1.1~a.b~c"), "must be TYPE~IP"),
        (bootstrap.Node(ip="10.1.1.1"), "--pod, --namespace"),
    ],
)
def test_what_is_missing_is_named(node: bootstrap.Node, message: str) -> None:
    with pytest.raises(errors.SettingsError, match=message):
        build(node)


@pytest.mark.parametrize("is_delta", [True, False])
def test_the_xds_variant_is_chosen(*, is_delta: bool) -> None:
    ads = build(NODE, is_delta=is_delta)["dynamic_resources"]["ads_config"]
    assert ads["api_type"] == ("DELTA_GRPC" if is_delta else "GRPC")


@pytest.mark.envoy
@pytest.mark.parametrize("discovery", ["127.0.0.1:15010", "[::1]:15010", "navarch.mesh:15010"])
@pytest.mark.parametrize("is_delta", [True, False])
def test_envoy_takes_the_bootstrap(tmp_path: Path, discovery: str, *, is_delta: bool) -> None:
    assert_taken(tmp_path, build(NODE, discovery, is_delta=is_delta))


def assert_taken(tmp_path: Path, made: dict[str, Any]) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(made))
    command = [str(ENVOY), "--mode", "validate", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "deprecated" not in done.stderr.lower()


def zone_aware_node() -> bootstrap.Node:
    return bootstrap.Node(
        ip="10.1.1.1", pod="web-1", namespace="shop", metadata={"ENABLE_SELF_DISCOVERY": "true"}
    )


def test_a_proxy_that_discovers_itself_has_a_cluster_of_its_kind() -> None:
    made = build(zone_aware_node())
    names = [cluster["name"] for cluster in made["static_resources"]["clusters"]]
    assert names == ["xds-grpc", "local_cluster"]
    assert made["cluster_manager"] == {"local_cluster_name": "local_cluster"}
    plain = build(NODE)
    assert "cluster_manager" not in plain
    assert len(plain["static_resources"]["clusters"]) == 1


@pytest.mark.envoy
def test_envoy_takes_the_cluster_of_its_kind(tmp_path: Path) -> None:
    assert_taken(tmp_path, build(zone_aware_node()))
