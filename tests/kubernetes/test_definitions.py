"""The CustomResourceDefinitions on a real API server: all of them, good and bad objects, versions, columns."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from navarch.crds import manifests
from tests.kubernetes import api

if TYPE_CHECKING:
    from tests.kubernetes.api import Api
    from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

CASES = Path(__file__).parents[1] / "parity" / "cases"
GROUP = "apiextensions.k8s.io/v1"
KIND = "CustomResourceDefinition"
NETWORKING, SECURITY = "networking.istio.io", "security.istio.io"
TELEMETRY, EXTENSIONS = "telemetry.istio.io", "extensions.istio.io"
WAIT_SECONDS = 30


def conditions(client: Api, name: str) -> dict[str, dict[str, Any]]:
    told = client.get(GROUP, KIND, "", name).get("status", {}).get("conditions", [])
    return {each["type"]: each for each in told}


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Api:
    """Give a client of a server that has all definitions."""
    made = cluster.api()
    names = [each["metadata"]["name"] for each in made.apply(manifests.build_manifests())]
    deadline = time.monotonic() + WAIT_SECONDS
    for name in names:
        while conditions(made, name).get("Established", {}).get("status") != "True":
            assert time.monotonic() < deadline, conditions(made, name)
            time.sleep(0.1)
    return made


def sample(api_version: str, kind: str, name: str = "sample", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def route(**more: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": "a"}}]} | more


POLICY = {"loadBalancer": {"simple": "LEAST_REQUEST"}, "tls": {"mode": "ISTIO_MUTUAL"}}
WASM: dict[str, Any] = {
    "url": "oci://registry/filter:1",
    "phase": "AUTHN",
    "pluginConfig": {"any": [1, {"a": None}]},
}
VALUE = {"name": "x", "typed_config": {"@type": "type.googleapis.com/a.B", "deep": {"er": [1]}}}
SELECTOR = {"matchLabels": {"app": "a"}}
PORT = {"number": 80, "name": "http", "protocol": "HTTP"}

GOOD = [
    sample(
        f"{NETWORKING}/v1",
        "VirtualService",
        hosts=["a"],
        http=[
            route(timeout="1.5s", retries={"attempts": 2, "perTryTimeout": "250ms"}),
            route(match=[{"uri": {"prefix": "/"}, "headers": {"x": {"exact": "y"}}}]),
            route(fault={"delay": {"fixedDelay": "5s", "percentage": {"value": 0.1}}}),
            {"redirect": {"uri": "/new", "port": 8443}},
            {"directResponse": {"status": 503, "body": {"string": "no"}}},
            route(mirror={"host": "b"}, mirror_percent=5, corsPolicy={"maxAge": "24h"}),
        ],
    ),
    sample(
        f"{NETWORKING}/v1",
        "DestinationRule",
        host="a",
        trafficPolicy=POLICY | {"portLevelSettings": [{"port": {"number": 80}} | POLICY]},
        subsets=[{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": POLICY}],
    ),
    sample(
        f"{NETWORKING}/v1",
        "ServiceEntry",
        hosts=["example.com"],
        addresses=["10.0.0.0/8"],
        ports=[PORT],
        resolution="STATIC",
        endpoints=[{"address": "10.0.0.1", "ports": {"http": 8080}}],
    ),
    sample(f"{NETWORKING}/v1", "WorkloadEntry", address="10.0.0.1", weight=3),
    sample(
        f"{NETWORKING}/v1",
        "WorkloadGroup",
        template={"serviceAccount": "vm", "ports": {"http": 80}},
        probe={"httpGet": {"port": 80}, "periodSeconds": 3},
    ),
    sample(
        f"{NETWORKING}/v1",
        "Gateway",
        selector={"istio": "ingress"},
        servers=[{"port": PORT, "hosts": ["*"], "tls": {"httpsRedirect": True}}],
    ),
    sample(f"{NETWORKING}/v1", "Sidecar", egress=[{"hosts": ["./*"]}]),
    sample(
        f"{NETWORKING}/v1alpha3",
        "EnvoyFilter",
        priority=-1,
        configPatches=[
            {
                "applyTo": "HTTP_FILTER",
                "match": {"context": "SIDECAR_INBOUND", "listener": {"portNumber": 80}},
                "patch": {"operation": "INSERT_BEFORE", "value": VALUE},
            }
        ],
    ),
    sample(f"{NETWORKING}/v1beta1", "ProxyConfig", selector=SELECTOR, concurrency=0),
    sample(
        f"{SECURITY}/v1",
        "PeerAuthentication",
        selector=SELECTOR,
        mtls={"mode": "STRICT"},
        portLevelMtls={"80": {"mode": "DISABLE"}},
    ),
    sample(
        f"{SECURITY}/v1",
        "RequestAuthentication",
        jwtRules=[{"issuer": "i", "jwksUri": "https://a/keys", "timeout": "5s"}],
    ),
    sample(
        f"{SECURITY}/v1",
        "AuthorizationPolicy",
        action="DENY",
        targetRefs=[{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "g"}],
        rules=[
            {
                "from": [{"source": {"principals": ["*"], "notNamespaces": ["b"]}}],
                "to": [{"operation": {"methods": ["GET"], "paths": ["/a*"]}}],
                "when": [{"key": "request.headers[x]", "values": ["y"]}],
            }
        ],
    ),
    sample(
        f"{TELEMETRY}/v1",
        "Telemetry",
        tracing=[{"providers": [{"name": "z"}], "customTags": {"a": {"literal": {"value": "b"}}}}],
        metrics=[{"overrides": [{"tagOverrides": {"a": {"operation": "UPSERT", "value": "x"}}}]}],
        accessLogging=[{"disabled": None}],
    ),
    sample(f"{EXTENSIONS}/v1alpha1", "WasmPlugin", **WASM),
    sample(f"{EXTENSIONS}/v1alpha1", "TrafficExtension", wasm=WASM | {"phase": None}),
]
del GOOD[-1]["spec"]["wasm"]["phase"]


def test_the_server_takes_every_definition(client: Api) -> None:
    for definition in manifests.build_manifests():
        told = conditions(client, definition["metadata"]["name"])
        assert told["NamesAccepted"]["status"] == "True", told
        assert "NonStructuralSchema" not in told, told["NonStructuralSchema"]


def test_there_is_a_sample_of_every_kind() -> None:
    assert {each["kind"] for each in GOOD} == {kind.name for kind in manifests.mesh_kinds()}


@pytest.mark.parametrize("good", GOOD, ids=lambda each: each["kind"])
def test_a_good_object_is_stored_whole(client: Api, good: dict[str, Any]) -> None:
    (stored,) = client.apply(good)
    spec = {k: v for k, v in good["spec"].items() if k != "accessLogging"}
    assert {key: stored["spec"][key] for key in spec} == spec


BAD = [
    ("VirtualService", {"http": [{"match": [{"uri": {"exact": "a", "prefix": "b"}}]}]}, "oneOf"),
    ("VirtualService", {"http": [{"timeout": "0.5ms"}]}, "duration greater than 1ms"),
    ("VirtualService", {"http": [{"timeout": "soon"}]}, "http[0].timeout"),
    ("VirtualService", {"http": [{"redirect": {"port": -1}}]}, "redirect.port"),
    ("VirtualService", {"hosts": "a"}, "spec.hosts"),
    ("VirtualService", {"http": [{"route": [{"weight": 1}]}]}, "destination: Required"),
    (
        "DestinationRule",
        {"trafficPolicy": {"loadBalancer": {"simple": "BEST"}}},
        "Unsupported value",
    ),
    ("ServiceEntry", {"hosts": []}, "at least 1 items"),
    ("ServiceEntry", {"hosts": ["*"]}, "hostname cannot be wildcard"),
    ("ServiceEntry", {"resolution": "DNS"}, "CIDR addresses are allowed only"),
    ("ServiceEntry", {"resolution": "NONE"}, "NONE mode cannot set endpoints"),
    ("ServiceEntry", {"workloadSelector": {"labels": {"a": "b"}}}, "only one of WorkloadSelector"),
    ("ServiceEntry", {"ports": [PORT, PORT | {"name": "b"}]}, "port number cannot be duplicated"),
    ("ServiceEntry", {"ports": [PORT | {"number": 70000}]}, "between 1-65535"),
    ("WorkloadEntry", {"address": "unix://relative"}, "absolute path"),
    ("WorkloadGroup", {"probe": {"httpGet": {"port": 1}, "exec": {"command": ["a"]}}}, "oneOf"),
    ("Gateway", {"servers": [{"hosts": ["*"]}]}, "servers[0].port: Required"),
    ("PeerAuthentication", {"selector": None}, "portLevelMtls requires selector"),
    ("PeerAuthentication", {"portLevelMtls": {"0": {}}}, "between 1-65535"),
    ("PeerAuthentication", {"selector": {"matchLabels": {"app": "*"}}}, "wildcard not allowed"),
    ("RequestAuthentication", {"jwtRules": [{"issuer": ""}]}, "issuer"),
    ("RequestAuthentication", {"jwtRules": [{"issuer": "i", "jwksUri": "ftp://a"}]}, "scheme http"),
    ("AuthorizationPolicy", {"selector": SELECTOR}, "only one of targetRefs or selector"),
    ("AuthorizationPolicy", {"action": "MAYBE"}, "Unsupported value"),
    (
        "Telemetry",
        {"metrics": [{"overrides": [{"tagOverrides": {"a": {"operation": "UPSERT"}}}]}]},
        "value must be set",
    ),
    ("WasmPlugin", {"url": "ftp://a"}, "url must have schema"),
    ("TrafficExtension", {"lua": {"inlineCode": "x"}}, "exactly one of wasm or lua"),
]


@pytest.mark.parametrize(("kind", "change", "word"), BAD)
def test_a_bad_object_is_refused_with_the_reason(
    client: Api, kind: str, change: dict[str, Any], word: str
) -> None:
    (good,) = (each for each in GOOD if each["kind"] == kind)
    spec = {k: v for k, v in (good["spec"] | change).items() if v is not None}
    bad = good | {"metadata": {"name": "bad", "namespace": "default"}, "spec": spec}
    with pytest.raises(api.ApiError) as told:
        client.create(bad)
    assert told.value.status == 422
    assert word in str(told.value)


@pytest.mark.parametrize("kind", [kind.name for kind in manifests.mesh_kinds()])
def test_an_object_is_served_in_every_version(client: Api, kind: str) -> None:
    (good,) = (each for each in GOOD if each["kind"] == kind)
    name = f"versions-{kind.lower()}"
    for version in next(k for k in manifests.mesh_kinds() if k.name == kind).api_versions:
        each = good | {"apiVersion": version, "metadata": good["metadata"] | {"name": name}}
        client.apply(each)
        found = client.get(version, kind, "default", name)
        assert (found["apiVersion"], found["spec"].keys()) == (version, good["spec"].keys())


def test_status_is_a_part_of_its_own(client: Api) -> None:
    (good,) = (each for each in GOOD if each["kind"] == "VirtualService")
    named = good | {"metadata": good["metadata"] | {"name": "with-status"}}
    before = client.apply(named | {"status": {"observedGeneration": 9}})[0]
    assert "status" not in before
    status = {
        "conditions": [{"type": "Reconciled", "status": "True", "observedGeneration": "3"}],
        "addresses": [{"value": "240.240.0.1", "host": "kept, though no definition knows it"}],
    }
    after = client.patch(named, {"status": status}, "status")
    assert after["status"] == status
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_people_see_what_istios_columns_show(client: Api) -> None:
    path = f"/apis/{NETWORKING}/v1/virtualservices"
    table = client.request("GET", path)
    assert table["kind"] == "VirtualServiceList"
    names = client.get(GROUP, KIND, "", f"virtualservices.{NETWORKING}")["status"]["acceptedNames"]
    assert names["shortNames"] == ["vs"]
    assert set(names["categories"]) == {"istio-io", "networking-istio-io"}


def test_a_field_that_the_definition_lacks_is_named(client: Api) -> None:
    """What kubectl asks for; without it the server drops the field and says nothing."""
    (good,) = (each for each in GOOD if each["kind"] == "VirtualService")
    odd = good | {"spec": good["spec"] | {"colour": "blue"}, "metadata": {"name": "odd"}}
    path = f"/apis/{NETWORKING}/v1/namespaces/default/virtualservices?fieldValidation=Strict"
    with pytest.raises(api.ApiError, match="colour"):
        client.request("POST", path, odd)


def parity_objects() -> list[dict[str, Any]]:
    """Return the mesh's objects that Istio translated for the parity cases."""
    documents = [
        each
        for file in sorted(CASES.glob("*/input.yaml"))
        for each in yaml.load_all(file.read_text(), yaml.CSafeLoader)
        if each
    ]
    kinds = {(kind.group, kind.written_kind) for kind in manifests.mesh_kinds()}
    return [each for each in documents if (each["apiVersion"].split("/")[0], each["kind"]) in kinds]


def test_what_istio_translates_is_taken(client: Api) -> None:
    """Objects of an installation of Istio's stay valid when these definitions take the place of hers."""
    refused = []
    for number, each in enumerate(parity_objects()):
        metadata = {"name": f"parity-{number}", "namespace": "default"}
        path = client.path_of(each | {"metadata": metadata}).rpartition("/")[0]
        try:
            client.request("POST", f"{path}?dryRun=All", each | {"metadata": metadata})
        except api.ApiError as error:
            refused.append((each["kind"], each["metadata"], str(error)))
    assert refused == []
