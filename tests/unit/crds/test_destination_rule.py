"""DestinationRule: what is taken, and what is refused at which field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.crds import objects


def policy(**parts: Any) -> dict[str, Any]:
    return {"host": "a", "trafficPolicy": parts}


def balancer(**parts: Any) -> dict[str, Any]:
    return policy(loadBalancer=parts)


def tls(**parts: Any) -> dict[str, Any]:
    return policy(tls=parts)


TAKEN = {
    "host alone": {"host": "*.example.com"},
    "subsets": {
        "host": "a",
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2"}],
    },
    "pool": policy(connectionPool={"tcp": {"maxConnections": 1, "connectTimeout": "30ms"}}),
    "outliers": policy(outlierDetection={"consecutive5xxErrors": 0, "interval": "1m"}),
    "hash": balancer(
        consistentHash={"httpCookie": {"name": "c", "ttl": "0s"}, "maglev": {"tableSize": 65537}}
    ),
    "distribute": balancer(
        localityLbSetting={"distribute": [{"from": "a/*", "to": {"a/*": 80, "b/c": 20}}]}
    ),
    "warmup": balancer(simple="ROUND_ROBIN", warmup={"duration": "1m", "aggression": 1.5}),
    "mutual by files": tls(mode="MUTUAL", clientCertificate="/c", privateKey="/k"),
    "mutual by secret": tls(mode="MUTUAL", credentialName="s"),
    "port": policy(portLevelSettings=[{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}]),
    "tunnel": policy(tunnel={"targetHost": "10.0.0.1", "targetPort": 443}),
    "budget": policy(retryBudget={"percent": 33.5, "minRetryConcurrency": 2}),
    "some workloads": {
        "host": "a",
        "exportTo": ["."],
        "workloadSelector": {"matchLabels": {"app": "x"}},
    },
}


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN.keys())
def test_right_objects_are_taken(spec: dict[str, Any]) -> None:
    """An object that Istio's admission takes has no faults."""
    assert objects.find_faults("DestinationRule", spec) == set()


AT = "spec.trafficPolicy"
REFUSED: dict[str, tuple[dict[str, Any], objects.Found]] = {
    "no host": ({}, {("spec.host", "invalid-host")}),
    "empty policy": (policy(), {(AT, "missing-field")}),
    "subsets": (
        {
            "host": "a",
            "subsets": [{"name": "v1"}, {"name": "v1", "labels": {"": "x"}}, {}, {"name": "a.b"}],
        },
        {
            ("spec.subsets[1].name", "duplicate"),
            ("spec.subsets[1].labels[]", "invalid-label"),
            ("spec.subsets[2].name", "invalid-name"),
            ("spec.subsets[3].name", "invalid-name"),
        },
    ),
    "subset's policy": (
        {"host": "a", "subsets": [{"name": "v1", "trafficPolicy": {}}]},
        {("spec.subsets[0].trafficPolicy", "missing-field")},
    ),
    "tunnel and PROXY protocol": (
        policy(tunnel={"targetHost": "a.b", "targetPort": 1}, proxyProtocol={}),
        {(AT, "conflict")},
    ),
    "tunnel": (
        policy(tunnel={"protocol": "GET", "targetHost": "*", "targetPort": 0}),
        {
            (f"{AT}.tunnel.protocol", "unknown-value"),
            (f"{AT}.tunnel.targetHost", "invalid-host"),
            (f"{AT}.tunnel.targetPort", "invalid-port"),
        },
    ),
    "port settings": (
        policy(portLevelSettings=[{}]),
        {
            (f"{AT}.portLevelSettings[0].port", "missing-field"),
            (f"{AT}.portLevelSettings[0]", "missing-field"),
        },
    ),
    "pool": (
        policy(
            connectionPool={
                "tcp": {"maxConnections": -1, "connectTimeout": "0s"},
                "http": {"maxRetries": -1, "h2UpgradePolicy": "UPGRADE", "useClientProtocol": True},
            }
        ),
        {(f"{AT}.connectionPool.tcp.connectTimeout", "invalid-duration")}
        | {
            (f"{AT}.connectionPool.tcp.maxConnections", "out-of-range"),
            (f"{AT}.connectionPool.http.maxRetries", "out-of-range"),
            (f"{AT}.connectionPool.http.useClientProtocol", "conflict"),
        },
    ),
    "empty pool": (policy(connectionPool={}), {(f"{AT}.connectionPool", "missing-field")}),
    "outliers": (
        policy(outlierDetection={"maxEjectionPercent": 101, "consecutiveLocalOriginFailures": 3}),
        {
            (f"{AT}.outlierDetection.maxEjectionPercent", "out-of-range"),
            (f"{AT}.outlierDetection.consecutiveLocalOriginFailures", "conflict"),
        },
    ),
    "two balancers": (
        balancer(simple="RANDOM", consistentHash={"useSourceIp": True}),
        {(f"{AT}.loadBalancer", "conflict")},
    ),
    "unknown balancer": (balancer(simple="BEST"), {(f"{AT}.loadBalancer.simple", "unknown-value")}),
    "hash": (
        balancer(
            consistentHash={
                "httpCookie": {},
                "httpHeaderName": "x",
                "maglev": {"tableSize": 10},
                "minimumRingSize": 5,
            }
        ),
        {
            (f"{AT}.loadBalancer.consistentHash", "conflict"),
            (f"{AT}.loadBalancer.consistentHash.httpCookie.name", "missing-field"),
            (f"{AT}.loadBalancer.consistentHash.maglev.tableSize", "out-of-range"),
            (f"{AT}.loadBalancer.consistentHash.minimumRingSize", "conflict"),
        },
    ),
    "distribute and failover": (
        balancer(
            localityLbSetting={
                "distribute": [{"from": "a", "to": {"a": 100}}],
                "failover": [{"from": "a", "to": "b"}],
            }
        ),
        {(f"{AT}.loadBalancer.localityLbSetting", "conflict")},
    ),
    "shares": (
        balancer(localityLbSetting={"distribute": [{"from": "a", "to": {"a": 50, "b": 0}}]}),
        {
            (f"{AT}.loadBalancer.localityLbSetting.distribute[0].to.b", "out-of-range"),
            (f"{AT}.loadBalancer.localityLbSetting.distribute[0].to", "out-of-range"),
        },
    ),
    "overlap": (
        balancer(localityLbSetting={"distribute": [{"from": "a/*", "to": {"a": 50, "a/b": 50}}]}),
        {(f"{AT}.loadBalancer.localityLbSetting.distribute[0].to", "conflict")},
    ),
    "failover": (
        balancer(
            localityLbSetting={"failover": [{"from": "a", "to": "a"}, {"from": "a/b", "to": "c"}]}
        ),
        {
            (f"{AT}.loadBalancer.localityLbSetting.failover[0]", "conflict"),
            (f"{AT}.loadBalancer.localityLbSetting.failover[1].from", "invalid-value"),
        },
    ),
    "mutual without files": (
        tls(mode="MUTUAL"),
        {
            (f"{AT}.tls.clientCertificate", "missing-field"),
            (f"{AT}.tls.privateKey", "missing-field"),
        },
    ),
    "secret and files": (
        tls(mode="SIMPLE", credentialName="s", caCertificates="/ca"),
        {(f"{AT}.tls.caCertificates", "conflict")},
    ),
    "unverified, yet with roots": (
        tls(mode="SIMPLE", insecureSkipVerify=True, caCertificates="/ca"),
        {(f"{AT}.tls.insecureSkipVerify", "conflict")},
    ),
    "selector": (
        {"host": "a", "exportTo": ["*"], "workloadSelector": {"matchLabels": {"a": "*"}}},
        {
            ("spec.exportTo", "conflict"),
            ("spec.workloadSelector.matchLabels.a", "invalid-label"),
        },
    ),
}


@pytest.mark.parametrize(("spec", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_each_fault_is_found_at_its_field(spec: dict[str, Any], found: objects.Found) -> None:
    """Every fault of an object is told, at its field, with its code, and no other."""
    assert objects.find_faults("DestinationRule", spec) == found
