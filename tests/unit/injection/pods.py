"""Pods and settings that the tests of injection share."""

from __future__ import annotations

import copy
from typing import Any

from navarch.injection import pods, settings
from navarch.injection.inputs import MeshView

Pod = dict[str, Any]

MESH = MeshView(trust_domain="cluster.local")


def made_settings(**body: Any) -> settings.Settings:
    return settings.read_settings(body)


DEFAULT = made_settings()
PLAIN = made_settings(nativeSidecars=False)


def pod(*, annotations: Any = None, labels: Any = None, **spec: Any) -> Pod:
    return {
        "metadata": {
            "name": "web-1",
            "labels": {"app": "web"} | (labels or {}),
            "annotations": annotations or {},
        },
        "spec": {"containers": [{"name": "app", "image": "web:1"}]} | spec,
    }


def inject(given: Pod, told: settings.Settings = DEFAULT, mesh: MeshView = MESH) -> pods.Injected:
    """Inject once, and see that the argument stayed, and that a second time changes nothing."""
    before = copy.deepcopy(given)
    done = pods.inject(pods.Request(given, "shop"), told, mesh)
    assert given == before
    again = pods.inject(pods.Request(done.pod, "shop"), told, mesh)
    assert again.pod == done.pod, again.patch(done.pod)
    return done


def container(found: Pod, name: str = "istio-proxy") -> dict[str, Any]:
    spec = found["spec"]
    listed = [*spec.get("initContainers", ()), *spec["containers"]]
    (one,) = (each for each in listed if each["name"] == name)
    assert isinstance(one, dict)
    return one


def names(found: Pod, field: str = "containers") -> list[str]:
    return [each["name"] for each in found["spec"].get(field, ())]


def variables(found: Pod) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container(found)["env"]}
