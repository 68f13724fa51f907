"""The CustomResourceDefinitions of the mesh's kinds, made from their models.

Names, versions, columns and labels are Istio's (manifests/charts/base/files/crd-all.gen.yaml), so that they may be
applied over an installation of Istio's, and hers over these, without an object being lost.
"""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any, Final

from navarch.crds import constraints, registry
from navarch.crds.schema import structural

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUP_SUFFIX: Final = ".istio.io"
_AGE: Final = ("Age", ".metadata.creationTimestamp", "date")
_SHORT_NAMES: Final[Mapping[str, str]] = types.MappingProxyType(
    {
        "AuthorizationPolicy": "ap",
        "DestinationRule": "dr",
        "Gateway": "gw",
        "PeerAuthentication": "pa",
        "RequestAuthentication": "ra",
        "ServiceEntry": "se",
        "Telemetry": "telemetry",
        "VirtualService": "vs",
        "WorkloadEntry": "we",
        "WorkloadGroup": "wg",
    }
)
_COLUMNS: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = types.MappingProxyType(
    {
        "AuthorizationPolicy": (("Action", ".spec.action", "string"), _AGE),
        "DestinationRule": (("Host", ".spec.host", "string"), _AGE),
        "PeerAuthentication": (("Mode", ".spec.mtls.mode", "string"), _AGE),
        "ServiceEntry": (
            ("Hosts", ".spec.hosts", "string"),
            ("Location", ".spec.location", "string"),
            ("Resolution", ".spec.resolution", "string"),
            _AGE,
        ),
        "Telemetry": (_AGE,),
        "TrafficExtension": (_AGE,),
        "VirtualService": (
            ("Gateways", ".spec.gateways", "string"),
            ("Hosts", ".spec.hosts", "string"),
            _AGE,
        ),
        "WasmPlugin": (_AGE,),
        "WorkloadEntry": (_AGE, ("Address", ".spec.address", "string")),
        "WorkloadGroup": (_AGE,),
    }
)
_GENERATION: Final[structural.Schema] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}
_TEXT: Final[structural.Schema] = {"type": "string"}
_TIME: Final[structural.Schema] = {"type": "string", "format": "date-time"}


def _object(**properties: structural.Schema) -> structural.Schema:
    return {"type": "object", "properties": properties}


_STATUS: Final[structural.Schema] = _object(
    conditions={
        "type": "array",
        "items": _object(
            lastProbeTime=_TIME,
            lastTransitionTime=_TIME,
            message=_TEXT,
            observedGeneration=_GENERATION,
            reason=_TEXT,
            status=_TEXT,
            type=_TEXT,
        ),
    },
    observedGeneration=_GENERATION,
    validationMessages={
        "type": "array",
        "items": _object(
            documentationUrl=_TEXT,
            level={"type": "string", "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"]},
            type=_object(code=_TEXT, name=_TEXT),
        ),
    },
) | {"x-kubernetes-preserve-unknown-fields": True}
"""istio.io/api meta/v1alpha1/status.proto; what other controllers write beside it stays."""


def mesh_kinds() -> list[registry.Kind]:
    """Return the kinds that have a definition here, by group and name."""
    kinds = (kind for kind in registry.KINDS.values() if kind.group.endswith(_GROUP_SUFFIX))
    return sorted(kinds, key=lambda kind: (kind.group, kind.name))


def find_plural(kind: registry.Kind) -> str:
    """Return a kind's name in the API server's paths."""
    singular = kind.written_kind.lower()
    return (
        f"{singular[:-1]}ies"
        if singular.endswith("y") and singular != "gateway"
        else f"{singular}s"
    )


def build_manifests() -> list[dict[str, Any]]:
    """Return one CustomResourceDefinition for each kind of the mesh's own API, always in the same order."""
    return [_build_definition(kind) for kind in mesh_kinds()]


def _build_definition(kind: registry.Kind) -> dict[str, Any]:
    plural = find_plural(kind)
    names: dict[str, Any] = {
        "categories": ["istio-io", kind.group.replace(".", "-")],
        "kind": kind.written_kind,
        "listKind": f"{kind.written_kind}List",
        "plural": plural,
        "singular": kind.written_kind.lower(),
    }
    if kind.name in _SHORT_NAMES:
        names["shortNames"] = [_SHORT_NAMES[kind.name]]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{kind.group}",
            "labels": {"app": "istio-pilot", "app.kubernetes.io/part-of": "navarch"},
            # An uninstalled release must not take every rule of the mesh with it.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "versions": _build_versions(kind),
        },
    }


def _storage_version(kind: registry.Kind) -> str:
    """Return the version in which etcd has the objects: Istio's, so that none has to be converted."""
    return "v1alpha1" if kind.name == "Telemetry" else kind.versions[0]


def _build_versions(kind: registry.Kind) -> list[dict[str, Any]]:
    spec_model: Any = kind.model.model_fields["spec"].annotation
    schema = _object(
        spec=structural.build_schema(spec_model, constraints.CONSTRAINTS),
        status=_STATUS,
    )
    if kind.name in constraints.NEEDS_SPEC:
        schema["required"] = ["spec"]
    made = []
    for version in sorted(kind.versions):
        each: dict[str, Any] = {
            "name": version,
            "served": True,
            "storage": version == _storage_version(kind),
            # Written anew: what is shared in memory would come out as YAML anchors.
            "schema": {"openAPIV3Schema": json.loads(json.dumps(schema))},
            "subresources": {"status": {}},
        }
        if kind.name in _COLUMNS:
            each["additionalPrinterColumns"] = [
                {"name": name, "jsonPath": path, "type": of}
                for name, path, of in _COLUMNS[kind.name]
            ]
        made.append(each)
    return made
