"""The registry: which objects are ours, versions, metadata, leniencies, Kubernetes' own kinds."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any

import pytest

from navarch import errors, records
from navarch.crds import registry
from tests.unit.crds import objects

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTE: dict[str, Any] = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}


@pytest.mark.parametrize(
    ("api_version", "kind", "name"),
    [
        ("v1", "Service", "Service"),
        ("networking.istio.io/v1alpha3", "Gateway", "Gateway"),
        ("gateway.networking.k8s.io/v1", "Gateway", "KubernetesGateway"),
        ("networking.istio.io/v9", "VirtualService", "VirtualService"),
        ("apps/v1", "Deployment", None),
        ("example.com/v1", "VirtualService", None),
        ("", "", None),
    ],
)
def test_objects_are_found_by_group_and_kind(api_version: str, kind: str, name: str | None) -> None:
    """The two kinds of Gateway differ by group; foreign groups are none of ours."""
    found = registry.find_kind(api_version, kind)
    assert (found.name if found else None) == name


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_each_kind_is_found_by_what_its_objects_say(kind: str) -> None:
    """Every version that a kind reads leads back to it."""
    entry = registry.KINDS[kind]
    for api_version in entry.api_versions:
        assert registry.find_kind(api_version, entry.written_kind) is entry


def test_versions_of_one_kind_give_the_same_bytes() -> None:
    """The API versions of a kind differ in name only."""
    payloads = []
    for version in ("v1", "v1beta1", "v1alpha3"):
        payload = objects.read_payload(
            "VirtualService", ROUTE, apiVersion=f"networking.istio.io/{version}"
        )
        assert payload.pop("apiVersion") == f"networking.istio.io/{version}"
        payloads.append(payload)
    assert payloads[0] == payloads[1] == payloads[2]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"apiVersion": "networking.istio.io/v2"}, {("apiVersion", "unknown-version")}),
        ({"apiVersion": 1}, {("apiVersion", "unknown-version")}),
        ({"kind": "Gateway"}, {("kind", "unknown-kind")}),
        ({"metadata": {}}, {("metadata.name", "missing-field")}),
        ({"metadata": "x"}, {("metadata", "wrong-type")}),
        ({"metadata": {"name": 1}}, {("metadata.name", "wrong-type")}),
        (
            {"metadata": {"name": "a", "labels": {"x": True}}},
            {("metadata.labels.x", "wrong-type")},
        ),
        (
            {"metadata": {"name": "a", "creationTimestamp": "yesterday"}},
            {("metadata.creationTimestamp", "invalid-timestamp")},
        ),
        ({"extra": 1}, {("extra", "unknown-field")}),
        ({"spec": []}, {("spec", "wrong-type")}),
    ],
)
def test_the_frame_of_an_object_is_checked(parts: Mapping[str, Any], found: objects.Found) -> None:
    """Faults outside the spec are found at their fields."""
    assert objects.find_faults("VirtualService", ROUTE, **parts) == found


def test_an_unknown_kind_is_refused() -> None:
    """A key of no kind gives an error that says so."""
    raw = records.RawObject(records.SourceKey("Nothing", "", "x"), {}, objects.ORIGIN)
    with pytest.raises(errors.CrdError) as caught:
        registry.read(raw)
    assert objects.pairs(caught.value) == {("kind", "unknown-kind")}


def test_faults_carry_key_and_origin() -> None:
    """A diagnostic says which object of which file is meant."""
    raw = objects.mk_raw("VirtualService", {"hosts": 1})
    with pytest.raises(errors.CrdError) as caught:
        registry.read(raw)
    assert {(d.key, d.origin) for d in caught.value.diagnostics} == {(raw.key, objects.ORIGIN)}
    assert "spec.hosts: must be a list, not 1" in str(caught.value)


def test_an_unknown_field_names_the_nearest() -> None:
    """The remedy for a slip of the pen is the name that was meant."""
    raw = objects.mk_raw("VirtualService", {**ROUTE, "gatways": []})
    with pytest.raises(errors.CrdError, match="did you mean `gateways`"):
        registry.read(raw)


def test_many_faults_are_counted() -> None:
    """A huge broken object gives a bounded number of diagnostics."""
    spec = {**ROUTE, "exportTo": ["~"] * 5000}
    with pytest.raises(errors.CrdError) as caught:
        registry.read(objects.mk_raw("VirtualService", spec))
    assert len(caught.value.diagnostics) == 101
    assert caught.value.diagnostics[-1].code == "more-faults"


def test_metadata_is_reduced() -> None:
    """What the mesh does not read of metadata can't change the payload."""
    payload = objects.read_payload(
        "VirtualService",
        ROUTE,
        metadata={
            "name": "it",
            "labels": {"b": "1", "a": "2"},
            "annotations": None,
            "creationTimestamp": "2024-01-31T12:00:00+02:00",
            "generation": 3,
            "resourceVersion": "77",
            "uid": "x",
            "managedFields": [{}],
        },
    )
    assert payload["metadata"] == {
        "name": "it",
        "namespace": "shop",
        "labels": {"a": "2", "b": "1"},
        "creationTimestamp": "2024-01-31T10:00:00Z",
        "generation": 3,
    }


def test_bodies_may_be_any_mapping() -> None:
    """A source may hand in a read-only body."""
    raw = objects.mk_raw("VirtualService", ROUTE)
    frozen = records.RawObject(raw.key, types.MappingProxyType(raw.body), raw.origin)
    assert registry.read(frozen).payload == registry.read(raw).payload


LENIENT: dict[str, tuple[str, Any, Any]] = {
    "snake case": (
        "VirtualService",
        {"hosts": ["a"], "export_to": ["."], "http": [{"mirror_percent": 5, **ROUTE["http"][0]}]},
        {"hosts": ["a"], "exportTo": ["."], "http": [{"mirrorPercent": 5, **ROUTE["http"][0]}]},
    ),
    "null is absent": (
        "VirtualService",
        {**ROUTE, "gateways": None, "tls": None, "exportTo": None},
        ROUTE,
    ),
    "numbers as text": (
        "WorkloadEntry",
        {"address": "10.0.0.1", "weight": "3", "ports": {"http": "80"}},
        {"address": "10.0.0.1", "weight": 3, "ports": {"http": 80}},
    ),
    "whole numbers with a fraction": (
        "WorkloadEntry",
        {"address": "10.0.0.1", "weight": 3.0},
        {"address": "10.0.0.1", "weight": 3},
    ),
    "a number in quotes for a share": (
        "DestinationRule",
        {"host": "a", "trafficPolicy": {"retryBudget": {"percent": "12.5"}}},
        {"host": "a", "trafficPolicy": {"retryBudget": {"percent": 12.5}}},
    ),
    "numbers as keys": (
        "PeerAuthentication",
        {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {80: {"mode": "STRICT"}}},
        {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"80": {"mode": "STRICT"}}},
    ),
    "zero scalars are absent": (
        "VirtualService",
        {"hosts": ["a"], "gateways": [], "http": [{"name": "", "match": [], **ROUTE["http"][0]}]},
        ROUTE,
    ),
    "wrapped zeros and empty messages stay": (
        "DestinationRule",
        {
            "host": "a",
            "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 0}, "tls": {}},
        },
        {
            "host": "a",
            "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 0}, "tls": {}},
        },
    ),
    "durations": (
        "DestinationRule",
        {"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "1h1.5s"}}}},
        {"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "3601.5s"}}}},
    ),
    "free values keep their nulls": (
        "WasmPlugin",
        {"url": "x", "pluginConfig": {"a": None}},
        {"url": "x", "pluginConfig": {"a": None}},
    ),
}


@pytest.mark.parametrize(("kind", "given", "canonical"), LENIENT.values(), ids=LENIENT.keys())
def test_protobuf_json_is_read_as_istio_reads_it(kind: str, given: Any, canonical: Any) -> None:
    """Equal objects in protobuf's JSON have one canonical form."""
    assert objects.read_spec(kind, given) == canonical


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"hosts": [None]}, {("spec.hosts[0]", "wrong-type")}),
        ({**ROUTE, "hosts": "a"}, {("spec.hosts", "wrong-type")}),
        ({**ROUTE, "http": [None]}, {("spec.http[0]", "wrong-type")}),
        ({**ROUTE, "http": {"a": 1}}, {("spec.http", "wrong-type")}),
        ({**ROUTE, "http": [{"timeout": 5}]}, {("spec.http[0].timeout", "wrong-type")}),
        (
            {**ROUTE, "tcp": [{"match": [{"port": True, "sourceLabels": {"a": None}}]}]},
            {
                ("spec.tcp[0].match[0].port", "wrong-type"),
                ("spec.tcp[0].match[0].sourceLabels.a", "wrong-type"),
            },
        ),
        (
            {**ROUTE, "tcp": [{"match": [{"port": -1}, {"port": "4294967296"}, {"port": 1.5}]}]},
            {
                ("spec.tcp[0].match[0].port", "out-of-range"),
                ("spec.tcp[0].match[1].port", "out-of-range"),
                ("spec.tcp[0].match[2].port", "wrong-type"),
            },
        ),
    ],
)
def test_wrong_types_are_found_at_their_fields(spec: Any, found: objects.Found) -> None:
    """What protobuf's JSON does not allow is a fault, however YAML came to read it so."""
    assert found <= objects.find_faults("VirtualService", spec)


KUBERNETES: dict[str, tuple[str, dict[str, Any], objects.Found]] = {
    "service": (
        "Service",
        {"spec": {"ports": [{"port": "http"}, {}], "selector": {"a": 1}, "clusterIPs": "x"}},
        {
            ("spec.ports[0].port", "wrong-type"),
            ("spec.ports[1].port", "missing-field"),
            ("spec.selector.a", "wrong-type"),
            ("spec.clusterIPs", "wrong-type"),
        },
    ),
    "slice": (
        "EndpointSlice",
        {"endpoints": [{"addresses": "10.0.0.1"}], "ports": [{"port": 0}]},
        {("endpoints[0].addresses", "wrong-type"), ("ports[0].port", "out-of-range")},
    ),
    "pod": (
        "Pod",
        {"spec": {"nodeName": 1}, "status": {"podIPs": ["10.0.0.1"]}},
        {("spec.nodeName", "wrong-type"), ("status.podIPs[0]", "wrong-type")},
    ),
    "secret": ("Secret", {"data": {"a": 1}}, {("data.a", "wrong-type")}),
    "route": ("HTTPRoute", {"spec": []}, {("spec", "wrong-type")}),
}


@pytest.mark.parametrize(("kind", "parts", "found"), KUBERNETES.values(), ids=KUBERNETES.keys())
def test_fields_of_kubernetes_that_matter_are_checked(
    kind: str, parts: dict[str, Any], found: objects.Found
) -> None:
    """What the core relies on has the right type."""
    assert objects.find_faults(kind, **parts) == found


def test_kubernetes_objects_pass_as_they_are() -> None:
    """Fields that nothing here knows are handed on; nulls and the server's own notes are not."""
    payload = objects.read_payload(
        "Service",
        {"ports": [{"port": 80, "targetPort": "web", "new": {"x": None, "y": 1}}]},
        metadata={"name": "it", "namespace": "shop", "managedFields": [1], "uid": "u"},
        other=[None, 2],
    )
    assert payload["spec"] == {"ports": [{"port": 80, "targetPort": "web", "new": {"y": 1}}]}
    assert payload["metadata"] == {"name": "it", "namespace": "shop", "uid": "u"}
    assert payload["other"] == [None, 2]


@pytest.mark.parametrize(
    "value",
    [float("nan"), "\ud800", {1, 2}, b"x"],
    ids=["nan", "surrogate", "set", "bytes"],
)
def test_what_json_cant_hold_is_refused(value: object) -> None:
    """Whatever a parser may give, reading ends in a record or in a CrdError."""
    assert objects.find_faults("ConfigMap", extra={"a": value}) == {("", "not-json")}


@pytest.mark.parametrize("kind", ["ConfigMap", "VirtualService", "WasmPlugin"])
def test_deep_objects_are_refused(kind: str) -> None:
    """Nesting beyond the stack is a fault of the object."""
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    raw = objects.mk_raw(kind, {"url": "x", "pluginConfig": deep})
    with pytest.raises(errors.CrdError):
        registry.read(raw)
    while deep:
        deep = deep["a"]


def test_payloads_are_canonical() -> None:
    """Keys are sorted, and there are no blanks."""
    payload = registry.read(objects.mk_raw("VirtualService", ROUTE)).payload
    compact = json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"))
    assert payload == compact.encode()
