"""What the CustomResourceDefinitions of the mesh's kinds demand beyond types: Istio's bounds and CEL rules.

Cheap rules that the API server itself can hold to; all others are `check` of each kind, which the webhook runs.
Never stricter than Istio's definitions, so that objects that Istio's took stay valid.
Source: the markers of istio.io/api's protobuf files, as manifests/charts/base/files/crd-all.gen.yaml has them.
"""

from __future__ import annotations

from typing import Any, Final

from navarch.crds.kinds import (
    authorization_policy,
    destination_rule,
    envoy_filter,
    gateway,
    peer_authentication,
    proxy_config,
    request_authentication,
    service_entry,
    sidecar,
    telemetry,
    traffic_extension,
    wasm_plugin,
    workload_group,
)
from navarch.crds.kinds.virtual_service import spec as routes
from navarch.crds.schema import extension, matching, structural, traffic, workload
from navarch.crds.schema import proxy_config as proxy_settings
from navarch.crds.schema.structural import Constraints

_NO_RULES: Final[dict[str, Any]] = {"x-kubernetes-validations": None}
_FILLED: Final = {"minLength": 1}
_EACH_FILLED: Final = {"items": _FILLED}


def _rules(*told: tuple[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for text, rule in told]}


def _at_most_one(text: str, *names: str) -> tuple[str, str]:
    counted = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names)
    return text, f"{counted} <= 1"


_PORT: Final = _rules(("port must be between 1-65535", "0 < self && self <= 65535"))
_PORT_NUMBER: Final = {"minimum": 1, "maximum": 65535}
_SELECTOR_LABELS: Final = {
    "maxProperties": 4096,
    "additionalProperties": {
        "maxLength": 63,
        **_rules(("wildcard not allowed in label value match", '!self.contains("*")')),
    },
    **_rules(
        ("wildcard not allowed in label key match", 'self.all(key, !key.contains("*"))'),
        ("key must not be empty", "self.all(key, key.size() != 0)"),
    ),
}
_NETWORKING_SELECTOR_LABELS: Final = {
    "maxProperties": 256,
    "additionalProperties": {
        "maxLength": 63,
        **_rules(("wildcard is not supported in selector", '!self.contains("*")')),
    },
}
_ATTACHMENT: Final = _at_most_one(
    "only one of targetRefs or selector can be set", "selector", "targetRef", "targetRefs"
)
_TARGET_REFS: Final = {"targetRefs": {"maxItems": 16}}
_NAMED_PORT: Final = {"required": ["name", "number"]}
_URL_SCHEMES: Final = '["", "http", "https", "file", "oci"]'
_MODULE_URL: Final = {
    **_FILLED,
    # CEL's cost is estimated from the longest text that there can be; no address is longer.
    "maxLength": 4096,
    **_rules(
        (
            "url must have schema one of [http, https, file, oci]",
            f"isURL(self) ? (url(self).getScheme() in {_URL_SCHEMES})"
            f' : (isURL("http://" + self) && url("http://" + self).getScheme() in {_URL_SCHEMES})',
        )
    ),
}
_WASM: Final[dict[str, structural.Schema]] = {
    "url": _MODULE_URL,
    "sha256": {"pattern": "(^$|^[a-f0-9]{64}$)"},
    "imagePullSecret": {"minLength": 1, "maxLength": 253},
    "pluginName": {"minLength": 1, "maxLength": 256},
}
_TRAFFIC_SELECTORS: Final = {
    "items": {
        "properties": {
            "ports": {
                "items": {"required": ["number"], "properties": {"number": _PORT_NUMBER}},
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["number"],
            }
        }
    }
}

_MATCHING: Final[dict[type, Constraints]] = {
    matching.StringMatch: Constraints(one_of=(("exact", "prefix", "regex"),)),
    matching.Destination: Constraints(required=("host",)),
    matching.LabelSelector: Constraints(fields={"labels": _NETWORKING_SELECTOR_LABELS}),
    matching.WorkloadSelector: Constraints(fields={"matchLabels": _SELECTOR_LABELS}),
    matching.PolicyTargetReference: Constraints(
        required=("kind", "name"),
        fields={
            "group": {
                "maxLength": 253,
                "pattern": r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            },
            "kind": {
                "minLength": 1,
                "maxLength": 63,
                "pattern": "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
            },
            "name": {"minLength": 1, "maxLength": 253},
            "namespace": _rules(
                ("cross namespace referencing is not currently supported", "self.size() == 0")
            ),
        },
    ),
}

_TRAFFIC: Final[dict[type, Constraints]] = {
    # 0s is how a pool is told not to time out.
    traffic.TcpSettings: Constraints(fields={"idleTimeout": _NO_RULES}),
    traffic.LoadBalancer: Constraints(one_of=(("simple", "consistentHash"),)),
    traffic.ConsistentHash: Constraints(
        one_of=(
            ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
            ("ringHash", "maglev"),
        )
    ),
    traffic.HttpCookie: Constraints(required=("name",)),
    traffic.HttpCookieAttribute: Constraints(required=("name",)),
    traffic.Warmup: Constraints(
        required=("duration",),
        fields={"minimumPercent": {"minimum": 0, "maximum": 100}, "aggression": {"minimum": 0}},
    ),
    traffic.TrafficPolicy: Constraints(fields={"portLevelSettings": {"maxItems": 4096}}),
    traffic.RetryBudget: Constraints(fields={"percent": {"minimum": 0, "maximum": 100}}),
    traffic.Tunnel: Constraints(required=("targetHost", "targetPort")),
    destination_rule.Subset: Constraints(required=("name",)),
    destination_rule.DestinationRule: Constraints(required=("host",)),
}

_ROUTES: Final[dict[type, Constraints]] = {
    routes.HttpRoute: Constraints(also={"mirrorPercent": "mirror_percent"}),
    routes.HttpDestination: Constraints(required=("destination",)),
    routes.RouteDestination: Constraints(required=("destination",)),
    routes.Mirror: Constraints(required=("destination",)),
    routes.Redirect: Constraints(one_of=(("port", "derivePort"),)),
    routes.DirectResponse: Constraints(required=("status",)),
    routes.DirectBody: Constraints(one_of=(("string", "bytes"),)),
    routes.Delay: Constraints(one_of=(("fixedDelay", "exponentialDelay"),)),
    routes.Abort: Constraints(one_of=(("httpStatus", "grpcStatus", "http2Error"),)),
    routes.TlsRoute: Constraints(required=("match",)),
    routes.TlsMatch: Constraints(required=("sniHosts",)),
}

_WORKLOADS: Final[dict[type, Constraints]] = {
    workload.Workload: Constraints(
        rules=(
            ("Address is required", "has(self.address) || has(self.network)"),
            (
                "UDS may not include ports",
                '(has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true',
            ),
        ),
        fields={
            "address": {
                "maxLength": 256,
                **_rules(
                    (
                        "UDS must be an absolute path or abstract socket",
                        'self.startsWith("unix://") ? (self.substring(7, 8) == "/"'
                        ' || self.substring(7, 8) == "@") : true',
                    ),
                    (
                        "UDS may not be a dir",
                        'self.startsWith("unix://") ? !self.endsWith("/") : true',
                    ),
                ),
            },
            "labels": {"maxProperties": 256},
            "locality": {"maxLength": 2048},
            "network": {"maxLength": 2048},
            "serviceAccount": {"maxLength": 253},
            "ports": {
                "maxProperties": 128,
                "additionalProperties": _PORT,
                **_rules(
                    (
                        "port name must be valid",
                        "self.all(key, size(key) < 63"
                        ' && key.matches("^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$"))',
                    )
                ),
            },
        },
    ),
    service_entry.ServiceEntry: Constraints(
        required=("hosts",),
        rules=(
            _at_most_one(
                "only one of WorkloadSelector or Endpoints can be set",
                "workloadSelector",
                "endpoints",
            ),
            (
                "CIDR addresses are allowed only for NONE/STATIC resolution types",
                '!((has(self.addresses) ? self.addresses : []).exists(k, k.contains("/")) && '
                '!((has(self.resolution) ? self.resolution : "NONE") in ["STATIC", "NONE"]))',
            ),
            (
                "NONE mode cannot set endpoints",
                '((has(self.resolution) ? self.resolution : "NONE") == "NONE")'
                " ? !has(self.endpoints) : true",
            ),
            (
                "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
                '((has(self.resolution) ? self.resolution : "") == "DNS_ROUND_ROBIN")'
                " ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true",
            ),
        ),
        fields={
            "hosts": {
                "minItems": 1,
                "maxItems": 256,
                "items": _rules(("hostname cannot be wildcard", 'self != "*"')),
            },
            "addresses": {"maxItems": 256, "items": {"maxLength": 64}},
            "endpoints": {"maxItems": 4096},
            "ports": {
                "maxItems": 256,
                "items": {
                    **_NAMED_PORT,
                    "properties": {
                        "name": {"maxLength": 256},
                        "protocol": {"maxLength": 256},
                        "number": _PORT,
                        "targetPort": _PORT,
                    },
                },
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                **_rules(
                    (
                        "port number cannot be duplicated",
                        "self.all(l1, self.exists_one(l2, l1.number == l2.number))",
                    )
                ),
            },
        },
    ),
    workload_group.HttpGet: Constraints(required=("port",)),
    workload_group.TcpSocket: Constraints(required=("port",)),
    workload_group.ReadinessProbe: Constraints(
        one_of=(("httpGet", "tcpSocket", "exec", "grpc"),),
        fields={
            name: {"minimum": 0}
            for name in (
                "initialDelaySeconds",
                "timeoutSeconds",
                "periodSeconds",
                "successThreshold",
                "failureThreshold",
            )
        },
    ),
    workload_group.TemplateMetadata: Constraints(
        fields={"labels": {"maxProperties": 256}, "annotations": {"maxProperties": 256}}
    ),
    # The template has no address: each entry that is made from it brings its own.
    workload_group.WorkloadGroup: Constraints(
        required=("template",), fields={"template": _NO_RULES}
    ),
}

_PROXIES: Final[dict[type, Constraints]] = {
    gateway.Server: Constraints(
        required=("port", "hosts"),
        fields={"port": {"required": ["name", "number", "protocol"]}},
    ),
    sidecar.EgressListener: Constraints(required=("hosts",)),
    sidecar.IngressListener: Constraints(required=("port",)),
    envoy_filter.ObjectMatch: Constraints(
        one_of=(("listener", "routeConfiguration", "cluster", "waypoint"),)
    ),
    envoy_filter.EnvoyFilter: Constraints(
        rules=(
            _at_most_one(
                "only one of targetRefs or workloadSelector can be set",
                "workloadSelector",
                "targetRefs",
            ),
        ),
        fields=_TARGET_REFS,
    ),
    proxy_config.ProxyConfig: Constraints(
        fields={
            "concurrency": {"minimum": 0},
            "environmentVariables": {"additionalProperties": {"maxLength": 2048}},
        }
    ),
}

_SECURITY: Final[dict[type, Constraints]] = {
    peer_authentication.PeerAuthentication: Constraints(
        rules=(
            (
                "portLevelMtls requires selector",
                "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels))"
                " ? self.selector.matchLabels : {}).size() > 0) : true",
            ),
        ),
        fields={
            "portLevelMtls": {
                "minProperties": 1,
                **_rules(
                    (
                        "port must be between 1-65535",
                        "self.all(key, 0 < int(key) && int(key) <= 65535)",
                    )
                ),
            }
        },
    ),
    request_authentication.JwtHeader: Constraints(required=("name",), fields={"name": _FILLED}),
    request_authentication.ClaimToHeader: Constraints(
        required=("claim", "header"),
        fields={"claim": _FILLED, "header": {"minLength": 1, "pattern": "^[-_A-Za-z0-9]+$"}},
    ),
    request_authentication.JwtRule: Constraints(
        required=("issuer",),
        rules=(
            _at_most_one("only one of jwks or jwksUri can be set", "jwksUri", "jwks_uri", "jwks"),
        ),
        fields={
            "issuer": _FILLED,
            "audiences": _EACH_FILLED,
            "fromParams": _EACH_FILLED,
            "fromCookies": _EACH_FILLED,
            "spaceDelimitedClaims": {"maxItems": 64, "items": _FILLED},
            "jwksUri": {
                "minLength": 1,
                "maxLength": 2048,
                **_rules(
                    (
                        "url must have scheme http:// or https://",
                        'url(self).getScheme() in ["http", "https"]',
                    )
                ),
            },
        },
        also={"jwksUri": "jwks_uri"},
    ),
    request_authentication.RequestAuthentication: Constraints(
        rules=(_ATTACHMENT,), fields={**_TARGET_REFS, "jwtRules": {"maxItems": 4096}}
    ),
    authorization_policy.Source: Constraints(
        rules=(
            (
                "Cannot set serviceAccounts with namespaces or principals",
                "(has(self.serviceAccounts) || has(self.notServiceAccounts))"
                " ? (!has(self.principals) && !has(self.notPrincipals)"
                " && !has(self.namespaces) && !has(self.notNamespaces)) : true",
            ),
        ),
        fields={
            name: {"maxItems": 16, "items": {"maxLength": 320}}
            for name in ("serviceAccounts", "notServiceAccounts")
        },
    ),
    authorization_policy.Condition: Constraints(required=("key",)),
    authorization_policy.Rule: Constraints(fields={"from": {"maxItems": 512}}),
    authorization_policy.AuthorizationPolicy: Constraints(
        rules=(_ATTACHMENT,), fields={**_TARGET_REFS, "rules": {"maxItems": 512}}
    ),
}

_TELEMETRY: Final[dict[type, Constraints]] = {
    telemetry.Telemetry: Constraints(rules=(_ATTACHMENT,), fields=_TARGET_REFS),
    telemetry.ProviderRef: Constraints(required=("name",), fields={"name": _FILLED}),
    telemetry.Tracing: Constraints(
        fields={"randomSamplingPercentage": {"minimum": 0, "maximum": 100}}
    ),
    telemetry.Metrics: Constraints(
        fields={"reportingInterval": {"x-kubernetes-validations": [dict(structural.DURATION_RULE)]}}
    ),
    telemetry.MetricMatch: Constraints(
        one_of=(("metric", "customMetric"),), fields={"customMetric": _FILLED}
    ),
    telemetry.TagOverride: Constraints(
        rules=(
            (
                "value must be set when operation is UPSERT",
                '((has(self.operation) ? self.operation : "") == "UPSERT")'
                ' ? (has(self.value) && self.value != "") : true',
            ),
            (
                "value must not be set when operation is REMOVE",
                '((has(self.operation) ? self.operation : "") == "REMOVE") ? !has(self.value) : true',
            ),
        )
    ),
    proxy_settings.CustomTag: Constraints(
        one_of=(("literal", "environment", "header", "formatter"),)
    ),
    proxy_settings.LiteralTag: Constraints(required=("value",), fields={"value": _FILLED}),
    proxy_settings.NamedTag: Constraints(required=("name",), fields={"name": _FILLED}),
    proxy_settings.FormatterTag: Constraints(required=("value",), fields={"value": _FILLED}),
}

_EXTENSIONS: Final[dict[type, Constraints]] = {
    extension.EnvironmentVariable: Constraints(
        required=("name",),
        rules=(
            (
                "value may only be set when valueFrom is INLINE",
                '(has(self.valueFrom) ? self.valueFrom : "") != "HOST" || !has(self.value)',
            ),
        ),
        fields={"name": {"minLength": 1, "maxLength": 256}, "value": {"maxLength": 2048}},
    ),
    extension.VmConfig: Constraints(
        fields={
            "env": {
                "maxItems": 256,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            }
        }
    ),
    extension.WasmModule: Constraints(required=("url",), fields=_WASM),
    wasm_plugin.WasmPlugin: Constraints(
        required=("url",),
        rules=(_ATTACHMENT,),
        fields={**_WASM, **_TARGET_REFS, "match": _TRAFFIC_SELECTORS},
    ),
    traffic_extension.Lua: Constraints(
        required=("inlineCode",), fields={"inlineCode": {"minLength": 1, "maxLength": 65536}}
    ),
    traffic_extension.TrafficExtension: Constraints(
        rules=(
            _at_most_one("only one of targetRefs or selector can be set", "selector", "targetRefs"),
            ("exactly one of wasm or lua must be set", "has(self.wasm) != has(self.lua)"),
        ),
        fields={**_TARGET_REFS, "match": _TRAFFIC_SELECTORS},
    ),
}

CONSTRAINTS: Final[structural.Table] = {
    **_MATCHING,
    **_TRAFFIC,
    **_ROUTES,
    **_WORKLOADS,
    **_PROXIES,
    **_SECURITY,
    **_TELEMETRY,
    **_EXTENSIONS,
}
"""The constraints of each model; a model that is missing has those of its fields' types alone."""

NEEDS_SPEC: Final = frozenset(
    {
        "DestinationRule",
        "ServiceEntry",
        "TrafficExtension",
        "WasmPlugin",
        "WorkloadEntry",
        "WorkloadGroup",
    }
)
"""Kinds of which an object without a spec says nothing."""
