"""A pod with its proxy: containers, their order, what annotations, templates and owners change of it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navarch import errors
from navarch.injection import pods, settings, wishes
from navarch.injection.inputs import MeshView
from tests.unit.injection import pods as made
from tests.unit.injection.pods import DEFAULT, PLAIN, container, inject, names, pod, variables


def test_a_native_sidecar_starts_before_all_but_capture_and_stays() -> None:
    done = inject(pod(initContainers=[{"name": "migrate", "image": "m"}]))
    assert names(done.pod, "initContainers") == ["istio-init", "istio-proxy", "migrate"]
    assert names(done.pod) == ["app"]
    proxy = container(done.pod)
    assert proxy["restartPolicy"] == "Always"
    assert proxy["startupProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    assert "restartPolicy" not in container(done.pod, "istio-init")


def test_an_ordinary_sidecar_comes_last_and_capture_after_other_init_containers() -> None:
    done = inject(pod(initContainers=[{"name": "migrate", "image": "m"}]), PLAIN)
    assert names(done.pod) == ["app", "istio-proxy"]
    assert names(done.pod, "initContainers") == ["migrate", "istio-init"]


def test_an_application_that_is_held_starts_after_the_proxy() -> None:
    hold = {"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"}
    done = inject(pod(annotations=hold), PLAIN)
    assert names(done.pod) == ["istio-proxy", "app"]
    wait = container(done.pod)["lifecycle"]["postStart"]["exec"]["command"]
    assert wait == ["pilot-agent", "wait"]
    by_mesh = MeshView(default_config={"holdApplicationUntilProxyStarts": True})
    assert names(inject(pod(), PLAIN, by_mesh).pod) == ["istio-proxy", "app"]


@pytest.mark.parametrize("word", ["true", "false"])
def test_a_pod_chooses_what_kind_of_sidecar_it_gets(word: str) -> None:
    done = inject(pod(annotations={"sidecar.istio.io/nativeSidecar": word}))
    assert ("istio-proxy" in names(done.pod, "initContainers")) == (word == "true")


def test_with_cni_capture_is_only_verified_and_the_node_is_told_what_to_capture() -> None:
    told = made.made_settings(init={"cni": True}, nativeSidecars=False)
    done = inject(pod(initContainers=[{"name": "migrate", "image": "m"}]), told)
    assert names(done.pod, "initContainers") == ["istio-validation", "migrate"]
    check = container(done.pod, "istio-validation")
    assert check["args"][-2:] == ["--run-validation", "--skip-rule-apply"]
    assert check["securityContext"]["runAsUser"] == 1337
    assert "add" not in check["securityContext"]["capabilities"]
    annotations = done.pod["metadata"]["annotations"]
    assert annotations["sidecar.istio.io/interceptionMode"] == "REDIRECT"
    assert annotations["traffic.sidecar.istio.io/excludeInboundPorts"] == "15020"


def arguments(done: pods.Injected) -> dict[str, str]:
    args = container(done.pod, "istio-init")["args"]
    return {flag: args[i + 1] for i, flag in enumerate(args) if len(flag) == 2 and flag[0] == "-"}


def test_capture_follows_the_annotations() -> None:
    done = inject(
        pod(
            annotations={
                "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
                "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.9.0.0/16",
                "traffic.sidecar.istio.io/includeInboundPorts": "8080,9090",
                "traffic.sidecar.istio.io/excludeInboundPorts": "22",
                "traffic.sidecar.istio.io/excludeOutboundPorts": "5432",
                "traffic.sidecar.istio.io/excludeInterfaces": "net1",
                "status.sidecar.istio.io/port": "15120",
            }
        )
    )
    assert arguments(done) == {
        "-p": "15001",
        "-z": "15006",
        "-u": "1337",
        "-m": "REDIRECT",
        "-i": "10.0.0.0/8",
        "-x": "10.9.0.0/16",
        "-b": "8080,9090",
        "-d": "15090,15021,15120,22",
        "-o": "5432",
        "-c": "net1",
    }


def test_without_interception_nothing_captures() -> None:
    done = inject(pod(annotations={"sidecar.istio.io/interceptionMode": "NONE"}))
    assert names(done.pod, "initContainers") == ["istio-proxy"]
    assert variables(done.pod)["ISTIO_META_INTERCEPTION_MODE"] == "NONE"


def test_a_transparent_proxy_is_root_with_rights_over_the_network() -> None:
    rights = container(inject(pod(annotations={wishes.INTERCEPTION_MODE: "TPROXY"})).pod)
    assert rights["securityContext"]["runAsUser"] == 0
    assert rights["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]


def test_annotations_about_resources_replace_those_of_the_settings() -> None:
    assert container(inject(pod()).pod)["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "2000m", "memory": "1024Mi"},
    }
    done = inject(pod(annotations={"sidecar.istio.io/proxyMemoryLimit": "64Mi"}))
    assert container(done.pod)["resources"] == {"limits": {"memory": "64Mi"}}
    named = {each["name"]: each for each in container(done.pod)["env"]}
    assert named["GOMEMLIMIT"]["valueFrom"]["resourceFieldRef"]["resource"] == "limits.memory"
    assert "GOMAXPROCS" not in named


@pytest.mark.parametrize(
    ("annotations", "image"),
    [
        ({}, "registry/proxyv2:1.2"),
        ({"sidecar.istio.io/proxyImage": "mine/envoy:3"}, "mine/envoy:3"),
        ({"sidecar.istio.io/proxyImageType": "distroless"}, "registry/proxyv2:1.2-distroless"),
        ({"proxy.istio.io/config": "image: {imageType: debug}"}, "registry/proxyv2:1.2-debug"),
    ],
)
def test_images_follow_annotation_and_type(annotations: dict[str, str], image: str) -> None:
    told = made.made_settings(proxy={"image": "registry/proxyv2:1.2"})
    assert container(inject(pod(annotations=annotations), told).pod)["image"] == image


def test_volumes_of_the_owners_are_mounted() -> None:
    done = inject(
        pod(
            volumes=[{"name": "mine", "emptyDir": {}}],
            annotations={
                wishes.USER_VOLUME: json.dumps({"certs": {"secret": {"secretName": "s"}}}),
                wishes.USER_VOLUME_MOUNT: json.dumps({"certs": {"mountPath": "/certs"}}),
            },
        )
    )
    volumes = {each["name"]: each for each in done.pod["spec"]["volumes"]}
    assert volumes["certs"] == {"name": "certs", "secret": {"secretName": "s"}}
    assert volumes["mine"] == {"name": "mine", "emptyDir": {}}
    mounts = container(done.pod)["volumeMounts"]
    assert {"name": "certs", "mountPath": "/certs"} in mounts
    assert {mount["name"] for mount in mounts} <= volumes.keys()


@pytest.mark.parametrize("told", [DEFAULT, PLAIN], ids=["native", "ordinary"])
def test_what_the_owner_writes_of_the_proxys_container_wins(told: settings.Settings) -> None:
    own = {
        "name": "istio-proxy",
        "image": "auto",
        "resources": {"requests": {"cpu": "1"}},
        "env": [{"name": "MINE", "value": "1"}, {"name": "TRUST_DOMAIN", "value": "mine"}],
        "securityContext": {"runAsUser": 4242},
    }
    given = pod(containers=[{"name": "app", "image": "web:1"}, own])
    done = inject(given, told)
    proxy = container(done.pod)
    assert proxy["image"] == DEFAULT.proxy.image
    assert proxy["resources"]["requests"] == {"cpu": "1", "memory": "128Mi"}
    assert variables(done.pod)["MINE"] == "1"
    assert variables(done.pod)["TRUST_DOMAIN"] == "mine"
    assert arguments(done)["-u"] == "4242"
    assert [*names(done.pod, "initContainers"), *names(done.pod)].count("istio-proxy") == 1


def test_a_gateway_pod_is_its_proxy() -> None:
    done = inject(
        pod(
            annotations={"inject.istio.io/templates": "gateway"},
            containers=[
                {"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 443}]}
            ],
        )
    )
    proxy = container(done.pod)
    assert names(done.pod, "initContainers") == []
    assert proxy["image"] == DEFAULT.proxy.image
    assert proxy["args"][:2] == ["proxy", "router"]
    assert {port["containerPort"] for port in proxy["ports"]} == {443, 15090}
    (sysctl,) = done.pod["spec"]["securityContext"]["sysctls"]
    assert sysctl == {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}


def test_templates_of_the_settings_are_merged_over_the_built_in_ones() -> None:
    told = made.made_settings(
        templates={
            "sidecar": {
                "spec": {
                    "containers": [{"name": "istio-proxy", "env": [{"name": "A", "value": "1"}]}]
                }
            },
            "debug": {
                "metadata": {"labels": {"debug": "on"}},
                "spec": {"shareProcessNamespace": True},
            },
        },
        aliases={"all": ["sidecar", "debug"]},
    )
    done = inject(pod(), told)
    assert variables(done.pod)["A"] == "1"
    assert names(done.pod) == ["app"]
    done = inject(pod(annotations={"inject.istio.io/templates": "all"}), told)
    assert done.pod["metadata"]["labels"]["debug"] == "on"
    assert done.pod["spec"]["shareProcessNamespace"] is True
    assert variables(done.pod)["A"] == "1"


def test_a_template_may_change_the_application_and_its_owner_keeps_the_last_word() -> None:
    told = made.made_settings(
        templates={
            "extra": {
                "spec": {
                    "containers": [
                        {"name": "app", "image": "other", "env": [{"name": "B", "value": "2"}]}
                    ]
                }
            }
        },
        defaultTemplates=["sidecar", "extra"],
    )
    given = pod(containers=[{"name": "first", "image": "f"}, {"name": "app", "image": "web:1"}])
    done = inject(given, told)
    assert names(done.pod) == ["first", "app"]
    assert container(done.pod, "app")["image"] == "web:1"
    assert container(done.pod, "app")["env"] == [{"name": "B", "value": "2"}]


def test_labels_and_status_say_what_was_done() -> None:
    told = made.made_settings(
        controlPlane={"revision": "canary"}, proxy={"imagePullSecrets": ["key"]}
    )
    done = inject(pod(labels={"version": "v2"}), told)
    assert done.pod["metadata"]["labels"] == {
        "app": "web",
        "version": "v2",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "web",
        "service.istio.io/canonical-revision": "v2",
    }
    status = json.loads(done.pod["metadata"]["annotations"][wishes.STATUS])
    assert status["initContainers"] == ["istio-init", "istio-proxy"]
    assert (status["imagePullSecrets"], status["revision"]) == (["key"], "canary")
    assert variables(done.pod)["CA_ADDR"] == "istiod-canary.istio-system.svc:15012"
    told_proxy = json.loads(variables(done.pod)["PROXY_CONFIG"])
    assert told_proxy == {"discoveryAddress": "istiod-canary.istio-system.svc:15012"}


def test_a_new_injection_takes_away_what_it_no_longer_puts_in() -> None:
    earlier = inject(pod(), PLAIN).pod
    done = pods.inject(pods.Request(earlier, "shop"), DEFAULT, made.MESH)
    assert names(done.pod) == ["app"]
    assert names(done.pod, "initContainers") == ["istio-init", "istio-proxy"]


def test_proxy_settings_come_from_mesh_objects_and_annotation_in_that_order() -> None:
    mesh = MeshView(default_config={"concurrency": 1, "proxyMetadata": {"A": "mesh", "B": "mesh"}})
    request = pods.Request(
        pod(annotations={"proxy.istio.io/config": "proxyMetadata: {A: mine}"}),
        "shop",
        own_config={"concurrency": 4},
    )
    done = pods.inject(request, DEFAULT, mesh)
    assert json.loads(variables(done.pod)["PROXY_CONFIG"])["concurrency"] == 4
    assert (variables(done.pod)["A"], variables(done.pod)["B"]) == ("mine", "mesh")


def test_the_webhooks_address_and_the_pods_network_decide_the_place() -> None:
    request = pods.Request(
        pod(labels={"topology.istio.io/network": "net-2"}),
        "shop",
        environment={"ISTIO_META_CLUSTER_ID": "remote"},
    )
    done = pods.inject(request, DEFAULT, made.MESH)
    assert variables(done.pod)["ISTIO_META_CLUSTER_ID"] == "remote"
    assert variables(done.pod)["ISTIO_META_NETWORK"] == "net-2"
    told = made.made_settings(cluster={"network": "net-1"})
    done = inject(pod(), told)
    assert variables(done.pod)["ISTIO_META_NETWORK"] == "net-1"
    assert done.pod["metadata"]["labels"]["topology.istio.io/network"] == "net-1"


def test_navarchs_own_agent_may_run_a_stock_envoy() -> None:
    told = made.made_settings(
        proxy={"agent": "navarch", "image": "navarch/agent:1"}, init={"image": "istio/proxyv2:1"}
    )
    done = inject(pod(), told)
    assert container(done.pod, "istio-init")["image"] == "istio/proxyv2:1"
    proxy = container(done.pod)
    assert (proxy["image"], proxy["command"]) == ("navarch/agent:1", ["navarch-agent"])
    assert proxy["args"][:2] == ["proxy", "sidecar"]
    assert proxy["args"][-1] == "--log_output_level=info"
    assert "lifecycle" not in proxy


@pytest.mark.parametrize(
    ("annotations", "word"),
    [
        ({wishes.INTERCEPTION_MODE: "MAYBE"}, "REDIRECT, TPROXY or NONE"),
        ({wishes.STATUS_PORT: "70000"}, "port number"),
        ({wishes.EXCLUDE_OUTBOUND_RANGES: "10.0.0.1"}, "subnets"),
        ({wishes.INCLUDE_INBOUND_PORTS: "80,http"}, "'http'"),
        ({wishes.MERGE_METRICS: "perhaps"}, "true or false"),
        ({wishes.USER_VOLUME: "[]"}, "JSON object"),
        ({wishes.PROXY_CONFIG: "concurrency: many"}, "concurrency must be a whole number"),
        ({wishes.PROXY_CONFIG: "{"}, "no YAML"),
        ({wishes.TEMPLATES: "nothing"}, "there are gateway, sidecar"),
    ],
)
def test_a_bad_annotation_is_named_with_its_remedy(annotations: dict[str, str], word: str) -> None:
    with pytest.raises(wishes.InjectionError, match=next(iter(annotations))) as told:
        inject(pod(annotations=annotations))
    assert word in str(told.value)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"spec": []},
        {"spec": {"containers": "no"}},
        {"spec": {"containers": [1]}},
        {"spec": {}, "metadata": []},
        {"spec": {}, "metadata": {"labels": {"a": 1}}},
    ],
)
def test_what_is_no_pod_is_refused(shape: Any) -> None:
    with pytest.raises(wishes.InjectionError, match="the pod's"):
        pods.inject(pods.Request(shape, "shop"), DEFAULT, made.MESH)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"proxy": {"imag": "x"}}, "did you mean `image`"),
        ({"defaultTemplates": ["x"]}, "names no template"),
        ({"aliases": {"a": ["x"]}}, "names no template"),
        ({"templates": {"a": {"kind": "Pod"}}}, "metadata and spec"),
        ({"policy": "on"}, "must be one of"),
        ({"proxy": {"agent": "navarch"}}, "init.image is required beside navarch's agent"),
    ],
)
def test_bad_settings_are_named(body: dict[str, Any], word: str) -> None:
    with pytest.raises(errors.SettingsError, match=word):
        settings.read_settings(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
FULL: dict[str, Any] = {
    "metadata": {
        "name": "web",
        "labels": {"app": "web"},
        "annotations": {"prometheus.io/port": "1", "proxy.istio.io/config": "concurrency: 1"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web-12345", "controller": True}],
    },
    "spec": {
        "containers": [
            {
                "name": "app",
                "ports": [{"name": "http", "containerPort": 80}],
                "env": [{"name": "A", "value": "1"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "lifecycle": {"preStop": {"tcpSocket": {"port": 1}}},
            },
            {"name": "istio-proxy", "image": "auto", "securityContext": {"runAsUser": 5}},
        ],
        "initContainers": [{"name": "first"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in items:
        found += places(child, (*at, key))
    return found


@given(at=st.sampled_from(places(FULL)), value=JSON)
def test_whatever_stands_in_a_pod_it_is_injected_or_refused_by_name(at: Any, value: Any) -> None:
    broken = json.loads(json.dumps(FULL))
    holder = broken
    for part in at[:-1]:
        holder = holder[part]
    holder[at[-1]] = value
    with contextlib.suppress(wishes.InjectionError):
        done = pods.inject(pods.Request(broken, "shop"), DEFAULT, made.MESH)
        json.dumps(done.patch(broken))
