"""Which pods get a proxy: labels, selectors, policy, in Istio's order."""

from __future__ import annotations

import pytest

from navarch.injection import labels, pods
from tests.unit.injection import pods as made

ENABLED = {"istio-injection": "enabled"}
DISABLED = {"istio-injection": "disabled"}


@pytest.mark.parametrize(
    ("namespace", "pod", "revision", "wanted"),
    [
        (ENABLED, {}, "default", True),
        (ENABLED, {"sidecar.istio.io/inject": "false"}, "default", False),
        (ENABLED, {}, "canary", False),
        (ENABLED | {"istio.io/rev": "canary"}, {}, "canary", False),
        (DISABLED, {"sidecar.istio.io/inject": "true"}, "default", False),
        ({}, {}, "default", False),
        ({}, {"sidecar.istio.io/inject": "true"}, "default", True),
        ({}, {"sidecar.istio.io/inject": "true"}, "canary", False),
        ({"istio.io/rev": "canary"}, {}, "canary", True),
        ({"istio.io/rev": "canary"}, {}, "default", False),
        ({"istio.io/rev": "canary"}, {"istio.io/rev": "other"}, "canary", True),
        ({"istio.io/rev": "default"}, {}, "default", True),
        ({}, {"istio.io/rev": "canary"}, "canary", True),
        ({}, {"istio.io/rev": "canary", "sidecar.istio.io/inject": "true"}, "default", False),
        ({}, {"istio.io/rev": "canary", "sidecar.istio.io/inject": "false"}, "canary", False),
    ],
)
def test_labels_of_namespace_and_pod(
    *, namespace: dict[str, str], pod: dict[str, str], revision: str, wanted: bool
) -> None:
    asked = labels.ask_labels(namespace, pod, revision)
    assert asked.is_wanted == wanted
    assert asked.reason


NEVER = {"neverInjectSelector": [{"matchLabels": {"app": "web"}}]}
ALWAYS = {
    "policy": "disabled",
    "alwaysInjectSelector": [{"matchExpressions": [{"key": "app", "operator": "Exists"}]}],
}


@pytest.mark.parametrize(
    ("settings", "own_labels", "annotations", "injected"),
    [
        ({}, {}, {}, True),
        ({"policy": "disabled"}, {}, {}, False),
        ({"policy": "disabled"}, {"sidecar.istio.io/inject": "yes"}, {}, True),
        ({}, {}, {"sidecar.istio.io/inject": "false"}, False),
        ({}, {"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}, True),
        (NEVER, {}, {}, False),
        (NEVER, {"sidecar.istio.io/inject": "true"}, {}, True),
        (ALWAYS, {}, {}, True),
        ({"policy": "disabled", "alwaysInjectSelector": [{}]}, {}, {}, False),
    ],
)
def test_the_pods_own_word_selectors_and_policy(
    *,
    settings: dict[str, object],
    own_labels: dict[str, str],
    annotations: dict[str, str],
    injected: bool,
) -> None:
    given = made.pod(labels=own_labels, annotations=annotations)
    done = pods.inject(pods.Request(given, "shop"), made.made_settings(**settings), made.MESH)
    assert (not done.skipped) == injected
    if not injected:
        assert done.pod == given


def test_the_host_network_and_the_clusters_own_namespaces_are_left_alone() -> None:
    on_host = pods.Request(made.pod(hostNetwork=True), "shop")
    assert "host's network" in pods.inject(on_host, made.DEFAULT, made.MESH).skipped
    system = pods.Request(made.pod(), "kube-system")
    assert "kube-system" in pods.inject(system, made.DEFAULT, made.MESH).skipped


def test_a_pod_that_does_not_ask_the_clusters_dns_is_warned_of() -> None:
    done = made.inject(made.pod(dnsPolicy="Default"))
    assert "dnsPolicy is Default" in done.warnings[0]
