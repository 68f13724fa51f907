"""Tricks with paths, hosts, methods and headers against policies: what a server gets is what was judged."""

from __future__ import annotations

import posixpath
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from tests.lab import client, guarded, network
from tests.lab.guarded import policy, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(240)]

HEADERS = "Host: server\r\nConnection: close\r\n"
# Ways to write /admin, or to go there from /public.
TARGETS = (
    "/admin",
    "//admin",
    "///admin",
    "/./admin",
    "/.//admin",
    "/x/../admin",
    "/public/../admin",
    "/public/./../admin",
    "/public//../admin",
    "/public/../../admin",
    "/public/..//admin",
    "/public/%2e%2e/admin",
    "/public/%2E%2E/admin",
    "/public/.%2e/admin",
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public%2f..%2fadmin",
    "/public/%2e%2e%2fadmin",
    "/public/..%5cadmin",
    "/public/..%5Cadmin",
    "/public\\..\\admin",
    "/public/..\\admin",
    "\\admin",
    "/\\admin",
    "/%5cadmin",
    "/%2fadmin",
    "%2fadmin",
    "/%2e/admin",
    "/%2e%2f%2e/admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%2561dmin",
    "/public/%252e%252e/admin",
    "/public/..%252fadmin",
    "/public/%c0%ae%c0%ae/admin",
    "/public/..%c0%afadmin",
    "/public/..;/admin",
    "/public/..;x=1/admin",
    "/public/%2e%2e;/admin",
    "/public/.;/../admin",
    "/public;/../admin",
    "/public/;/../admin",
    "/;x=1/admin",
    "/admin;x=1",
    "/admin/",
    "/admin/.",
    "/admin/x/..",
    "/admin//",
    "/admin%2f",
    "/admin%00",
    "/admin%20",
    "/admin%09",
    "/admin?/public/",
    "/admin?x=/../public/",
    "/admin#/public/",
    "/public/#/../admin",
    "/public/?/../admin",
    "/public/x/../../admin",
    "/ADMIN",
    "/Admin",
    "http://server/admin",
    "http://server//admin",
    "http://other.lab/public/../admin",
    "http://server",
    "*",
    "admin",
    "",
)


def resolved(path: str) -> str:
    """Return where a lenient server finds a path: percent-decoded once, dots resolved, slashes merged and turned.

    Parameters (`;x`) are part of a segment, as in RFC 3986.
    """
    plain = urllib.parse.unquote(urllib.parse.urlsplit(path).path).replace("\\", "/")
    return posixpath.normpath(f"/{plain.lstrip('/')}")


@pytest.fixture(scope="module")
def stage() -> Iterator[guarded.GuardedStage]:
    """Start the mesh, once."""
    network.require()
    with guarded.GuardedStage() as made:
        yield made


def ask(stage: guarded.GuardedStage, written: str) -> client.Reply:
    """Write a request as it stands to the server's sidecar, from a machine that has none."""
    told = written.encode("latin-1")
    submit = stage._namespaces["plain-1"].submit
    return submit(client.ask_raw, guarded.SERVER_IP, 8080, told).result()


def get(stage: guarded.GuardedStage, target: str) -> client.Reply:
    """Ask for a target as it stands."""
    return ask(stage, f"GET {target} HTTP/1.1\r\n{HEADERS}\r\n")


def test_paths_against_deny(stage: guarded.GuardedStage) -> None:
    """However /admin is written, a server that resolves paths does not get to see it."""
    deny = policy("admin", "DENY", rule(None, {"paths": ["/admin*"]}))
    with stage.policies(deny):
        replies = {target: get(stage, target) for target in TARGETS}
    through = {t: r.told["path"] for t, r in replies.items() if r.status == 200}
    assert {t: seen for t, seen in through.items() if resolved(seen).startswith("/admin")} == {}
    assert replies["/admin"].status == 403
    # The test sees what passes: a path that only looks alike.
    assert through["/ADMIN"] == "/ADMIN"


def test_paths_are_simulated_alike(stage: guarded.GuardedStage) -> None:
    """`navarch simulate` foretells what becomes of each path."""
    deny = policy("admin", "DENY", rule(None, {"paths": ["/admin*"]}))
    targets = [target for target in TARGETS if target.startswith("/")]
    with stage.policies(deny):
        replies = {target: get(stage, target) for target in targets}
        told = {target: stage.simulated_path(target) for target in targets}
    real = {t: (r.status, r.told["path"] if r.status == 200 else "") for t, r in replies.items()}
    assert {t: (each, told[t]) for t, each in real.items() if each != told[t]} == {}


def test_paths_against_allow(stage: guarded.GuardedStage) -> None:
    """Whatever begins with what is allowed and leads elsewhere is refused."""
    allow = policy("public", "ALLOW", rule(None, {"paths": ["/public/*"]}))
    with stage.policies(allow):
        replies = {target: get(stage, target) for target in TARGETS}
        assert get(stage, "/public/x").status == 200
    through = {t: r.told["path"] for t, r in replies.items() if r.status == 200}
    assert {
        t: seen for t, seen in through.items() if not resolved(seen).startswith("/public")
    } == {}


def test_paths_against_allow_of_exact_paths(stage: guarded.GuardedStage) -> None:
    """Of exact paths nothing else passes: no parameter, no other case."""
    allow = policy("public", "ALLOW", rule(None, {"paths": ["/public/list"]}))
    with stage.policies(allow):
        passed = {target for target in TARGETS if get(stage, target).status == 200}
        alike = ["/public/list;x=1", "/public/list/", "/PUBLIC/list"]
        passed |= {target for target in alike if get(stage, target).status == 200}
        assert get(stage, "/x/../public//list?q=1").status == 200
    assert passed == set()


HOSTS = (
    "admin.lab",
    "ADMIN.lab",
    "Admin.Lab",
    "admin.lab:80",
    "admin.lab:8080",
    "admin.lab:",
    "admin.lab.",
    "admin.lab.:80",
    "admin.lab:080",
    " admin.lab",
    "admin.lab ",
    "user@admin.lab",
    "admin.lab/x",
    "admin.lab:80:80",
    "admin.lab%2e",
    "xn--admin.lab",
)


def bare(host: str) -> str:
    """Return the name that a lenient server takes a host for; a user's name has no place in the header."""
    return host.strip().lower().partition(":")[0].partition("/")[0].rstrip(".")


def by_host(host: str, target: str = "/") -> str:
    """Return a request as bytes."""
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


def test_hosts_against_deny(stage: guarded.GuardedStage) -> None:
    """A host is denied in any case, with a port and with the trailing dot, where the rule has these forms."""
    hosts = ["admin.lab", "admin.lab:*", "admin.lab.*"]
    deny = policy("host", "DENY", rule(None, {"hosts": hosts}))
    with stage.policies(deny):
        replies = {host: ask(stage, by_host(host)) for host in HOSTS}
        absolute = ask(stage, by_host("other.lab", "http://admin.lab/"))
        twice = ask(stage, by_host("other.lab\r\nHost: admin.lab"))
    seen = {h: r.told["headers"]["host"] for h, r in replies.items() if r.status == 200}
    assert {h: name for h, name in seen.items() if bare(name) == "admin.lab"} == {}
    assert absolute.status == 403
    # Two hosts go on as one, which is neither.
    assert twice.status != 200 or twice.told["headers"]["host"] == "other.lab,admin.lab"


def test_hosts_against_allow(stage: guarded.GuardedStage) -> None:
    """Only the host itself passes, in any case."""
    allow = policy("host", "ALLOW", rule(None, {"hosts": ["admin.lab"]}))
    with stage.policies(allow):
        passed = {host for host in HOSTS if ask(stage, by_host(host)).status == 200}
    assert passed == {"admin.lab", "ADMIN.lab", "Admin.Lab", " admin.lab", "admin.lab "}


def test_methods_and_headers(stage: guarded.GuardedStage) -> None:
    """A method and a header's value are judged as they are written."""
    allow = policy(
        "reader",
        "ALLOW",
        rule(None, {"methods": ["GET"]}, {"key": "request.headers[x-role]", "values": ["reader"]}),
    )
    role = "X-Role: reader\r\n"
    with stage.policies(allow):
        assert ask(stage, f"GET / HTTP/1.1\r\n{role}{HEADERS}\r\n").status == 200
        tricks = [
            f"get / HTTP/1.1\r\n{role}{HEADERS}\r\n",
            f"GETX / HTTP/1.1\r\n{role}{HEADERS}\r\n",
            f"DELETE / HTTP/1.1\r\nX-HTTP-Method-Override: GET\r\n{role}{HEADERS}\r\n",
            f"GET / HTTP/1.1\r\nX-Role: reader,admin\r\n{HEADERS}\r\n",
            f"GET / HTTP/1.1\r\nX-Role : reader\r\n{HEADERS}\r\n",
            f"GET / HTTP/1.1\r\nX-Role: admin\r\n reader\r\n{HEADERS}\r\n",
            f"GET / HTTP/1.1\r\nX-Role: Reader\r\n{HEADERS}\r\n",
            f"GET / HTTP/1.1\r\nX_Role: reader\r\n{HEADERS}\r\n",
        ]
        assert [each for each in tricks if ask(stage, each).status == 200] == []


def test_doubled_headers(stage: guarded.GuardedStage) -> None:
    """Of a header that comes twice each value is judged: a DENY of one of them holds, an exception too."""
    key = "request.headers[x-role]"
    deny = policy("admin", "DENY", rule(None, None, {"key": key, "values": ["admin"]}))
    both = [
        f"X-Role: {a}\r\nx-role: {b}\r\n" for a, b in (("reader", "admin"), ("admin", "reader"))
    ]
    with stage.policies(deny):
        assert ask(stage, f"GET / HTTP/1.1\r\nX-Role: reader\r\n{HEADERS}\r\n").status == 200
        for role in both:
            assert ask(stage, f"GET / HTTP/1.1\r\n{role}{HEADERS}\r\n").status == 403
    but_not = {"key": key, "values": ["reader"], "notValues": ["admin"]}
    with stage.policies(policy("reader", "ALLOW", rule(None, None, but_not))):
        assert ask(stage, f"GET / HTTP/1.1\r\nX-Role: reader\r\n{HEADERS}\r\n").status == 200
        for role in both:
            assert ask(stage, f"GET / HTTP/1.1\r\n{role}{HEADERS}\r\n").status == 403


def test_smuggled_requests(stage: guarded.GuardedStage) -> None:
    """One request within another, and headers that claim another path, do not get to /admin."""
    deny = policy("admin", "DENY", rule(None, {"paths": ["/admin*"]}))
    inner = "GET /admin?key=smuggled HTTP/1.1\r\nHost: server\r\nx-key: smuggled\r\n\r\n"
    both = f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\n"
    tricks = [
        f"POST / HTTP/1.1\r\n{HEADERS}{both}\r\n0\r\n\r\n{inner}",
        f"POST / HTTP/1.1\r\n{HEADERS}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}",
        f"POST / HTTP/1.1\r\n{HEADERS}Content-Length: 0\r\nContent-Length: 5\r\n\r\n{inner}",
        f"GET /public HTTP/1.1\r\n{HEADERS}Content-Length: 0\r\n\r\n{inner}",
        f"GET /admin HTTP/1.0\r\nx-key: smuggled\r\n{HEADERS}\r\n",
        f"GET /admin HTTP/1.1\r\nx-envoy-original-path: /public\r\nx-key: smuggled\r\n{HEADERS}\r\n",
        f"GET /admin HTTP/1.1\r\nx-original-url: /public\r\nx-key: smuggled\r\n{HEADERS}\r\n",
        "GET /admin HTTP/1.1\r\nUpgrade: h2c\r\nx-key: smuggled\r\nHost: server\r\nConnection: Upgrade\r\n\r\n",
        "GET /admin HTTP/1.1\r\nUpgrade: websocket\r\nx-key: smuggled\r\nHost: server\r\nConnection: Upgrade\r\n\r\n",
        f"GET /public HTTP/1.1\r\n{HEADERS}x: y\rGET /admin HTTP/1.1\r\n\r\n",
    ]
    with stage.policies(deny):
        replies = [ask(stage, each) for each in tricks]
        assert stage.n_seen("server-1", "smuggled") == 0
    seen = [reply.told["path"] for reply in replies if reply.status == 200]
    assert [path for path in seen if resolved(path).startswith("/admin")] == []
