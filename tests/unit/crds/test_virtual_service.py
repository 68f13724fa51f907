"""VirtualService: what is taken, and what is refused at which field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.crds import objects

TO_A: dict[str, Any] = {"destination": {"host": "a"}}
ROUTE: list[dict[str, Any]] = [TO_A]


def http(**route: Any) -> dict[str, Any]:
    return {"hosts": ["a"], "http": [objects.with_parts({"route": ROUTE}, **route)]}


def match(**fields: Any) -> dict[str, Any]:
    return http(match=[fields])


TAKEN = {
    "plain": http(),
    "weights": http(route=[{**TO_A, "weight": 90}, {"destination": {"host": "b"}, "weight": 10}]),
    "one weight of zero": http(route=[{**TO_A, "weight": 0}]),
    "weights that do not sum up to 100": http(route=[{**TO_A, "weight": 3}, {**TO_A, "weight": 1}]),
    "subset and port": http(
        route=[{"destination": {"host": "a.b.c", "subset": "v1", "port": {"number": 80}}}]
    ),
    "redirect": http(route=None, redirect={"uri": "/x", "redirectCode": 308, "scheme": "https"}),
    "redirect port": http(route=None, redirect={"derivePort": "FROM_REQUEST_PORT"}),
    "direct response": http(
        route=None, directResponse={"status": 503, "body": {"bytes": "aGVsbG8="}}
    ),
    "delegate": http(route=None, delegate={"name": "d", "namespace": "other"}),
    "delegated to": {"http": [{"match": [{"uri": {"regex": "/a.*"}}], "route": ROUTE}]},
    "empty uri prefix": match(uri={"prefix": ""}),
    "regex": match(headers={"x-user": {"regex": "[a-z]+"}}, uri={"exact": "/"}),
    "absent header": match(withoutHeaders={"x-user": {"regex": "*"}}),
    "present header": match(headers={"x-user": {}}),
    "wildcard host": {"hosts": ["*.example.com"], "http": [{"route": ROUTE}]},
    "all hosts of a gateway": {"hosts": ["*"], "gateways": ["ns/gw"], "http": [{"route": ROUTE}]},
    "address": {"hosts": ["10.0.0.1"], "http": [{"route": ROUTE}]},
    "claim on a gateway": {
        "hosts": ["*"],
        "gateways": ["gw"],
        "http": [
            {"match": [{"headers": {"@request.auth.claims.sub": {"exact": "x"}}}], "route": ROUTE}
        ],
    },
    "retries": http(retries={"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,503,reset"}),
    "no retries": http(retries={"attempts": 0}),
    "fault": http(
        fault={
            "delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}},
            "abort": {"grpcStatus": "UNAVAILABLE"},
        }
    ),
    "mirrors": http(mirrors=[{"destination": {"host": "m"}, "percentage": {"value": 50}}]),
    "cors": http(
        corsPolicy={
            "allowOrigins": [{"exact": "*"}, {"regex": ".*"}],
            "allowMethods": ["GET"],
            "allowHeaders": ["*"],
            "maxAge": "24h",
        }
    ),
    "headers": http(
        headers={
            "request": {"set": {":authority": "x", "x-a": "100%%"}, "remove": ["x-b"]},
            "response": {"add": {"x-c": "%START_TIME(%s)% %DOWNSTREAM_REMOTE_ADDRESS%"}},
        }
    ),
    "rewrite": http(rewrite={"uriRegexRewrite": {"match": "^/a/(.*)$", "rewrite": r"/b/\1"}}),
    "tls": {
        "hosts": ["*.example.com"],
        "tls": [{"match": [{"sniHosts": ["a.example.com"], "port": 443}], "route": ROUTE}],
    },
    "tcp": {
        "hosts": ["a"],
        "tcp": [
            {
                "match": [
                    {"destinationSubnets": ["10.0.0.0/8", "::1"], "sourceLabels": {"a": "b"}}
                ],
                "route": ROUTE,
            }
        ],
    },
    "export": {**http(), "exportTo": [".", "other"]},
}


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN.keys())
def test_right_objects_are_taken(spec: dict[str, Any]) -> None:
    """An object that Istio's admission takes has no faults."""
    assert objects.find_faults("VirtualService", spec) == set()


AT = "spec.http[0]"
REFUSED: dict[str, tuple[dict[str, Any], objects.Found]] = {
    "nothing": ({"hosts": ["a"]}, {("spec", "missing-field")}),
    "host": ({**http(), "hosts": ["a_b"]}, {("spec.hosts[0]", "invalid-host")}),
    "star for the mesh": ({**http(), "hosts": ["*"]}, {("spec.hosts[0]", "invalid-host")}),
    "hosts in common": (
        {**http(), "hosts": ["*.com", "a.com"]},
        {("spec.hosts[1]", "duplicate")},
    ),
    "gateway name": (
        {**http(), "gateways": ["a/b/c", "mesh"]},
        {("spec.gateways[0]", "invalid-name")},
    ),
    "delegated to, with gateways": (
        {"gateways": ["gw"], "http": [{"route": ROUTE}]},
        {("spec.gateways", "conflict")},
    ),
    "delegating twice": (
        {"http": [{"delegate": {"name": "x"}}]},
        {(f"{AT}.delegate", "conflict")},
    ),
    "no action": (http(route=None), {(AT, "missing-field")}),
    "two actions": (http(redirect={"uri": "/"}), {(f"{AT}.route", "conflict")}),
    "redirect with fault": (
        http(route=None, redirect={"uri": "/"}, fault={"abort": {"httpStatus": 500}}),
        {(f"{AT}.fault", "conflict")},
    ),
    "redirect to nowhere": (http(route=None, redirect={}), {(f"{AT}.redirect", "missing-field")}),
    "redirect code": (
        http(route=None, redirect={"uri": "/", "redirectCode": 200, "scheme": "ftp"}),
        {
            (f"{AT}.redirect.redirectCode", "out-of-range"),
            (f"{AT}.redirect.scheme", "unknown-value"),
        },
    ),
    "status": (
        http(route=None, directResponse={"status": 99}),
        {(f"{AT}.directResponse.status", "out-of-range")},
    ),
    "no destination": (
        http(route=[{"weight": 1}]),
        {(f"{AT}.route[0].destination", "missing-field")},
    ),
    "destination": (
        http(route=[{"destination": {"host": "*", "subset": "a b", "port": {"number": 0}}}]),
        {
            (f"{AT}.route[0].destination.host", "invalid-host"),
            (f"{AT}.route[0].destination.subset", "invalid-name"),
            (f"{AT}.route[0].destination.port.number", "invalid-port"),
        },
    ),
    "weights": (
        http(route=[TO_A, {**TO_A, "weight": -1}]),
        {(f"{AT}.route[1].weight", "out-of-range")},
    ),
    "no weights": (http(route=[TO_A, TO_A]), {(f"{AT}.route", "out-of-range")}),
    "weight of a wrong type": (
        http(route=[TO_A, {**TO_A, "weight": "much"}]),
        {(f"{AT}.route[1].weight", "wrong-type")},
    ),
    "regex": (
        match(uri={"regex": "("}, headers={"x-user": {"regex": "(?=a)"}}),
        {
            (f"{AT}.match[0].uri.regex", "invalid-regex"),
            (f"{AT}.match[0].headers[x-user].regex", "invalid-regex"),
        },
    ),
    "long regex": (
        match(uri={"regex": "a" * 1025}),
        {(f"{AT}.match[0].uri.regex", "invalid-regex")},
    ),
    "two ways to match": (
        match(uri={"exact": "/", "prefix": "/"}),
        {(f"{AT}.match[0].uri", "conflict")},
    ),
    "empty prefix": (
        match(method={"prefix": ""}),
        {(f"{AT}.match[0].method.prefix", "invalid-value")},
    ),
    "number for a string": (
        match(headers={"x-user": {"exact": 1}}),
        {(f"{AT}.match[0].headers[x-user].exact", "wrong-type")},
    ),
    "header name": (
        match(headers={"x user": {"exact": "1"}}),
        {(f"{AT}.match[0].headers[x user]", "invalid-header")},
    ),
    "claim in the mesh": (
        match(headers={"@request.auth.claims.sub": {"exact": "x"}}),
        {(f"{AT}.match[0].headers[@request.auth.claims.sub]", "unsupported-field")},
    ),
    "source": (
        match(port=70000, sourceNamespace="a/b", sourceLabels={"k": "a b"}),
        {
            (f"{AT}.match[0].port", "invalid-port"),
            (f"{AT}.match[0].sourceNamespace", "invalid-name"),
            (f"{AT}.match[0].sourceLabels.k", "invalid-label"),
        },
    ),
    "timeout": (http(timeout="0s"), {(f"{AT}.timeout", "invalid-duration")}),
    "timeout without unit": (http(timeout="5"), {(f"{AT}.timeout", "invalid-duration")}),
    "timeout below a millisecond": (
        http(timeout="1500us"),
        {(f"{AT}.timeout", "invalid-duration")},
    ),
    "retries": (
        http(retries={"attempts": -1, "retryOn": "5xx, reset"}),
        {(f"{AT}.retries.attempts", "out-of-range"), (f"{AT}.retries.retryOn", "unknown-value")},
    ),
    "retries switched off": (
        http(retries={"perTryTimeout": "1s"}),
        {(f"{AT}.retries.attempts", "conflict")},
    ),
    "fault": (
        http(
            fault={
                "delay": {"percentage": {"value": 101}, "exponentialDelay": "1s"},
                "abort": {"httpStatus": 99, "grpcStatus": "NO"},
            }
        ),
        {
            (f"{AT}.fault.delay.percentage.value", "out-of-range"),
            (f"{AT}.fault.delay.exponentialDelay", "unsupported-field"),
            (f"{AT}.fault.abort", "conflict"),
            (f"{AT}.fault.abort.httpStatus", "out-of-range"),
            (f"{AT}.fault.abort.grpcStatus", "unknown-value"),
        },
    ),
    "empty fault": (http(fault={}), {(f"{AT}.fault", "missing-field")}),
    "mirrors": (
        http(mirror={"host": "m"}, mirrors=[{}], mirrorPercent=101, mirrorPercentage={"value": -1}),
        {
            (f"{AT}.mirrors", "conflict"),
            (f"{AT}.mirrors[0].destination", "missing-field"),
            (f"{AT}.mirrorPercent", "out-of-range"),
            (f"{AT}.mirrorPercentage.value", "out-of-range"),
        },
    ),
    "cors": (
        http(
            corsPolicy={
                "allowOrigins": [{}],
                "allowMethods": ["get"],
                "exposeHeaders": [""],
                "maxAge": "1500ms",
            }
        ),
        {
            (f"{AT}.corsPolicy.allowOrigins[0]", "missing-field"),
            (f"{AT}.corsPolicy.allowMethods[0]", "unknown-value"),
            (f"{AT}.corsPolicy.exposeHeaders[0]", "invalid-header"),
            (f"{AT}.corsPolicy.maxAge", "invalid-duration"),
        },
    ),
    "headers": (
        http(
            headers={
                "request": {"set": {":path": "x", "x-a": "50%"}},
                "response": {"set": {"Host": "x"}, "remove": [":status"]},
            }
        ),
        {
            (f"{AT}.headers.request.set[:path]", "invalid-header"),
            (f"{AT}.headers.request.set[x-a]", "invalid-header"),
            (f"{AT}.headers.response.set.Host", "invalid-header"),
            (f"{AT}.headers.response.remove[0]", "invalid-header"),
        },
    ),
    "authority twice": (
        http(rewrite={"authority": "a"}, headers={"request": {"set": {"Host": "b"}}}),
        {(f"{AT}.headers.request.set.Host", "conflict")},
    ),
    "rewrite": (
        http(rewrite={"uri": "/", "uriRegexRewrite": {"match": "a"}}),
        {
            (f"{AT}.rewrite", "conflict"),
            (f"{AT}.rewrite.uriRegexRewrite.rewrite", "missing-field"),
        },
    ),
    "empty rewrite": (http(rewrite={}), {(f"{AT}.rewrite", "missing-field")}),
    "tls": (
        {"hosts": ["a.com"], "tls": [{"match": [{"sniHosts": ["b.com", "a_"]}, {}], "route": []}]},
        {
            ("spec.tls[0].match[0].sniHosts[0]", "invalid-host"),
            ("spec.tls[0].match[0].sniHosts[1]", "invalid-host"),
            ("spec.tls[0].match[1].sniHosts", "missing-field"),
            ("spec.tls[0].route", "missing-field"),
        },
    ),
    "tcp": (
        {"hosts": ["a"], "tcp": [{"match": [{"destinationSubnets": ["10.0.0.0/33"]}]}]},
        {
            ("spec.tcp[0].match[0].destinationSubnets[0]", "invalid-address"),
            ("spec.tcp[0].route", "missing-field"),
        },
    ),
    "export": (
        {**http(), "exportTo": [".", "shop", "*", "~"]},
        {
            ("spec.exportTo[1]", "duplicate"),
            ("spec.exportTo[3]", "invalid-name"),
            ("spec.exportTo", "conflict"),
        },
    ),
    "unknown fields with broken rules": (
        {"hosts": ["a_"], "htttp": [], "http": [{"route": ROUTE, "timeot": "1s"}]},
        {
            ("spec.htttp", "unknown-field"),
            (f"{AT}.timeot", "unknown-field"),
            ("spec.hosts[0]", "invalid-host"),
        },
    ),
}


@pytest.mark.parametrize(("spec", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_each_fault_is_found_at_its_field(spec: dict[str, Any], found: objects.Found) -> None:
    """Every fault of an object is told, at its field, with its code, and no other."""
    assert objects.find_faults("VirtualService", spec) == found
