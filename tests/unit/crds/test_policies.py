"""Security, telemetry and extension kinds: what is taken, and what is refused at which field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.crds import objects

SELECTOR = {"selector": {"matchLabels": {"app": "x"}}}
GATEWAY_REF = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"}


def rule(**parts: Any) -> dict[str, Any]:
    return {"rules": [parts]}


def jwt(**parts: Any) -> dict[str, Any]:
    return {"jwtRules": [{"issuer": "me", **parts}]}


def patch(apply_to: str, operation: str, **match: Any) -> dict[str, Any]:
    value = {} if operation == "REMOVE" else {"value": {"name": "x", "n": None}}
    config = {"applyTo": apply_to, "match": match, "patch": {"operation": operation, **value}}
    return {"configPatches": [config]}


TAKEN: dict[str, tuple[str, dict[str, Any] | None]] = {
    "no spec": ("PeerAuthentication", None),
    "mode": ("PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
    "ports": (
        "PeerAuthentication",
        {**SELECTOR, "portLevelMtls": {"8080": {"mode": "DISABLE"}, 9090: {}}},
    ),
    "JWT": (
        "RequestAuthentication",
        jwt(
            jwksUri="https://a/b",
            fromHeaders=[{"name": "x", "prefix": "Bearer "}],
            outputClaimToHeaders=[{"header": "x-sub", "claim": "sub"}],
        ),
    ),
    "inline keys": ("RequestAuthentication", jwt(jwks='{"keys": []}', timeout="5s")),
    "no rules": ("AuthorizationPolicy", {}),
    "a rule": (
        "AuthorizationPolicy",
        rule(
            **{"from": [{"source": {"principals": ["*"], "ipBlocks": ["10.0.0.0/8"]}}]},
            to=[{"operation": {"ports": ["80"], "paths": ["/a*"]}}],
            when=[{"key": "request.headers[x]", "values": ["y"]}],
        ),
    ),
    "custom": (
        "AuthorizationPolicy",
        {"action": "CUSTOM", "provider": {"name": "p"}, "rules": [{}]},
    ),
    "on a gateway": (
        "AuthorizationPolicy",
        {"targetRefs": [GATEWAY_REF], "action": "DENY", "rules": [{}]},
    ),
    "telemetry": (
        "Telemetry",
        {
            "tracing": [{"providers": [{"name": "z"}], "randomSamplingPercentage": 0}],
            "metrics": [{"overrides": [{"match": {"metric": "ALL_METRICS"}, "disabled": True}]}],
            "accessLogging": [{"filter": {"expression": "true"}}],
        },
    ),
    "proxies": ("ProxyConfig", {"concurrency": 0, "image": {"imageType": "distroless"}}),
    "patch": ("EnvoyFilter", patch("CLUSTER", "MERGE", cluster={"service": "a"})),
    "patch that removes": (
        "EnvoyFilter",
        patch("HTTP_FILTER", "REMOVE", listener={"filterChain": {"filter": {"name": "hcm"}}}),
    ),
    "module": (
        "WasmPlugin",
        {"url": "oci://r/x:1", "pluginConfig": {"a": None, "b": [1, {"c": 2.5}]}, "priority": 0},
    ),
    "script": ("TrafficExtension", {"lua": {"inlineCode": "x()"}, "phase": "AUTHN"}),
}


@pytest.mark.parametrize(("kind", "spec"), TAKEN.values(), ids=TAKEN.keys())
def test_right_objects_are_taken(kind: str, spec: dict[str, Any]) -> None:
    """An object that Istio's admission takes has no faults."""
    assert objects.find_faults(kind, spec) == set()


REFUSED: dict[str, tuple[str, dict[str, Any], objects.Found]] = {
    "ports without selector": (
        "PeerAuthentication",
        {"portLevelMtls": {"80": {}}},
        {("spec.portLevelMtls", "missing-field")},
    ),
    "port": (
        "PeerAuthentication",
        {**SELECTOR, "portLevelMtls": {"70000": {"mode": "STRIKT"}}},
        {("spec.portLevelMtls[70000].mode", "unknown-value")},
    ),
    "port number": (
        "PeerAuthentication",
        {**SELECTOR, "portLevelMtls": {"70000": {}}},
        {("spec.portLevelMtls[70000]", "invalid-port")},
    ),
    "JWT": (
        "RequestAuthentication",
        {
            "jwtRules": [
                {
                    "audiences": [""],
                    "jwksUri": "ftp://x",
                    "jwks": "x",
                    "fromHeaders": [{}],
                    "outputClaimToHeaders": [{"header": "a b"}],
                    "timeout": "0s",
                }
            ]
        },
        {
            ("spec.jwtRules[0].timeout", "invalid-duration"),
            ("spec.jwtRules[0].issuer", "missing-field"),
            ("spec.jwtRules[0].audiences[0]", "invalid-value"),
            ("spec.jwtRules[0].jwksUri", "invalid-value"),
            ("spec.jwtRules[0].jwks", "invalid-value"),
            ("spec.jwtRules[0].fromHeaders[0]", "invalid-value"),
            ("spec.jwtRules[0].outputClaimToHeaders[0].claim", "missing-field"),
            ("spec.jwtRules[0].outputClaimToHeaders[0].header", "invalid-header"),
        },
    ),
    "attached twice": (
        "RequestAuthentication",
        {**SELECTOR, "targetRefs": [{"kind": "Pod", "namespace": "other"}]},
        {
            ("spec", "conflict"),
            ("spec.targetRefs[0].name", "missing-field"),
            ("spec.targetRefs[0].namespace", "unsupported-field"),
            ("spec.targetRefs[0].kind", "unknown-value"),
        },
    ),
    "deny nothing": ("AuthorizationPolicy", {"action": "DENY"}, {("spec.rules", "missing-field")}),
    "custom": (
        "AuthorizationPolicy",
        {
            "action": "CUSTOM",
            "rules": [
                {
                    "from": [{"source": {"principals": ["x"]}}],
                    "when": [{"key": "request.auth.principal", "values": ["x"]}],
                }
            ],
        },
        {
            ("spec.provider.name", "missing-field"),
            ("spec.rules[0].from[0].source.principals", "unsupported-field"),
            ("spec.rules[0].when[0].key", "unsupported-field"),
        },
    ),
    "a rule": (
        "AuthorizationPolicy",
        {
            "provider": {"name": "p"},
            "rules": [
                {
                    "from": [{}, {"source": {"ipBlocks": ["x"], "namespaces": [""]}}],
                    "to": [{"operation": {}}, {"operation": {"ports": ["http"]}}],
                    "when": [{"key": "x"}, {"key": "source.ip", "notValues": ["x"]}],
                }
            ],
        },
        {
            ("spec.provider", "conflict"),
            ("spec.rules[0].from[0].source", "missing-field"),
            ("spec.rules[0].from[1].source.ipBlocks[0]", "invalid-address"),
            ("spec.rules[0].from[1].source.namespaces[0]", "invalid-value"),
            ("spec.rules[0].to[0].operation", "missing-field"),
            ("spec.rules[0].to[1].operation.ports[0]", "invalid-port"),
            ("spec.rules[0].when[0].key", "unknown-value"),
            ("spec.rules[0].when[0]", "missing-field"),
            ("spec.rules[0].when[1].notValues[0]", "invalid-address"),
        },
    ),
    "telemetry": (
        "Telemetry",
        {
            "tracing": [{"randomSamplingPercentage": 101, "customTags": {"a": {"literal": {}}}}],
            "metrics": [
                {
                    "providers": [{}],
                    "overrides": [
                        {
                            "match": {"metric": "ALL_METRICS", "customMetric": ""},
                            "tagOverrides": {"a": {}, "b": {"operation": "REMOVE", "value": "x"}},
                        }
                    ],
                }
            ],
        },
        {
            ("spec.tracing[0].randomSamplingPercentage", "out-of-range"),
            ("spec.tracing[0].customTags.a.literal.value", "missing-field"),
            ("spec.metrics[0].providers[0].name", "missing-field"),
            ("spec.metrics[0].overrides[0].match", "conflict"),
            ("spec.metrics[0].overrides[0].match.customMetric", "missing-field"),
            ("spec.metrics[0].overrides[0].tagOverrides.a.value", "missing-field"),
            ("spec.metrics[0].overrides[0].tagOverrides.b.value", "conflict"),
        },
    ),
    "proxies": ("ProxyConfig", {"concurrency": -1}, {("spec.concurrency", "out-of-range")}),
    "patch": (
        "EnvoyFilter",
        {"configPatches": [{"match": {"proxy": {"proxyVersion": "("}}}]},
        {
            ("spec.configPatches[0].applyTo", "missing-field"),
            ("spec.configPatches[0].patch.operation", "missing-field"),
            ("spec.configPatches[0].match.proxy.proxyVersion", "invalid-regex"),
        },
    ),
    "patch of one thing, matched by another": (
        "EnvoyFilter",
        patch("CLUSTER", "MERGE", listener={}),
        {("spec.configPatches[0].match.listener", "conflict")},
    ),
    "module": (
        "WasmPlugin",
        {
            "url": "s3://x",
            "sha256": "X",
            "vmConfig": {"env": [{"name": "a"}, {"name": "a", "valueFrom": "HOST", "value": "x"}]},
            "match": [{"ports": [{"number": 0}]}],
        },
        {
            ("spec.url", "unknown-value"),
            ("spec.sha256", "invalid-value"),
            ("spec.vmConfig.env[1].name", "duplicate"),
            ("spec.vmConfig.env[1].value", "conflict"),
            ("spec.match[0].ports[0].number", "invalid-port"),
        },
    ),
    "extension": ("TrafficExtension", {}, {("spec", "missing-field")}),
    "path-templates": (
        "AuthorizationPolicy",
        {
            "rules": [
                {
                    "to": [
                        {
                            "operation": {
                                "paths": ["/a/{*}/b", "/{**}", "/a/{x}", "/{**}/{*}", "/a*/{*}"],
                                "notPaths": ["/a{*}"],
                            }
                        }
                    ]
                }
            ]
        },
        {
            ("spec.rules[0].to[0].operation.paths[2]", "invalid-value"),
            ("spec.rules[0].to[0].operation.paths[3]", "invalid-value"),
            ("spec.rules[0].to[0].operation.paths[4]", "invalid-value"),
            ("spec.rules[0].to[0].operation.notPaths[0]", "invalid-value"),
        },
    ),
    "accounts": (
        "AuthorizationPolicy",
        {
            "rules": [
                {"from": [{"source": {"serviceAccounts": ["a", "b/c", "a/b/c", "a*", "/a"]}}]},
                {"from": [{"source": {"serviceAccounts": ["a"], "notNamespaces": ["b"]}}]},
                {"from": [{"source": {"trustDomains": ["a.example", "a/b"]}}]},
            ]
        },
        {
            ("spec.rules[0].from[0].source.serviceAccounts[2]", "invalid-value"),
            ("spec.rules[0].from[0].source.serviceAccounts[3]", "invalid-value"),
            ("spec.rules[0].from[0].source.serviceAccounts[4]", "invalid-value"),
            ("spec.rules[1].from[0].source.serviceAccounts", "conflict"),
            ("spec.rules[2].from[0].source.trustDomains[1]", "invalid-value"),
        },
    ),
    "conditions": (
        "AuthorizationPolicy",
        {
            "rules": [
                {
                    "when": [
                        {"key": "request.headers[x]", "values": ["a", ""]},
                        {"key": "request.headers[]", "values": ["a"]},
                        {"key": "request.headers[x", "values": ["a"]},
                        {"key": "request.auth.claims[a][]", "values": ["a"]},
                        {"key": "request.auth.claims[a][b]", "values": ["a"]},
                        {"key": "source.serviceAccount", "values": ["a/b/c"]},
                    ]
                }
            ]
        },
        {
            ("spec.rules[0].when[0].values[1]", "invalid-value"),
            ("spec.rules[0].when[1].key", "unknown-value"),
            ("spec.rules[0].when[2].key", "unknown-value"),
            ("spec.rules[0].when[3].key", "unknown-value"),
            ("spec.rules[0].when[5].values[0]", "invalid-value"),
        },
    ),
    "custom-accounts": (
        "AuthorizationPolicy",
        {
            "action": "CUSTOM",
            "provider": {"name": "p"},
            "rules": [
                {"from": [{"source": {"serviceAccounts": ["a"]}}]},
                {"when": [{"key": "source.trustDomain", "values": ["a"]}]},
            ],
        },
        {
            ("spec.rules[0].from[0].source.serviceAccounts", "unsupported-field"),
            ("spec.rules[1].when[0].key", "unsupported-field"),
        },
    ),
    "no-ports": (
        "PeerAuthentication",
        {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {}},
        {("spec.portLevelMtls", "missing-field")},
    ),
}


@pytest.mark.parametrize(("kind", "spec", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_each_fault_is_found_at_its_field(
    kind: str, spec: dict[str, Any], found: objects.Found
) -> None:
    """Every fault of an object is told, at its field, with its code, and no other."""
    assert objects.find_faults(kind, spec) == found


def test_a_dry_run_is_true_or_false() -> None:
    """The annotation decides whether a policy acts, so a value that is neither is refused."""
    metadata = {"name": "it", "annotations": {"istio.io/dry-run": "maybe"}}
    found = objects.find_faults("AuthorizationPolicy", {}, metadata=metadata)
    assert found == {("metadata.annotations[istio.io/dry-run]", "invalid-value")}
