"""What comes in from outside by Kubernetes' own rules: Gateway API (HTTPRoute, TLSRoute) and Ingress."""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import client, meshes, network
from tests.lab.planned import Authority, Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

EDGE = "10.77.1.3"
CLASSIC = "10.77.1.4"
VAULTS = ("vault-a", "vault-b")
SHOPS = ("blue", "green")


def kubernetes(kind: str, name: str, spec: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return an object of the Gateway API."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    at = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind}
    return {**at, "metadata": metadata, "spec": spec}


def gateway_api() -> list[dict[str, Any]]:
    """Return a Gateway of Kubernetes and a route of it."""
    listeners = [
        {"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.route.lab"},
        {"name": "tls", "port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
    ]
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/blue"}}],
            "filters": [
                {
                    "type": "URLRewrite",
                    "urlRewrite": {
                        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}
                    },
                }
            ],
            "backendRefs": [{"name": "blue", "port": 80}],
        },
        {
            "matches": [{"headers": [{"name": "x-color", "value": "green"}]}],
            "filters": [
                {
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": "x-set", "value": "by-route"}]},
                }
            ],
            "backendRefs": [{"name": "green", "port": 80}],
        },
        {
            "matches": [{"path": {"type": "Exact", "value": "/both"}}],
            "backendRefs": [
                {"name": "blue", "port": 80, "weight": 3},
                {"name": "green", "port": 80, "weight": 1},
            ],
        },
        {
            "matches": [{"path": {"type": "Exact", "value": "/moved"}}],
            "filters": [
                {
                    "type": "RequestRedirect",
                    "requestRedirect": {"scheme": "https", "statusCode": 301},
                }
            ],
        },
    ]
    route = {"parentRefs": [{"name": "edge"}], "hostnames": ["shop.route.lab"], "rules": rules}
    return [
        kubernetes("GatewayClass", "istio", {"controllerName": "istio.io/gateway-controller"}, ""),
        kubernetes(
            "Gateway",
            "edge",
            {"gatewayClassName": "istio", "listeners": listeners},
            meshes.NAMESPACE,
        ),
        kubernetes("HTTPRoute", "shop", route, meshes.NAMESPACE),
        *(kubernetes("TLSRoute", vault, tls_route(vault), meshes.NAMESPACE) for vault in VAULTS),
    ]


def ingress() -> list[dict[str, Any]]:
    """Return an Ingress of each class."""

    def made(name: str, ingress_class: str, host: str) -> dict[str, Any]:
        paths = [
            {"path": path, "pathType": kind, "backend": {"service": backend}}
            for path, kind, color in (("/green", "Exact", "green"), ("/", "Prefix", "blue"))
            for backend in [{"name": color, "port": {"number": 80}}]
        ]
        metadata = {"name": name, "namespace": meshes.NAMESPACE}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata | {"annotations": {"kubernetes.io/ingress.class": ingress_class}},
            "spec": {"rules": [{"host": host, "http": {"paths": paths}}]},
        }

    return [made("ours", "istio", "classic.lab"), made("theirs", "nginx", "theirs.lab")]


def tls_route(vault: str) -> dict[str, Any]:
    """Return a route that passes the TLS of one host through."""
    rule = {"backendRefs": [{"name": vault, "port": 443}]}
    parent = {"name": "edge", "sectionName": "tls"}
    return {"parentRefs": [parent], "hostnames": [f"{vault}.lab"], "rules": [rule]}


def plan(authority: Authority) -> Plan:
    """Return the mesh: a gateway for each API, and servers that have no sidecars."""
    bare = functools.partial(meshes.Pod, proxy="")
    router = functools.partial(meshes.Pod, proxy="router", workload=())
    http, tls = meshes.Port("http", 80, 8080), meshes.Port("tls", 15443, 15443)
    https = meshes.Port("https", 443, 8443)
    vaults = [
        bare(vault, f"10.77.3.{n}", vault, workload=("https", both, "8443"))
        for n, vault in enumerate(VAULTS, 1)
        for *_, both in [authority.issue(f"{vault}.lab")]
    ]
    return Plan(
        pods=(
            bare("web-1", "10.77.1.1", "web", workload=()),
            router("edge-1", EDGE, "edge"),
            router("classic-1", CLASSIC, "classic", role="ingressgateway"),
            bare("blue", "10.77.2.1", "blue"),
            bare("green", "10.77.2.2", "green"),
            *vaults,
        ),
        services=(
            # Gateways of the class have services named after both.
            meshes.Service("edge-istio", "10.96.0.20", http, "edge", (tls,)),
            meshes.Service("classic", "10.96.0.60", http),
            meshes.Service("blue", "10.96.0.30", meshes.HTTP),
            meshes.Service("green", "10.96.0.40", meshes.HTTP),
            *(meshes.Service(v, f"10.96.1.{n}", https) for n, v in enumerate(VAULTS, 1)),
        ),
        rules={"gateway-api": gateway_api(), "ingress": ingress()},
    )


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    """Make the authority of all certificates."""
    with Authority.made() as made:
        yield made


@pytest.fixture(scope="module")
def stage(authority: Authority) -> Iterator[PlannedStage]:
    """Start the mesh, once."""
    network.require()
    with PlannedStage(plan(authority)) as made:
        for request in (at_edge("/both"), at_classic("classic.lab", "/")):
            answers = functools.partial(is_answering, made, request)
            made.wait(answers, f"{request.host} answers", 40)
        yield made


def is_answering(stage: PlannedStage, request: client.Request) -> bool:
    """Whether a request is answered well."""
    return stage.ask(request).status == 200


def at_classic(host: str, path: str) -> client.Request:
    """Return a request to the gateway of Ingress."""
    return client.Request(host, path, ip=CLASSIC, port=8080)


def at_edge(path: str, host: str = "shop.route.lab", **headers: str) -> client.Request:
    """Return a request to the Kubernetes gateway."""
    made = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.Request(host, path, made, ip=EDGE, port=8080)


@pytest.mark.parametrize("vault", VAULTS)
def test_a_tls_route_passes_through(stage: PlannedStage, authority: Authority, vault: str) -> None:
    """TLSRoute: the name that SNI has chooses the backend, where TLS ends."""
    request = client.Request(
        f"{vault}.lab", ip=EDGE, port=15443, tls=client.Tls(f"{vault}.lab", authority.ca_file)
    )
    reply = stage.ask(request)
    assert (reply.status, reply.pod, reply.told["is_tls"]) == (200, vault, True)


def test_an_http_route_matches_and_rewrites(stage: PlannedStage) -> None:
    """HTTPRoute: the prefix of a path chooses the backend and is replaced."""
    reply = stage.ask(at_edge("/blue/page?a=b"))
    assert (reply.status, reply.pod, reply.told["path"]) == (200, "blue", "/new/page?a=b")


def test_an_http_route_matches_and_sets_headers(stage: PlannedStage) -> None:
    """HTTPRoute: a header chooses the backend; another is set."""
    reply = stage.ask(at_edge("/", x_color="green", x_set="by-client"))
    assert (reply.status, reply.pod) == (200, "green")
    assert reply.told["headers"]["x-set"] == "by-route"


def test_an_http_route_shares_by_weight(stage: PlannedStage) -> None:
    """HTTPRoute: each backend gets its share, within 4.5 standard deviations."""
    n_requests = 300
    running = [stage.submit(at_edge("/both")) for _ in range(n_requests)]
    n_by_pod = Counter(each.result().pod for each in running)
    assert set(n_by_pod) == set(SHOPS)
    bound = 4.5 * math.sqrt(n_requests * 0.25 * 0.75)
    assert abs(n_by_pod["green"] - 0.25 * n_requests) <= bound


def test_an_http_route_redirects(stage: PlannedStage) -> None:
    """HTTPRoute: a redirect names the new scheme."""
    reply = stage.ask(at_edge("/moved"))
    assert (reply.status, reply.headers["location"]) == (301, "https://shop.route.lab/moved")


def test_an_http_route_knows_no_more(stage: PlannedStage) -> None:
    """HTTPRoute: what no rule matches and a host that no route has are not found."""
    assert stage.ask(at_edge("/")).status == 404
    assert stage.ask(at_edge("/both", "other.route.lab")).status == 404


@pytest.mark.parametrize(("path", "pod"), [("/green", "green"), ("/green/page", "blue")])
def test_an_ingress_routes_by_path(stage: PlannedStage, path: str, pod: str) -> None:
    """Ingress: the mesh's own gateway serves the rules of its class."""
    reply = stage.ask(at_classic("classic.lab", path))
    assert (reply.status, reply.pod) == (200, pod)


def test_an_ingress_of_another_class_is_not_ours(stage: PlannedStage) -> None:
    """Ingress: what another controller serves is not found."""
    assert stage.ask(at_classic("theirs.lab", "/")).status == 404


def test_no_proxy_refuses_anything(stage: PlannedStage) -> None:
    """Whatever the rules above ask for, Envoy takes."""
    assert stage.n_refused() == 0
