"""The simulation decides as a real Envoy does: the same requests, asked of both."""

from __future__ import annotations

import http.client
import itertools
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from navarch import offline
from tests.e2e import local_envoy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.extension, pytest.mark.envoy]

# Each answers with its own name, so that the answer tells which route was taken.
ROUTES: Final[dict[str, list[dict[str, Any]]]] = {
    "a.example.com": [
        {"match": [{"uri": {"exact": "/Exact"}}]},
        {"match": [{"uri": {"exact": "/Fold"}, "ignoreUriCase": True}]},
        {"match": [{"uri": {"regex": "/v[0-9]+/.*"}, "method": {"regex": "PUT|POST"}}]},
        {"match": [{"uri": {"prefix": "/p/"}, "headers": {"x-a": {"exact": "1"}}}]},
        {"match": [{"uri": {"prefix": "/p"}, "headers": {"x-a": {"prefix": "2"}, "x-b": {}}}]},
        {"match": [{"uri": {"prefix": "/p"}, "withoutHeaders": {"x-a": {"regex": "3.*"}}}]},
        {
            "match": [
                {"queryParams": {"q": {"exact": "1"}}},
                {"queryParams": {"r": {"regex": "[a-z]+"}}},
            ]
        },
        {
            "match": [{"uri": {"prefix": "/old"}}],
            "redirect": {"uri": "/new", "authority": "z.example.com", "redirectCode": 302},
        },
        {
            "match": [{"uri": {"prefix": "/move"}}],
            "redirect": {
                "uri": "%PREFIX()%/moved",
                "scheme": "https",
                "derivePort": "FROM_REQUEST_PORT",
            },
        },
        {"match": [{"uri": {"prefix": "/port"}}], "redirect": {"port": 8443}},
        {"match": [{"authority": {"prefix": "a."}, "headers": {"x-a": {"regex": "9+"}}}]},
    ],
    "*.example.com": [{"match": [{"uri": {"prefix": "/b"}}]}, {}],
    "*.b.example.com": [{"match": [{"scheme": {"exact": "http"}}]}],
    "other.org": [{"match": [{"uri": {"prefix": "/"}, "headers": {"x-a": {"exact": "1"}}}]}],
}
HOSTS: Final = (
    "a.example.com",
    "A.Example.com:81",
    "x.example.com",
    "x.b.example.com",
    "other.org",
    "no.net",
)
PATHS: Final = (
    "/", "/Exact", "/exact", "/Exact?x=/Exact", "/fOLD", "/v1/x", "/p", "/p/", "/p/x", "/px", "/b/../p/x", "/?q=1",
    "/?q=11&q=1", "/?r=abc&q=2", "/x?r=A", "/old/x?a=1", "/move/y?b", "/port/x", "//b", "/%2e%2e/b", "/b%2fp", "/a//b",
    "/%62", "/%7E/../b", "/x/%2E./b", "/{b", '/"b', "/b\\..\\p/x", "/%zz", "/./p/", "/p/.", "/p/x/..", "/%70/x",
    "/b;p=1", "/p?x#f",
)  # fmt: skip
HEADERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"x-a": "1"},
    {"x-a": "22", "x-b": ""},
    {"x-a": "33"},
    {"X-A": "99"},
)
METHODS: Final = ("GET", "PUT")


def objects(port: int) -> str:
    gateway = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    made = [_object("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [gateway]})]
    for at, (host, routes) in enumerate(ROUTES.items()):
        answers = [
            {"name": f"{at}-{n}"}
            | ({} if "redirect" in route else {"directResponse": _answer(f"{at}-{n}")})
            | route
            for n, route in enumerate(routes)
        ]
        spec = {"hosts": [host], "gateways": ["gw"], "http": answers}
        made.append(_object("VirtualService", f"vs-{at}", spec))
    return yaml.safe_dump_all(made)


def _answer(name: str) -> dict[str, Any]:
    return {"status": 200, "body": {"string": name}}


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


NODE: Final = {
    "id": "router~10.1.0.9~gw-1.shop~shop.svc.cluster.local",
    "cluster": "gw.shop",
    "metadata": {"NAMESPACE": "shop", "INSTANCE_IPS": "10.1.0.9", "LABELS": {"app": "gw"}},
}


def bootstrap(mesh: offline.Mesh) -> dict[str, Any]:
    """Return a configuration with the generated listener, its routes inlined."""
    made = mesh.translate(NODE)
    routes = {each["name"]: each for each in map(json.loads, made["routes"])}
    listeners = list(map(json.loads, made["listeners"]))
    for listener in listeners:
        for chain in listener["filter_chains"]:
            manager = chain["filters"][-1]["typed_config"]
            manager["route_config"] = routes[manager.pop("rds")["route_config_name"]]
    clusters = [{"name": "none", "type": "STATIC"}]
    return {"node": NODE, "static_resources": {"listeners": listeners, "clusters": clusters}}


@pytest.fixture(scope="module")
def port() -> int:
    return local_envoy.free_ports(1)[0]


@pytest.fixture(scope="module")
def mesh(port: int, tmp_path_factory: pytest.TempPathFactory) -> offline.Mesh:
    file = tmp_path_factory.mktemp("mesh") / "objects.yaml"
    file.write_text(objects(port))
    made = offline.Mesh(offline.Input((file,)))
    assert made.diagnostics == []
    return made


@pytest.fixture(scope="module")
def envoy(mesh: offline.Mesh, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with local_envoy.running(bootstrap(mesh), tmp_path_factory.mktemp("envoy"), port):
        yield port


def ask(
    connection: http.client.HTTPConnection, case: tuple[str, str, str, dict[str, str]]
) -> list[Any]:
    host, path, method, headers = case
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"host": host, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read().decode()
    return [response.status, response.getheader("location"), body]


def simulate(
    mesh: offline.Mesh, port: int, case: tuple[str, str, str, dict[str, str]]
) -> list[Any]:
    host, path, method, headers = case
    request = {"host": host, "path": path, "method": method, "headers": headers, "port": port}
    found = mesh.core.simulate(json.dumps(NODE).encode(), json.dumps(request).encode())
    landing = found.answer["landing"]
    assert landing["kind"] == "response", found.text
    return [landing["status"], landing["location"], landing["body"] or ""]


def test_each_request_gets_the_answer_that_is_simulated(
    mesh: offline.Mesh, port: int, envoy: int
) -> None:
    cases = list(itertools.product(HOSTS, PATHS, METHODS, HEADERS))
    connection = http.client.HTTPConnection("127.0.0.1", envoy, timeout=60)
    different = []
    seen = set()
    for case in cases:
        real, simulated = ask(connection, case), simulate(mesh, port, case)
        seen.add(str(real))
        if real != simulated:
            different.append((case, real, simulated))
    assert different[:3] == []
    # Most routes were taken by some request: equal answers of one kind would prove little.
    assert len(seen) > sum(map(len, ROUTES.values()))
