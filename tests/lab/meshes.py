"""The lab's mesh as objects: services, pods and rules, in YAML as users write them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACE: Final = "lab"


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """A service's port: HTTP or TCP by its name, as Kubernetes users choose it."""

    name: str
    number: int
    target: int


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A service with a cluster address, or headless if the address is "None".

    Attributes:
        app: Whose pods serve it; its own name if left out.
    """

    name: str
    ip: str
    port: Port
    app: str = ""
    more_ports: tuple[Port, ...] = ()

    @property
    def ports(self) -> tuple[Port, ...]:
        """Return all ports."""
        return (self.port, *self.more_ports)

    @property
    def selected_app(self) -> str:
        """Return the app whose pods serve it."""
        return self.app or self.name


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """A pod, or a machine outside the mesh: an address with a server and mostly a proxy.

    Attributes:
        xds: How its proxy asks: `delta` or `sotw`.
        proxy: `sidecar`, `router`, or "" if it has none.
        workload: The words for `workloads.py` less the pod's name; nothing if there is only a proxy.
        zone: Where its node stands.
        nameserver: Whom its proxy asks for names; "" leaves that to the machine.
        role: The label `istio`, by which Ingress finds its gateways.
        account: The service account that it runs as.
        has_agent: Whether its proxy has an identity, as the injector marks it for the pod's clients.
        has_redirection: Whether a sidecar gets all traffic; if not, only what is sent to its listeners.
        has_virtual_hosts_apart: Whether its proxy asks for virtual hosts as resources of their own (VHDS).
        drain_seconds: How long its proxy keeps a listener that is gone, and the listener's routes; Envoy's own default.
    """

    name: str
    ip: str
    app: str
    version: str = "v1"
    xds: str = "delta"
    proxy: str = "sidecar"
    workload: tuple[str, ...] = ("http", "8080")
    zone: str = ""
    nameserver: str = ""
    role: str = ""
    has_redirection: bool = True
    account: str = "default"
    has_agent: bool = False
    has_virtual_hosts_apart: bool = False
    drain_seconds: int = 600

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that services and subsets select by."""
        made = {"app": self.app, "version": self.version}
        made |= {"istio": self.role} if self.role else {}
        return made | ({"security.istio.io/tlsMode": "istio"} if self.has_agent else {})

    @property
    def is_redirected(self) -> bool:
        """Whether iptables sends its traffic through its proxy."""
        return self.proxy == "sidecar" and self.has_redirection

    @property
    def listening(self) -> tuple[int, ...]:
        """Return the TCP ports of its workload."""
        if not self.workload or self.workload[0] == "dns":
            return ()
        return tuple(int(word) for word in self.workload[1:] if word.isdecimal())


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
    Pod("web-3", "10.77.1.3", "web", has_virtual_hosts_apart=True, drain_seconds=2),
    Pod("reviews-v1", "10.77.2.1", "reviews"),
    Pod("reviews-v2", "10.77.2.2", "reviews", "v2"),
    Pod("ratings-1", "10.77.3.1", "ratings"),
    Pod("details-1", "10.77.4.1", "details"),
    Pod("details-2", "10.77.4.2", "details"),
    Pod("ledger-1", "10.77.5.1", "ledger", workload=("tcp", "9000")),
    Pod("ledger-2", "10.77.5.2", "ledger", "v2", workload=("tcp", "9000")),
)
OUTSIDE_IP: Final = "10.77.9.9"
OUTSIDE: Final = Pod("outside", OUTSIDE_IP, "outside", proxy="", workload=("http", "80", "8080"))
REGION: Final = "here"


def dump(objects: list[dict[str, Any]]) -> str:
    """Return objects as one stream of YAML documents."""
    return yaml.safe_dump_all(objects, sort_keys=False)


def find_service(name: str) -> Service:
    """Return a service by its name."""
    return next(service for service in SERVICES if service.name == name)


def platform(
    services: Sequence[Service] = SERVICES, pods: Sequence[Pod] = PODS
) -> list[dict[str, Any]]:
    """Return what Kubernetes would tell: namespace, nodes, services and pods (EndpointSlices apart)."""
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    ]
    nodes = [_node(zone) for zone in sorted({pod.zone for pod in pods if pod.zone})]
    return [*made, *nodes, *map(_service, services), *map(_pod, pods)]


def _metadata(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE} | ({"labels": labels} if labels else {})


def _node(zone: str) -> dict[str, Any]:
    topology = {"topology.kubernetes.io/region": REGION, "topology.kubernetes.io/zone": zone}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{zone}", "labels": topology},
    }


def _service(service: Service) -> dict[str, Any]:
    ports = [
        {"name": port.name, "port": port.number, "targetPort": port.target, "protocol": "TCP"}
        for port in service.ports
    ]
    spec = {
        "clusterIP": service.ip,
        "clusterIPs": [service.ip],
        "selector": {"app": service.selected_app},
        "ports": ports,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service.name),
        "spec": spec,
    }


def _pod(pod: Pod) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "serviceAccountName": pod.account,
        "containers": [{"name": "app", "image": "lab"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(pod.name, pod.labels),
        "spec": spec | ({"nodeName": f"node-{pod.zone}"} if pod.zone else {}),
        "status": {
            "phase": "Running",
            "podIP": pod.ip,
            "podIPs": [{"ip": pod.ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def endpoint_slice(app: str, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the EndpointSlice of a service, less some of its pods."""
    return slice_of(find_service(app), [pod for pod in PODS if pod.name not in without])


def slice_of(service: Service, pods: Sequence[Pod]) -> list[dict[str, Any]]:
    """Return the EndpointSlice of a service: those of the pods that it selects."""
    endpoints = [
        {
            "addresses": [pod.ip],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": NAMESPACE},
        }
        | ({"zone": pod.zone, "nodeName": f"node-{pod.zone}"} if pod.zone else {})
        for pod in pods
        if pod.app == service.selected_app
    ]
    made = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(f"{service.name}-1", {"kubernetes.io/service-name": service.name}),
        "addressType": "IPv4",
        "ports": [
            {"name": port.name, "port": port.target, "protocol": "TCP"} for port in service.ports
        ],
        "endpoints": endpoints,
    }
    return [made]


def rule(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return an object of Istio's networking."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": _metadata(name),
        "spec": spec,
    }


def subsets(host: str) -> list[dict[str, Any]]:
    """Return a DestinationRule with a subset for each version."""
    made = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    return [rule("DestinationRule", host, {"host": host, "subsets": made})]


def virtual_service(host: str, http: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a VirtualService of HTTP rules."""
    return [rule("VirtualService", host, {"hosts": [host], "http": http})]


def tcp_virtual_service(host: str, subset: str) -> list[dict[str, Any]]:
    """Return a VirtualService that sends all TCP to one subset."""
    route = [{"destination": {"host": host, "subset": subset}}]
    return [rule("VirtualService", host, {"hosts": [host], "tcp": [{"route": route}]})]


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


def plain(host: str, mark: str) -> list[dict[str, Any]]:
    """Return a rule that only marks answers with `x-rule`."""
    route = [{"destination": {"host": host}}]
    headers = {"response": {"set": {"x-rule": mark}}}
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
    return [rule("Sidecar", "web", spec)]
