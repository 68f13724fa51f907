"""The CustomResourceDefinitions: structural, complete, and Istio's in all that an existing cluster would notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from navarch.crds import manifests, registry

PORTS = ".portLevelSettings."
FIELDS = Path(__file__).parents[2] / "contracts" / "istio_fields.txt"
DEFINITIONS = {made["spec"]["names"]["kind"]: made for made in manifests.build_manifests()}
STORED_AT = {
    "EnvoyFilter": "v1alpha3",
    "ProxyConfig": "v1beta1",
    "Telemetry": "v1alpha1",
    "WasmPlugin": "v1alpha1",
    "TrafficExtension": "v1alpha1",
}


def spec_schema(kind: str, version: int = 0) -> Any:
    schema = DEFINITIONS[kind]["spec"]["versions"][version]["schema"]["openAPIV3Schema"]
    return schema["properties"]["spec"]


def objects(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each object of a schema with its fields."""
    if schema.get("type") == "array":
        yield from objects(schema["items"], at)
    elif "additionalProperties" in schema:
        yield from objects(schema["additionalProperties"], at)
    elif "properties" in schema:
        yield at or ".", set(schema["properties"])
        for name, child in schema["properties"].items():
            yield from objects(child, f"{at}.{name}" if at else name)


def nodes(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node that describes a value."""
    yield at, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{at}.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            yield from nodes(schema[word], f"{at}[]")


def istio_fields() -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = {}
    for line in FIELDS.read_text().splitlines():
        if not line.startswith("#"):
            where, _, names = line.partition(": ")
            kind, at = where.split(" ")
            found.setdefault(kind, {})[at] = set(names.split())
    return found


ISTIO_FIELDS = istio_fields()


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_of_istios_definition_is_kept_by_ours(kind: str) -> None:
    ours = dict(objects(spec_schema(kind)))
    policy = "subsets.trafficPolicy"
    assert {at: ours.get(at) for at in ISTIO_FIELDS[kind]} == ISTIO_FIELDS[kind]
    for at in ours.keys() - ISTIO_FIELDS[kind].keys():
        # The list has a traffic policy once; it is the same in a subset and, but for ports, at a port.
        shared = at.replace(policy, "trafficPolicy")
        shared = shared if shared in ISTIO_FIELDS[kind] else shared.replace(PORTS, ".", 1)
        assert ours[at] == ISTIO_FIELDS[kind].get(shared), at


def test_every_kind_of_the_mesh_has_a_definition() -> None:
    assert DEFINITIONS.keys() == ISTIO_FIELDS.keys()
    assert len(DEFINITIONS) == len(manifests.mesh_kinds())


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_version_that_is_read_is_served_and_one_is_stored(kind: str) -> None:
    versions = DEFINITIONS[kind]["spec"]["versions"]
    assert {each["name"] for each in versions} == set(registry.KINDS[kind].versions)
    assert all(each["served"] and each["subresources"] == {"status": {}} for each in versions)
    stored = [each["name"] for each in versions if each["storage"]]
    assert stored == [STORED_AT.get(kind, "v1")]
    assert len({json.dumps(each["schema"]) for each in versions}) == 1


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_schemas_are_structural(kind: str) -> None:
    for at, node in nodes(spec_schema(kind)):
        assert "$ref" not in node, at
        is_open = node.get("x-kubernetes-preserve-unknown-fields") is True
        is_port = node.get("x-kubernetes-int-or-string") is True
        assert isinstance(node.get("type"), str) or is_open or is_port, at
        assert not ({"properties", "additionalProperties"} <= node.keys()), at
        for rule in node.get("x-kubernetes-validations", []):
            assert rule.keys() == {"rule", "message"}, at


def test_names_are_those_that_people_type() -> None:
    names = DEFINITIONS["VirtualService"]["spec"]["names"]
    assert (names["plural"], names["shortNames"]) == ("virtualservices", ["vs"])
    assert names["categories"] == ["istio-io", "networking-istio-io"]
    plurals = {kind: made["spec"]["names"]["plural"] for kind, made in DEFINITIONS.items()}
    assert plurals["ServiceEntry"] == "serviceentries"
    assert plurals["Gateway"] == "gateways"
    assert plurals["AuthorizationPolicy"] == "authorizationpolicies"
    assert plurals["Telemetry"] == "telemetries"


def test_types_are_protobufs() -> None:
    policy = spec_schema("DestinationRule")["properties"]["trafficPolicy"]["properties"]
    outlier = policy["outlierDetection"]["properties"]
    assert outlier["consecutive5xxErrors"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**32 - 1,
        "nullable": True,
    }
    assert outlier["maxEjectionPercent"] == {"type": "integer", "format": "int32"}
    interval = outlier["interval"]
    assert interval["type"] == "string"
    assert "duration(self)" in interval["x-kubernetes-validations"][0]["rule"]
    idle = policy["connectionPool"]["properties"]["tcp"]["properties"]["idleTimeout"]
    assert idle == {"type": "string"}
    balancer = policy["loadBalancer"]
    assert balancer["oneOf"][1:] == [{"required": ["simple"]}, {"required": ["consistentHash"]}]
    assert "nullable" not in balancer["properties"]["consistentHash"]["properties"]["useSourceIp"]
    patch = spec_schema("EnvoyFilter")["properties"]["configPatches"]["items"]["properties"][
        "patch"
    ]
    value = patch["properties"]["value"]
    assert value == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def test_yaml_has_no_anchors_and_is_the_same_each_time() -> None:
    once = yaml.safe_dump(DEFINITIONS["DestinationRule"])
    assert "&id" not in once
    again = {made["spec"]["names"]["kind"]: made for made in manifests.build_manifests()}
    assert again == DEFINITIONS


def test_a_definition_fits_what_kubectl_apply_notes_on_it() -> None:
    """kubectl keeps what it applied in an annotation, and annotations have 256 KiB together."""
    assert all(len(json.dumps(made)) < 200_000 for made in DEFINITIONS.values())
