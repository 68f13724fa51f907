"""Whether what came as a pod has a pod's shape, as far as injection relies on it."""

from __future__ import annotations

from typing import Any, Final

from navarch.injection import wishes

_OBJECTS: Final = frozenset(
    {
        "exec",
        "grpc",
        "httpGet",
        "lifecycle",
        "livenessProbe",
        "postStart",
        "preStop",
        "readinessProbe",
        "resources",
        "securityContext",
        "startupProbe",
        "tcpSocket",
    }
)
_LISTS: Final = frozenset(
    {
        "containers",
        "env",
        "ephemeralContainers",
        "hostAliases",
        "imagePullSecrets",
        "initContainers",
        "ports",
        "resourceClaims",
        "topologySpreadConstraints",
        "volumeDevices",
        "volumeMounts",
        "volumes",
    }
)
_TEXTS: Final = frozenset({"dnsPolicy", "image", "name", "namespace", "generateName"})
_SCALARS: Final = frozenset({"containerPort", "port", "runAsGroup", "runAsUser", "timeoutSeconds"})
_MAX_DEPTH: Final = 50


def check_pod(pod: dict[str, Any]) -> None:
    """Check a pod's metadata and spec.

    Raises:
        wishes.InjectionError: It is no pod; the message names the field.
    """
    metadata = pod.get("metadata")
    if metadata is None:
        metadata = pod["metadata"] = {}
    for field, value in (("metadata", metadata), ("spec", pod.get("spec"))):
        if not isinstance(value, dict):
            raise _wrong(field, "an object")
    for field in ("labels", "annotations"):
        given = metadata.get(field) or {}
        if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
            raise _wrong(f"metadata.{field}", "texts by name")
    references = metadata.get("ownerReferences") or []
    if not isinstance(references, list) or not all(isinstance(r, dict) for r in references):
        raise _wrong("metadata.ownerReferences", "a list of objects")
    for field in _TEXTS:
        if not isinstance(metadata.get(field) or "", str):
            raise _wrong(f"metadata.{field}", "a text")
    _check_object(pod["spec"], "spec", 0)


def _check_object(value: dict[str, Any], at: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _wrong(at, "less deep")
    for key, child in value.items():
        place = f"{at}.{key}"
        if child is None:
            continue
        if key in _LISTS:
            if not isinstance(child, list) or not all(isinstance(each, dict) for each in child):
                raise _wrong(place, "a list of objects")
            for index, each in enumerate(child):
                _check_object(each, f"{place}[{index}]", depth + 1)
        elif key in _OBJECTS and isinstance(child, dict):
            _check_object(child, place, depth + 1)
        else:
            _check_value(key, child, place)


def _check_value(key: str, value: object, at: str) -> None:
    if key in _OBJECTS:
        raise _wrong(at, "an object")
    if key in _TEXTS and not isinstance(value, str):
        raise _wrong(at, "a text")
    if key in _SCALARS and not isinstance(value, int | str):
        raise _wrong(at, "a number or a text")


def _wrong(at: str, wanted: str) -> wishes.InjectionError:
    return wishes.InjectionError(f"the pod's {at} must be {wanted}")
