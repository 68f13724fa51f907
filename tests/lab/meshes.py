"""The lab's mesh as objects: services, pods and rules, in YAML as users write them."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import yaml

NAMESPACE: Final = "lab"


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """A service's port: HTTP or TCP by its name, as Kubernetes users choose it."""

    name: str
    number: int
    target: int


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A service with a cluster address."""

    name: str
    ip: str
    port: Port


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """A pod with a sidecar: its workload is called `http` or `tcp` after its service's port.

    Attributes:
        xds: How its sidecar asks: `delta` or `sotw`.
    """

    name: str
    ip: str
    app: str
    version: str = "v1"
    xds: str = "delta"

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that services and subsets select by."""
        return {"app": self.app, "version": self.version}


HTTP: Final = Port("http", 80, 8080)
SERVICES: Final = (
    Service("web", "10.96.0.10", HTTP),
    Service("reviews", "10.96.0.20", HTTP),
    Service("ratings", "10.96.0.30", HTTP),
    # A port of its own has a route configuration of its own.
    Service("details", "10.96.0.40", Port("http", 8000, 8080)),
    Service("ledger", "10.96.0.50", Port("tcp", 9000, 9000)),
)
PODS: Final = (
    Pod("web-1", "10.77.1.1", "web"),
    Pod("web-2", "10.77.1.2", "web", xds="sotw"),
    Pod("reviews-v1", "10.77.2.1", "reviews"),
    Pod("reviews-v2", "10.77.2.2", "reviews", "v2"),
    Pod("ratings-1", "10.77.3.1", "ratings"),
    Pod("details-1", "10.77.4.1", "details"),
    Pod("details-2", "10.77.4.2", "details"),
    Pod("ledger-1", "10.77.5.1", "ledger"),
    Pod("ledger-2", "10.77.5.2", "ledger", "v2"),
)
OUTSIDE_IP: Final = "10.77.9.9"


def dump(objects: list[dict[str, Any]]) -> str:
    """Return objects as one stream of YAML documents."""
    return yaml.safe_dump_all(objects, sort_keys=False)


def find_service(name: str) -> Service:
    """Return a service by its name."""
    return next(service for service in SERVICES if service.name == name)


def platform() -> list[dict[str, Any]]:
    """Return what Kubernetes would tell: namespace, services and pods (EndpointSlices apart)."""
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    ]
    return [*made, *map(_service, SERVICES), *map(_pod, PODS)]


def _metadata(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE} | ({"labels": labels} if labels else {})


def _service(service: Service) -> dict[str, Any]:
    port = service.port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service.name),
        "spec": {
            "clusterIP": service.ip,
            "clusterIPs": [service.ip],
            "selector": {"app": service.name},
            "ports": [
                {
                    "name": port.name,
                    "port": port.number,
                    "targetPort": port.target,
                    "protocol": "TCP",
                }
            ],
        },
    }


def _pod(pod: Pod) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(pod.name, pod.labels),
        "spec": {"serviceAccountName": "default", "containers": [{"name": "app", "image": "lab"}]},
        "status": {
            "phase": "Running",
            "podIP": pod.ip,
            "podIPs": [{"ip": pod.ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def endpoint_slice(app: str, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the EndpointSlice of a service, less some of its pods."""
    port = find_service(app).port
    endpoints = [
        {
            "addresses": [pod.ip],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": NAMESPACE},
        }
        for pod in PODS
        if pod.app == app and pod.name not in without
    ]
    made = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(f"{app}-1", {"kubernetes.io/service-name": app}),
        "addressType": "IPv4",
        "ports": [{"name": port.name, "port": port.target, "protocol": "TCP"}],
        "endpoints": endpoints,
    }
    return [made]


def _rule(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": _metadata(name),
        "spec": spec,
    }


def subsets(host: str) -> list[dict[str, Any]]:
    """Return a DestinationRule with a subset for each version."""
    made = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    return [_rule("DestinationRule", host, {"host": host, "subsets": made})]


def virtual_service(host: str, http: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a VirtualService of HTTP rules."""
    return [_rule("VirtualService", host, {"hosts": [host], "http": http})]


def tcp_virtual_service(host: str, subset: str) -> list[dict[str, Any]]:
    """Return a VirtualService that sends all TCP to one subset."""
    route = [{"destination": {"host": host, "subset": subset}}]
    return [_rule("VirtualService", host, {"hosts": [host], "tcp": [{"route": route}]})]


def canary(v1: int, v2: int) -> list[dict[str, Any]]:
    """Return the rule of reviews: testers get v2, the others by weight; answers tell the rule in `x-rule`."""
    weighted = [
        {"destination": {"host": "reviews", "subset": "v1"}, "weight": v1},
        {"destination": {"host": "reviews", "subset": "v2"}, "weight": v2},
    ]
    testers = {
        "match": [{"headers": {"x-user": {"exact": "tester"}}}],
        "route": [{"destination": {"host": "reviews", "subset": "v2"}}],
        "headers": {"response": {"set": {"x-rule": "testers"}}},
    }
    others = {"route": weighted, "headers": {"response": {"set": {"x-rule": f"{v1}-{v2}"}}}}
    return virtual_service("reviews", [testers, others])


def plain(host: str, rule: str) -> list[dict[str, Any]]:
    """Return a rule that only marks answers with `x-rule`."""
    route = [{"destination": {"host": host}}]
    headers = {"response": {"set": {"x-rule": rule}}}
    return virtual_service(host, [{"route": route, "headers": headers}])


def ratings() -> list[dict[str, Any]]:
    """Return the rules of ratings: one for each prefix of a path."""
    to_ratings: dict[str, Any] = {"route": [{"destination": {"host": "ratings"}}]}

    def on(prefix: str, **fields: Any) -> dict[str, Any]:
        return {"match": [{"uri": {"prefix": prefix}}]} | fields

    no_retries = {"retries": {"attempts": 0}}
    retries = {"retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx"}}
    abort = {"fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 418}}}
    delay = {"fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "0.5s"}}}
    headers = {
        "headers": {
            "request": {"set": {"x-set": "by-rule"}, "remove": ["x-unwanted"]},
            "response": {"add": {"x-added": "by-rule"}},
        }
    }
    return virtual_service(
        "ratings",
        [
            on("/retried/", **to_ratings, **retries),
            on("/once/", **to_ratings, **no_retries),
            on("/timed/", **to_ratings, **no_retries, timeout="0.4s"),
            on("/aborted/", **to_ratings, **abort),
            on("/delayed/", **to_ratings, **delay),
            on("/rewritten/", **to_ratings, rewrite={"uri": "/new/", "authority": "other.lab"}),
            on(
                "/moved/",
                redirect={"uri": "/here", "authority": "ratings.moved", "redirectCode": 308},
            ),
            on("/headers/", **to_ratings, **headers),
            to_ratings,
        ],
    )


def closed_sidecar() -> list[dict[str, Any]]:
    """Return a Sidecar that lets `web` reach nothing that is not in the registry."""
    spec = {
        "workloadSelector": {"labels": {"app": "web"}},
        "egress": [{"hosts": ["./*"]}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    }
    return [_rule("Sidecar", "web", spec)]
