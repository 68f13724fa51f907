"""Rules of one mesh: every kind of match, mirrors, CORS, TCP weights, headless services, and what a Sidecar shows."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import client, meshes, network
from tests.lab.planned import Plan, PlannedStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]

ORIGIN = "http://shop.lab"
MATCHES: dict[str, dict[str, Any]] = {
    "exact": {"uri": {"exact": "/exact"}},
    "prefix": {"uri": {"prefix": "/prefix/"}},
    "regex": {"uri": {"regex": "/items/[0-9]+"}},
    "ignore-case": {"uri": {"exact": "/CaSe"}, "ignoreUriCase": True},
    "method": {"uri": {"prefix": "/method"}, "method": {"exact": "POST"}},
    "query-exact": {"queryParams": {"color": {"exact": "red"}}},
    "query-regex": {"queryParams": {"size": {"regex": "[0-9]+"}}},
    "query-prefix": {"queryParams": {"shape": {"prefix": "ro"}}},
    "authority": {"authority": {"exact": "alias.lab"}},
    "header-exact": {"headers": {"x-exact": {"exact": "yes"}}},
    "header-prefix": {"headers": {"x-prefix": {"prefix": "ye"}}},
    "header-regex": {"headers": {"x-regex": {"regex": "y[aeiou]s"}}},
    "header-present": {"headers": {"x-present": {}}},
    "scheme": {"uri": {"prefix": "/scheme"}, "scheme": {"exact": "http"}},
    "port": {"uri": {"prefix": "/port"}, "port": 8001},
    "both": {"uri": {"prefix": "/both"}, "headers": {"x-both": {"exact": "yes"}}},
    "other-source": {"uri": {"prefix": "/source"}, "sourceLabels": {"app": "other"}},
    "source": {"uri": {"prefix": "/source"}, "sourceLabels": {"app": "web"}},
    "without": {"uri": {"prefix": "/without"}, "withoutHeaders": {"x-not": {"exact": "no"}}},
}


def matched() -> list[dict[str, Any]]:
    """Return a rule for each match; answers tell which it was."""
    to_matched = {"route": [{"destination": {"host": "matched", "port": {"number": 80}}}]}

    def mark(name: str) -> dict[str, Any]:
        return {"headers": {"response": {"set": {"x-rule": name}}}} | to_matched

    http = [{"match": [match]} | mark(name) for name, match in MATCHES.items()]
    # Alternatives of one rule are connected by "or".
    either = [{"uri": {"exact": "/first"}}, {"uri": {"exact": "/second"}}]
    spec: dict[str, Any] = {"hosts": ["matched", "alias.lab"]}
    spec |= {"http": [*http, {"match": either} | mark("either"), mark("none")]}
    return [meshes.rule("VirtualService", "matched", spec)]


def mirrored() -> list[dict[str, Any]]:
    """Return a rule that sends a copy of all to another service."""
    return meshes.virtual_service(
        "mirrored",
        [
            {
                "route": [{"destination": {"host": "mirrored"}}],
                "mirror": {"host": "shadow"},
                "mirrorPercentage": {"value": 100},
            }
        ],
    )


def shared() -> list[dict[str, Any]]:
    """Return a rule that lets the pages of one origin ask."""
    policy = {
        "allowOrigins": [{"exact": ORIGIN}],
        "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["x-token"],
        "exposeHeaders": ["x-shown"],
        "allowCredentials": True,
        "maxAge": "600s",
    }
    return meshes.virtual_service(
        "shared", [{"route": [{"destination": {"host": "shared"}}], "corsPolicy": policy}]
    )


def weighed() -> list[dict[str, Any]]:
    """Return a rule that shares TCP connections between versions."""
    route = [
        {"destination": {"host": "ledger", "subset": "v1"}, "weight": 75},
        {"destination": {"host": "ledger", "subset": "v2"}, "weight": 25},
    ]
    spec = {"hosts": ["ledger"], "tcp": [{"route": route}]}
    return [meshes.rule("VirtualService", "ledger", spec), *meshes.subsets("ledger")]


def delegated() -> list[dict[str, Any]]:
    """Return a rule that leaves a part of its paths to another."""
    root = {
        "hosts": ["delegated"],
        "http": [
            {"match": [{"uri": {"prefix": "/part"}}], "delegate": {"name": "part"}},
            {"route": [{"destination": {"host": "shadow"}}]},
        ],
    }
    part = [
        {"match": [{"uri": {"prefix": "/part/one"}}], "directResponse": {"status": 201}},
        {"match": [{"uri": {"prefix": "/else"}}], "directResponse": {"status": 202}},
        {"route": [{"destination": {"host": "matched", "port": {"number": 80}}}]},
    ]
    return [
        meshes.rule("VirtualService", "delegated", root),
        meshes.rule("VirtualService", "part", {"http": part}),
    ]


def attached() -> list[dict[str, Any]]:
    """Return an HTTPRoute of the Gateway API that is attached to a service."""
    parent = {"group": "", "kind": "Service", "name": "attached", "port": 80}
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/shadow"}}],
            "backendRefs": [{"name": "shadow", "port": 80}],
        },
        {"backendRefs": [{"name": "attached", "port": 80}]},
    ]
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "attached", "namespace": meshes.NAMESPACE},
            "spec": {"parentRefs": [parent], "rules": rules},
        }
    ]


def plan() -> Plan:
    """Return the mesh: one sidecar, and servers without."""
    tcp = meshes.Port("tcp", 9000, 9000)
    also_8001 = (meshes.Port("http-more", 8001, 8080),)
    bare = functools.partial(meshes.Pod, proxy="")
    bare_tcp = functools.partial(bare, workload=("tcp", "9000"))
    return Plan(
        pods=(
            meshes.Pod("web-1", "10.77.1.1", "web", workload=()),
            bare("server-1", "10.77.2.1", "server"),
            bare("shadow-1", "10.77.2.2", "shadow"),
            bare_tcp("ledger-1", "10.77.5.1", "ledger", "v1"),
            bare_tcp("ledger-2", "10.77.5.2", "ledger", "v2"),
            bare_tcp("store-0", "10.77.6.1", "store"),
            bare_tcp("store-1", "10.77.6.2", "store"),
        ),
        services=(
            meshes.Service("matched", "10.96.0.20", meshes.HTTP, "server", also_8001),
            meshes.Service("mirrored", "10.96.0.30", meshes.HTTP, "server"),
            meshes.Service("shadow", "10.96.0.40", meshes.HTTP),
            meshes.Service("shared", "10.96.0.50", meshes.HTTP, "server"),
            meshes.Service("delegated", "10.96.0.70", meshes.HTTP, "server"),
            meshes.Service("attached", "10.96.0.80", meshes.HTTP, "server"),
            meshes.Service("ledger", "10.96.0.60", tcp),
            meshes.Service("store", "None", tcp),
        ),
        rules={
            "matched": matched(),
            "mirrored": mirrored(),
            "shared": shared(),
            "ledger": weighed(),
            "delegated": delegated(),
            "attached": attached(),
        },
    )


@pytest.fixture(scope="module")
def stage() -> Iterator[PlannedStage]:
    """Start the mesh, once."""
    network.require()
    with PlannedStage(plan()) as made:
        for host in ("matched", "mirrored", "shared", "delegated", "attached"):
            made.wait_for(host)
        yield made


Ask = client.Request
CASES: list[tuple[str, client.Request]] = [
    ("exact", Ask("matched", "/exact")),
    ("exact", Ask("matched", "/exact?with=query")),
    ("none", Ask("matched", "/exact/more")),
    ("none", Ask("matched", "/Exact")),
    ("prefix", Ask("matched", "/prefix/more")),
    ("none", Ask("matched", "/prefix")),
    ("regex", Ask("matched", "/items/42")),
    ("none", Ask("matched", "/items/42/more")),
    ("none", Ask("matched", "/items/forty")),
    ("ignore-case", Ask("matched", "/case")),
    ("ignore-case", Ask("matched", "/CASE")),
    ("method", Ask("matched", "/method", method="POST")),
    ("none", Ask("matched", "/method", method="PUT")),
    ("query-exact", Ask("matched", "/?color=red")),
    ("query-exact", Ask("matched", "/?other=1&color=red")),
    ("none", Ask("matched", "/?color=reddish")),
    ("query-regex", Ask("matched", "/?size=42")),
    ("none", Ask("matched", "/?size=large")),
    ("query-prefix", Ask("matched", "/?shape=round")),
    ("none", Ask("matched", "/?shape=square")),
    ("authority", Ask("alias.lab", ip="10.96.0.20", port=80)),
    ("header-exact", Ask("matched", headers={"x-exact": "yes"})),
    ("none", Ask("matched", headers={"x-exact": "yess"})),
    ("header-prefix", Ask("matched", headers={"x-prefix": "yess"})),
    ("none", Ask("matched", headers={"x-prefix": "no"})),
    ("header-regex", Ask("matched", headers={"x-regex": "yas"})),
    ("none", Ask("matched", headers={"x-regex": "yass"})),
    ("header-present", Ask("matched", headers={"x-present": "anything"})),
    ("scheme", Ask("matched", "/scheme")),
    ("port", Ask("matched:8001", "/port", port=8001)),
    ("none", Ask("matched", "/port")),
    ("both", Ask("matched", "/both", {"x-both": "yes"})),
    ("none", Ask("matched", "/both")),
    ("source", Ask("matched", "/source")),
    ("without", Ask("matched", "/without")),
    ("without", Ask("matched", "/without", {"x-not": "yes"})),
    ("none", Ask("matched", "/without", {"x-not": "no"})),
    ("either", Ask("matched", "/first")),
    ("either", Ask("matched", "/second")),
]


@pytest.mark.parametrize(
    ("rule", "request_"), CASES, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(CASES)]
)
def test_a_match_decides(stage: PlannedStage, rule: str, request_: client.Request) -> None:
    """A request is answered by the first rule that matches it, and by no other."""
    reply = stage.ask(request_)
    assert (reply.status, reply.rule) == (200, rule)
    assert reply.told["method"] == request_.method


def test_a_mirror_gets_a_copy_of_each_request(stage: PlannedStage) -> None:
    """Every request is seen once by the server and once by its mirror; the client gets the server's answer."""
    headers = {"x-key": "mirrored"}
    replies = stage.get_many("mirrored", 20, headers)
    assert {(reply.status, reply.pod) for reply in replies} == {(200, "server-1")}
    assert stage.n_seen("server-1", "mirrored") == 20
    stage.wait(lambda: stage.n_seen("shadow-1", "mirrored") >= 20, "the mirror has seen all")
    time.sleep(0.2)
    assert stage.n_seen("shadow-1", "mirrored") == 20


def test_a_mirror_that_fails_fails_nobody(stage: PlannedStage) -> None:
    """The client does not see what the mirror answers."""
    headers = {"x-fail-pods": "shadow-1", "x-key": "failing"}
    assert {reply.status for reply in stage.get_many("mirrored", 10, headers)} == {200}
    stage.wait(lambda: stage.n_seen("shadow-1", "failing") == 10, "the mirror has seen all")


def test_a_preflight_is_answered_by_the_sidecar(stage: PlannedStage) -> None:
    """The sidecar tells the page's origin what it may ask, without asking the server."""
    headers = {
        "origin": ORIGIN,
        "access-control-request-method": "PUT",
        "access-control-request-headers": "x-token",
        "x-key": "preflight",
    }
    reply = stage.ask(client.Request("shared", "/", headers, method="OPTIONS"))
    told = {k: v for k, v in reply.headers.items() if k.startswith("access-control-")}
    assert (reply.status, told) == (
        200,
        {
            "access-control-allow-origin": ORIGIN,
            "access-control-allow-methods": "GET,PUT",
            "access-control-allow-headers": "x-token",
            "access-control-allow-credentials": "true",
            "access-control-max-age": "600",
            "access-control-expose-headers": "x-shown",
        },
    )
    assert stage.n_seen("server-1", "preflight") == 0


@pytest.mark.parametrize(("origin", "is_allowed"), [(ORIGIN, True), ("http://evil.lab", False)])
def test_an_answer_names_the_allowed_origin(
    stage: PlannedStage, origin: str, *, is_allowed: bool
) -> None:
    """A request goes to the server; only to the allowed origin the answer says that its page may read it."""
    reply = stage.get("shared", "/", {"origin": origin})
    assert (reply.status, reply.pod) == (200, "server-1")
    expected = (ORIGIN, "x-shown") if is_allowed else (None, None)
    names = ("access-control-allow-origin", "access-control-expose-headers")
    assert tuple(reply.headers.get(name) for name in names) == expected


@pytest.mark.parametrize(
    ("path", "status", "pod"),
    [
        ("/", 200, "shadow-1"),
        ("/part", 200, "server-1"),
        ("/part/one/more", 201, ""),
        ("/else", 200, "shadow-1"),
    ],
)
def test_a_delegate_rules_its_part(stage: PlannedStage, path: str, status: int, pod: str) -> None:
    """What the root leaves to a delegate is ruled by it, as far as both match; the rest is the root's."""
    reply = stage.get("delegated", path)
    assert (reply.status, reply.pod if reply.body else "") == (status, pod)


@pytest.mark.parametrize(("path", "pod"), [("/shadow/page", "shadow-1"), ("/", "server-1")])
def test_an_http_route_rules_a_service(stage: PlannedStage, path: str, pod: str) -> None:
    """An HTTPRoute whose parent is a service rules what the mesh sends to that service."""
    reply = stage.get("attached", path)
    assert (reply.status, reply.pod) == (200, pod)


def test_weights_share_the_connections(stage: PlannedStage) -> None:
    """Of many TCP connections each version gets its share, within 4.5 standard deviations."""
    n_connections = 300
    n_by_pod = Counter(stage.talk_many("10.96.0.60", 9000, n_connections))
    assert set(n_by_pod) == {("ledger-1", "hello"), ("ledger-2", "hello")}
    bound = 4.5 * math.sqrt(n_connections * 0.25 * 0.75)
    assert abs(n_by_pod["ledger-2", "hello"] - 0.25 * n_connections) <= bound


def test_each_pod_of_a_stateful_set_is_reached(stage: PlannedStage) -> None:
    """A headless service's pods have a listener each, which leads to that pod alone."""
    for pod, ip in (("store-0", "10.77.6.1"), ("store-1", "10.77.6.2")):
        counter = rf"listener\.{ip}_9000\.downstream_cx_total"
        n_before = stage.stat("web-1", counter)
        assert set(stage.talk_many(ip, 9000, 10)) == {(pod, "hello")}
        assert stage.stat("web-1", counter) == n_before + 10


def test_a_sidecar_shows_only_what_it_names(stage: PlannedStage) -> None:
    """A service outside a Sidecar's egress hosts is unknown: HTTP is refused with 502; what it names goes on."""
    spec = {
        "workloadSelector": {"labels": {"app": "web"}},
        "egress": [{"hosts": ["./matched.lab.svc.cluster.local"]}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    }
    stage.write("sidecar.yaml", [meshes.rule("Sidecar", "web", spec)])
    stage.wait(lambda: stage.get("shared").status == 502, "a service is hidden")
    assert stage.get("mirrored").status == 502
    assert stage.get("matched", "/exact").rule == "exact"
    stage.wait(lambda: stage.talk("10.96.0.60", 9000) == ("", ""), "a TCP service is hidden")
    (stage.mesh_dir / "sidecar.yaml").unlink()
    stage.wait(lambda: stage.get("shared").status == 200, "all is shown again")


def test_no_proxy_refuses_anything(stage: PlannedStage) -> None:
    """Whatever the rules above ask for, Envoy takes."""
    assert stage.n_refused() == 0
