"""Who may, through real Envoys with identity; and the simulation of each request tells the same."""

from __future__ import annotations

import itertools
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import agents, guarded, meshes, network
from tests.lab.guarded import Asked, policy, rule, security

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(240)]

WEB = f"cluster.local/ns/{meshes.NAMESPACE}/sa/web"


@pytest.fixture(scope="module")
def stage() -> Iterator[guarded.GuardedStage]:
    """Start the mesh, once."""
    network.require()
    with guarded.GuardedStage() as made:
        yield made


def when(key: str, *values: str, but_not: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a condition."""
    made: dict[str, Any] = {"key": key}
    made |= {"values": list(values)} if values else {}
    return made | ({"notValues": list(but_not)} if but_not else {})


def on(path: str, **operation: Any) -> dict[str, Any]:
    """Return an operation on one path."""
    return {"paths": [path], **operation}


# Each looks at one thing, on a path of its own.
RULES = {
    "/principal": rule({"principals": [WEB]}, on("/principal")),
    "/no-principal": rule({"notPrincipals": ["*"]}, on("/no-principal")),
    "/suffix-principal": rule({"principals": ["*/sa/web"]}, on("/suffix-principal")),
    "/namespace": rule({"namespaces": [meshes.NAMESPACE]}, on("/namespace")),
    "/other-namespace": rule({"notNamespaces": ["la*"]}, on("/other-namespace")),
    "/account": rule({"serviceAccounts": ["web", "lab/absent"]}, on("/account")),
    "/ip": rule({"ipBlocks": ["10.77.1.1", "10.77.3.0/24"]}, on("/ip")),
    "/not-ip": rule({"notIpBlocks": ["10.77.1.1"]}, on("/not-ip")),
    "/remote-ip": rule({"remoteIpBlocks": ["192.0.2.0/24"]}, on("/remote-ip")),
    "/method": rule(None, on("/method", methods=["GET", "P*"])),
    "/not-method": rule(None, on("/not-method", notMethods=["GET"])),
    "/host": rule(None, on("/host", hosts=["a.lab", "*.b.lab", "c.lab:*"])),
    "/port": rule(None, on("/port", ports=["8081"])),
    "/prefix/*": rule(None, {"paths": ["/prefix/*"], "notPaths": ["/prefix/secret"]}),
    "*/ending": rule(None, {"paths": ["*/ending"]}),
    "/segment/{*}/x": rule(None, {"paths": ["/segment/{*}/x", "/any/{**}"]}),
    "/header": rule(None, on("/header"), when("request.headers[x-team]", "blue", "gr*")),
    "/not-header": rule(None, on("/not-header"), when("request.headers[x-team]", but_not=("red",))),
    "/when": rule(
        None,
        on("/when"),
        when("source.namespace", meshes.NAMESPACE),
        when("destination.port", "8080"),
        when("destination.ip", "10.77.2.0/24"),
        when("source.ip", "10.77.1.0/24"),
        when("source.principal", but_not=(f"*/{meshes.NAMESPACE}/sa/other",)),
    ),
    "/sni": rule(None, on("/sni"), when("connection.sni", "outbound*")),
}
HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("x-team", "blue"),),
    (("x-team", "green"),),
    (("x-team", "red"),),
    (("x-forwarded-for", "203.0.113.1, 192.0.2.9"),),
)
PATHS = (
    *(path for path in RULES if "*" not in path),
    *("/prefix/a", "/prefix/secret", "/prefix", "/x/ending", "/ending", "/segment/a/x"),
    *("/segment/a/b/x", "/segment//x", "/any/a/b", "/any", "/PRINCIPAL", "/x/../method?q=/port"),
)


def grid() -> list[Asked]:
    """Return requests that differ in each thing that a rule looks at."""
    made = [Asked(who, path) for who, path in itertools.product(guarded.CLIENTS, PATHS)]
    looked_at = ("/header", "/not-header", "/remote-ip")
    made += [Asked("web-1", path, headers=h) for path in looked_at for h in HEADERS]
    made += [
        Asked("web-1", path, m) for path in ("/method", "/not-method") for m in ("POST", "DELETE")
    ]
    hosts = ("a.lab", "A.Lab", "a.lab:80", "x.b.lab", "b.lab", "c.lab:8080", "c.lab", "d.lab")
    made += [Asked("plain-1", "/host", host=host) for host in hosts]
    return [
        *made,
        *(
            Asked(who, path, port=8081)
            for who in ("web-1", "plain-1")
            for path in ("/port", "/when")
        ),
    ]


# What each rule lets through, so that two that err alike are found out.
ALLOWED = {
    Asked("web-1", "/principal"),
    Asked("web-1", "/suffix-principal"),
    Asked("web-1", "/account"),
    Asked("web-1", "/namespace"),
    Asked("other-1", "/namespace"),
    Asked("plain-1", "/no-principal"),
    Asked("plain-1", "/other-namespace"),
    Asked("plain-1", "/ip"),
    Asked("web-1", "/ip"),
    Asked("other-1", "/not-ip"),
    Asked("web-1", "/method", "POST"),
    Asked("web-1", "/not-method", "DELETE"),
    Asked("plain-1", "/host", host="A.Lab"),
    Asked("plain-1", "/host", host="x.b.lab"),
    Asked("plain-1", "/host", host="c.lab:8080"),
    Asked("web-1", "/port", port=8081),
    Asked("web-1", "/prefix/a"),
    Asked("web-1", "/x/ending"),
    Asked("web-1", "/segment/a/x"),
    Asked("web-1", "/any/a/b"),
    Asked("web-1", "/header", headers=HEADERS[2]),
    Asked("web-1", "/not-header", headers=HEADERS[1]),
    Asked("web-1", "/remote-ip", headers=HEADERS[4]),
    Asked("web-1", "/when"),
    Asked("web-1", "/sni"),
}
REFUSED = {
    Asked("other-1", "/principal"),
    Asked("plain-1", "/principal"),
    Asked("other-1", "/no-principal"),
    Asked("plain-1", "/namespace"),
    Asked("web-1", "/other-namespace"),
    Asked("other-1", "/account"),
    Asked("other-1", "/ip"),
    Asked("web-1", "/not-ip"),
    Asked("web-1", "/remote-ip"),
    Asked("web-1", "/method", "DELETE"),
    Asked("web-1", "/not-method"),
    Asked("plain-1", "/host", host="a.lab:80"),
    Asked("plain-1", "/host", host="c.lab"),
    Asked("web-1", "/port"),
    Asked("web-1", "/prefix/secret"),
    Asked("web-1", "/prefix"),
    Asked("web-1", "/segment/a/b/x"),
    Asked("web-1", "/header"),
    Asked("web-1", "/not-header", headers=HEADERS[3]),
    Asked("other-1", "/when"),
    Asked("plain-1", "/sni"),
    Asked("web-1", "/PRINCIPAL"),
}


def named(action: str) -> list[dict[str, Any]]:
    """Return a policy for each rule."""
    return [policy(f"rule-{n}", action, each) for n, each in enumerate(RULES.values())]


def test_what_allow_allows(stage: guarded.GuardedStage) -> None:
    """With ALLOW only what a rule fits comes in: by who, whence, what and `when`."""
    with stage.policies(*named("ALLOW")):
        assert {each for each in ALLOWED if stage.reply(each).status != 200} == set()
        assert {each for each in REFUSED if stage.reply(each).status != 403} == set()
        assert stage.differing(grid())[:3] == []


def test_what_deny_denies(stage: guarded.GuardedStage) -> None:
    """With DENY of the same rules exactly the opposite comes in."""
    with stage.policies(*named("DENY")):
        assert {each for each in ALLOWED if stage.reply(each).status != 403} == set()
        assert {each for each in REFUSED if stage.reply(each).status != 200} == set()
        assert stage.differing(grid())[:3] == []


def allow(name: str, path: str, **spec: Any) -> dict[str, Any]:
    """Return a policy that allows one path."""
    return policy(name, "ALLOW", rule(None, on(path)), **spec)


def test_levels_and_precedence(stage: guarded.GuardedStage) -> None:
    """Policies of mesh, namespace and workload add up; DENY goes before ALLOW; no rules allow nothing."""
    everywhere = {"action": "ALLOW", "rules": [rule(None, on("/mesh"))]}
    of_namespace = {"action": "ALLOW", "rules": [rule(None, on("/namespace"))]}
    elsewhere = {"action": "DENY", "rules": [{}]}
    with stage.policies(
        security("AuthorizationPolicy", "mesh", everywhere, guarded.ROOT_NAMESPACE),
        security("AuthorizationPolicy", "namespace", of_namespace),
        allow("workload", "/workload"),
        allow("other-workload", "/other", app="other"),
        policy("deny", "DENY", rule({"notPrincipals": [WEB]}, on("/workload"))),
        policy("nothing", "ALLOW"),
        security("AuthorizationPolicy", "elsewhere", elsewhere, "elsewhere"),
    ):
        asked = [
            Asked(who, path)
            for who in ("web-1", "other-1")
            for path in ("/mesh", "/namespace", "/workload", "/other")
        ]
        assert [stage.reply(each).status for each in asked] == [
            200,
            200,
            200,
            403,
            200,
            200,
            403,
            403,
        ]
        assert stage.differing(asked) == []


def test_a_dry_run_and_an_audit_refuse_nothing(stage: guarded.GuardedStage) -> None:
    """Envoy counts what a dry run would have denied, and lets it pass."""
    dry = policy("dry", "DENY", rule(None, on("/dry")))
    dry["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    counter = r"http\.inbound_.*_8080.*\.istio_dry_run_deny_\.shadow_denied"
    with stage.policies(dry, policy("audit", "AUDIT", {})):
        before = stage.stat("server-1", counter)
        asked = [Asked("web-1", "/dry"), Asked("web-1", "/audited")]
        assert [stage.reply(each).status for each in asked] == [200, 200]
        assert stage.stat("server-1", counter) == before + 1
        assert stage.differing(asked) == []


def test_connections(stage: guarded.GuardedStage) -> None:
    """TCP goes by name, address and port; what only HTTP knows allows nothing, and is left out where it denies."""

    def talks(port: int, pod: str = "web-1") -> bool:
        return stage.talk("10.96.0.10", port, pod) == ("server-1", "hello")

    with stage.policies(
        policy("web", "ALLOW", rule({"principals": [WEB]}, {"ports": ["9000", "9001"]})),
        policy("void", "ALLOW", rule(None, {"ports": ["9000"], "methods": ["GET"]})),
        policy("deny", "DENY", rule(None, {"ports": ["9001"], "paths": ["/x"]})),
    ):
        found = {
            (pod, port): talks(port, pod) for pod in ("web-1", "other-1") for port in (9000, 9001)
        }
        assert found == {
            ("web-1", 9000): True,
            ("web-1", 9001): False,
            ("other-1", 9000): False,
            ("other-1", 9001): False,
        }
    assert talks(9001, "other-1")


@pytest.mark.parametrize("provider", ["by-http", "by-grpc"])
def test_an_authorizer_is_asked(stage: guarded.GuardedStage, provider: str) -> None:
    """CUSTOM asks a server of what its rules fit, and of nothing else; an ALLOW of another rule does not help."""
    custom = policy("custom", "CUSTOM", rule(None, on("/asked*")), provider={"name": provider})
    with stage.policies(custom):
        passing, refused = (
            stage.reply(Asked("web-1", "/asked", headers=h)) for h in ((("x-pass", "yes"),), ())
        )
        by = provider.removeprefix("by-")
        assert passing.told["headers"]["x-authorized-by"] == by
        assert (refused.status, refused.headers["x-refused-by"]) == (403, by)
        assert stage.reply(Asked("web-1", "/other")).status == 200
        text = stage.simulated(Asked("web-1", "/asked"))[1]
        assert "asks outbound|" in text
        assert "asks outbound|" not in stage.simulated(Asked("web-1", "/other"))[1]


def test_an_authorizer_is_asked_of_connections(stage: guarded.GuardedStage) -> None:
    """A connection is asked about by gRPC; where there is nobody to ask, what CUSTOM fits is refused."""
    custom = policy(
        "custom", "CUSTOM", rule(None, {"ports": ["9000", "9001"]}), provider={"name": "by-grpc"}
    )
    with stage.policies(custom):
        assert stage.talk("10.96.0.10", 9001) == ("server-1", "hello")
        assert stage.talk("10.96.0.10", 9000)[1] == ""
    missing = policy("custom", "CUSTOM", rule(None, on("/asked")), provider={"name": "nobody"})
    with stage.policies(missing):
        asked = [Asked("web-1", "/asked"), Asked("web-1", "/other")]
        assert [stage.reply(each).status for each in asked] == [403, 200]
        assert stage.differing(asked) == []


def bearing(token: str, **fields: Any) -> Asked:
    """Return a request with a token."""
    return Asked(headers=(("authorization", f"Bearer {token}"),), **fields)


def tokens(issuers: list[dict[str, Any]], app: str = "server") -> dict[str, Any]:
    """Return a RequestAuthentication of an app."""
    return security(
        "RequestAuthentication", f"tokens-{app}", guarded.of_app(app) | {"jwtRules": issuers}
    )


def test_tokens(stage: guarded.GuardedStage) -> None:
    """A valid token passes and tells who it is for; any other is refused; none passes where no rule asks for one."""
    good, now = stage.issuer, int(time.time())
    stranger = agents.Issuer(stage.dir, "stranger", "https://good.lab")
    inline = {"issuer": "https://good.lab", "jwks": good.jwks.read_text(), "audiences": ["shop"]}
    claims = {"sub": "anna", "aud": "shop", "scope": "read write", "team": {"name": "blue"}}
    anna = rule({"requestPrincipals": ["https://good.lab/anna"]}, on("/anna"))
    scoped = rule(
        {"requestPrincipals": ["*"]},
        on("/scoped"),
        when("request.auth.claims[scope]", "write"),
        when("request.auth.claims[team][name]", "bl*"),
        when("request.auth.audiences", "shop"),
    )
    open_to_all = rule({"notRequestPrincipals": ["*"]}, on("/open"))
    with stage.policies(
        tokens([inline | {"outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}]}]),
        policy("tokens", "ALLOW", anna, scoped, open_to_all),
    ):
        cases = {
            bearing(good.sign(claims), path="/anna"): 200,
            bearing(good.sign(claims), path="/scoped"): 200,
            bearing(good.sign(claims), path="/open"): 403,
            bearing(good.sign(claims | {"sub": "otto"}), path="/anna"): 403,
            bearing(good.sign(claims | {"scope": "read"}), path="/scoped"): 403,
            bearing(good.sign(claims | {"team": {"name": "red"}}), path="/scoped"): 403,
            bearing(good.sign(claims | {"exp": now - 300}), path="/anna"): 401,
            bearing(good.sign(claims | {"nbf": now + 300}), path="/anna"): 401,
            bearing(good.sign(claims | {"iss": "https://bad.lab"}), path="/anna"): 401,
            bearing(good.sign(claims | {"aud": "other"}), path="/anna"): 403,
            bearing("not.a.token", path="/anna"): 401,
            Asked("web-1", "/anna"): 403,
            Asked("web-1", "/open"): 200,
        }
        assert {case: stage.reply(case).status for case in cases} == cases
        assert stage.differing(list(cases)) == []
        # Signatures are the one thing that the simulation takes on trust.
        forged = (stranger.sign(claims), good.sign(claims)[:-8] + "AAAAAAAA")
        assert {stage.reply(bearing(each, path="/anna")).status for each in forged} == {401}
        shown = stage.reply(bearing(good.sign(claims), path="/anna", who="plain-1"))
        assert shown.told["headers"]["x-sub"] == "anna"
        spoofed = stage.reply(Asked("plain-1", "/open", headers=(("x-sub", "root"),)))
        assert "x-sub" not in spoofed.told["headers"]


def test_keys_by_address(stage: guarded.GuardedStage) -> None:
    """Keys are fetched by navarch, new ones take the place of old ones, and an issuer without keys harms no other."""
    good, late = stage.issuer, stage.keys_dir / "late.json"
    second = agents.Issuer(stage.keys_dir, "second", "https://late.lab")
    third = agents.Issuer(stage.dir, "third", "https://late.lab")
    issuers: list[dict[str, Any]] = [
        {"issuer": "https://good.lab", "jwksUri": f"{guarded.KEYS_AT}/good.json"},
        {
            "issuer": "https://late.lab",
            "jwksUri": f"{guarded.KEYS_AT}/late.json",
            "fromHeaders": [{"name": "x-late"}],
        },
        {
            "issuer": "https://dead.lab",
            "jwksUri": f"{guarded.KEYS_AT}/dead.json",
            "fromHeaders": [{"name": "x-dead"}],
        },
    ]
    claims = {"sub": "anna"}

    def status(name: str, token: str) -> int:
        return stage.reply(Asked("plain-1", "/keys", headers=((name, token),))).status

    must = policy("must", "DENY", rule({"notRequestPrincipals": ["*"]}, on("/keys")))
    with stage.policies(tokens(issuers), must):
        by_good = ("authorization", f"Bearer {good.sign(claims)}")
        stage.wait(lambda: status(*by_good) == 200, "the keys of a good issuer are fetched")
        assert status("x-late", second.sign(claims)) == 401
        assert status("x-dead", second.sign(claims | {"iss": "https://dead.lab"})) == 401
        late.write_text(json.dumps({"keys": [second.public_key()]}))
        stage.wait(
            lambda: status("x-late", second.sign(claims)) == 200, "the late keys are fetched", 60
        )
        # A set is asked for again when navarch starts, else after twenty minutes.
        late.write_text(json.dumps({"keys": [third.public_key()]}))
        with stage.away(signal.SIGTERM):
            assert status("x-late", second.sign(claims)) == 200
        stage.wait(
            lambda: status("x-late", third.sign(claims)) == 200, "the new key is fetched", 60
        )
        assert status("x-late", second.sign(claims)) == 401
        stage.wait(lambda: status(*by_good) == 200, "the keys of a good issuer are fetched")


def test_at_the_gateway(stage: guarded.GuardedStage) -> None:
    """A gateway verifies tokens, routes by their claims, and enforces rules by the client's own address."""
    inline = {
        "issuer": "https://good.lab",
        "jwks": stage.issuer.jwks.read_text(),
        "forwardOriginalToken": True,
    }
    from_plain = {"remoteIpBlocks": [guarded.CLIENTS["plain-1"]]}
    team = stage.issuer.sign({"sub": "anna", "team": "blue"})
    with stage.policies(
        tokens([inline], "ingress"),
        policy(
            "at-gateway",
            "ALLOW",
            rule(from_plain, on("/plain")),
            rule({"requestPrincipals": ["*/anna"]}, on("/token")),
            app="ingress",
        ),
        policy(
            "at-server", "ALLOW", rule({"principals": ["*/sa/ingress"]}, {"notPaths": ["/never"]})
        ),
    ):
        at_ingress: dict[str, Any] = {"who": "plain-1", "at_ingress": True, "host": "shop.lab"}
        cases = {
            Asked(path="/plain", **at_ingress): 200,
            Asked(path="/token", **at_ingress): 403,
            bearing(team, path="/token", **at_ingress): 200,
            bearing("not.a.token", path="/plain", **at_ingress): 401,
            # The server's sidecar takes it from the gateway alone.
            Asked("web-1", "/plain"): 403,
        }
        assert {case: stage.reply(case).status for case in cases} == cases
        assert stage.differing(list(cases)) == []
        routed = stage.reply(bearing(team, path="/token", **at_ingress))
        assert routed.told["headers"]["x-routed-by"] == "claim"
        assert "x-routed-by" not in stage.reply(Asked(path="/plain", **at_ingress)).told["headers"]


def test_no_proxy_refuses_anything(stage: guarded.GuardedStage) -> None:
    """Whatever the policies above ask for, Envoy takes."""
    for pod in ("server-1", "ingress-1", "web-1", "other-1"):
        assert stage.stat(pod, "listener_manager.lds.update_success") > 0
        assert stage.stat(pod, "listener_manager.lds.update_rejected") == 0
        assert stage.stat(pod, "cluster_manager.cds.update_rejected") == 0
