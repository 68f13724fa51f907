"""The world of the figures: Kubernetes services, some with rules, and the nodes of their pods.

Service s is in namespace `ns-(s mod n)`, has ports http 80→8080 and tcp 9000, an EndpointSlice and a pod of each
version; pod k is of service `k mod n_services`, so that it lies in its service's namespace. One file a service: a
change is one write.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

N_VERSIONS: Final = 2
_DOMAIN: Final = "cluster.local"

_SERVICE: Final = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2024-01-01T00:00:00Z"}}
spec:
  clusterIP: {cluster_ip}
  clusterIPs: [{cluster_ip}]
  selector: {{app: {name}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080, protocol: TCP}}
  - {{name: tcp, port: 9000, targetPort: 9000, protocol: TCP}}
"""
_POD: Final = """\
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: {namespace}, labels: {{app: {name}, version: {version}}}}}
spec:
  serviceAccountName: {name}
  nodeName: node-1
  containers: [{{name: app, image: app}}]
status:
  phase: Running
  podIP: {ip}
  podIPs: [{{ip: {ip}}}]
  conditions: [{{type: Ready, status: "True"}}]
"""
_SLICE: Final = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: {namespace}
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports:
- {{name: http, port: 8080, protocol: TCP}}
- {{name: tcp, port: 9000, protocol: TCP}}
endpoints:
{endpoints}
"""
_ENDPOINT: Final = "- {{addresses: [{ip}], conditions: {{ready: true}}{target}}}"
_TARGET: Final = ", nodeName: node-1, targetRef: {{kind: Pod, name: {pod}, namespace: {namespace}}}"
_SIDECAR: Final = """\
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: {namespace}}}
spec:
  egress:
  - hosts: ["./*"]
"""
_RULES: Final = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2024-01-01T00:00:00Z"}}
spec:
  hosts: [{name}.{namespace}.svc.cluster.local]
  http:
  - match:
    - headers: {{x-user: {{exact: "{user}"}}}}
    route:
    - destination: {{host: {name}.{namespace}.svc.cluster.local, subset: v2}}
  - route:
    - destination: {{host: {name}.{namespace}.svc.cluster.local, subset: v1}}
      weight: 90
    - destination: {{host: {name}.{namespace}.svc.cluster.local, subset: v2}}
      weight: 10
    retries: {{attempts: 3, perTryTimeout: 2s, retryOn: "5xx,reset"}}
    timeout: 10s
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2024-01-01T00:00:00Z"}}
spec:
  host: {name}.{namespace}.svc.cluster.local
  trafficPolicy:
    connectionPool:
      tcp: {{maxConnections: 100}}
      http: {{http1MaxPendingRequests: 100, maxRequestsPerConnection: 10}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """What a service's file says beyond its number.

    Attributes:
        addresses: Endpoints beside those of its pods. They are of its first pod, so that the service's identity stays:
            an endpoint of another one changes clusters too, and is another scenario.
        user: The header value of the match of its VirtualService.
        cluster_ip: Its address, if it is not the one that its number gives.
    """

    number: int
    addresses: tuple[str, ...] = ()
    user: str = "canary"
    cluster_ip: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """How large it is; the defaults are those of the published figures.

    Attributes:
        n_rules: How many services have a VirtualService and a DestinationRule.
        is_scoped: Whether a Sidecar in each namespace narrows what its pods see to that namespace.
        is_in_pieces: Whether sidecars ask for virtual hosts as resources of their own.
    """

    n_services: int = 1_000
    n_namespaces: int = 10
    n_rules: int = 200
    is_scoped: bool = False
    is_in_pieces: bool = False

    def __post_init__(self) -> None:
        if self.n_services % self.n_namespaces or self.n_rules > self.n_services:
            raise ValueError(
                "services: a multiple of the namespaces, and at least as many as rules"
            )

    @property
    def n_pods(self) -> int:
        """How many pods it has, and so the most sidecars."""
        return self.n_services * N_VERSIONS

    def namespace(self, number: int) -> str:
        """Return the namespace of a service or pod."""
        return f"ns-{number % self.n_namespaces}"

    def host(self, number: int) -> str:
        """Return the full host name of a service."""
        return f"{_name(number)}.{self.namespace(number)}.svc.{_DOMAIN}"

    def render_namespaces(self) -> str:
        """Return the namespaces, with a Sidecar in each if they are scoped."""
        spaces = [
            f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{i}}}\n"
            for i in range(self.n_namespaces)
        ]
        if self.is_scoped:
            spaces += [_SIDECAR.format(namespace=f"ns-{i}") for i in range(self.n_namespaces)]
        return "---\n".join(spaces)

    def write(self, directory: Path) -> None:
        """Write all files."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "namespaces.yaml").write_text(self.render_namespaces())
        for number in range(self.n_services):
            self.write_service(directory, Service(number))

    def write_service(self, directory: Path, service: Service) -> None:
        """Write a service's file as editors do: beside it, then renamed over it."""
        target = directory / f"{_name(service.number)}.yaml"
        beside = directory / f".{target.name}.new"
        beside.write_text(self.render(service))
        beside.replace(target)

    def render(self, service: Service) -> str:
        """Return a service's file; numbers from `n_services` on are services without pods or rules."""
        number = service.number
        names = {"name": _name(number), "namespace": self.namespace(number)}
        is_of_world = number < self.n_services
        documents = [_SERVICE.format(cluster_ip=service.cluster_ip or cluster_ip(number), **names)]
        target = _TARGET.format(pod=self._pod(number), **names) if is_of_world else ""
        endpoints = [_ENDPOINT.format(ip=ip, target=target) for ip in service.addresses]
        for k in self._pods(number) if is_of_world else []:
            pod = {"pod": self._pod(k), "ip": pod_ip(k), **names}
            documents.append(_POD.format(version=f"v{1 + k // self.n_services}", **pod))
            endpoints.append(_ENDPOINT.format(ip=pod_ip(k), target=_TARGET.format(**pod)))
        documents.append(_SLICE.format(endpoints="\n".join(endpoints), **names))
        if number < self.n_rules:
            documents.append(_RULES.format(user=service.user, **names))
        return "---\n".join(documents)

    def node(self, k: int, *, is_istio: bool = True) -> dict[str, Any]:
        """Return the node of pod k's sidecar, as protobuf JSON; from `n_pods` on of a pod of no service.

        Args:
            k: From 0.
            is_istio: Whether it says that it is Istio's build of Envoy.
        """
        namespace = self.namespace(k)
        is_of_world = k < self.n_pods
        app = _name(k % self.n_services) if is_of_world else "client"
        labels = {"app": app, "version": f"v{1 + k // self.n_services}" if is_of_world else "v1"}
        version = {"ISTIO_VERSION": "1.32.0"} if is_istio else {}
        pieces = {"NAVARCH_VHDS": "true"} if self.is_in_pieces else {}
        return {
            "id": f"sidecar~{pod_ip(k)}~{self._pod(k)}.{namespace}~{namespace}.svc.{_DOMAIN}",
            "cluster": f"{app}.{namespace}",
            "metadata": {
                "NAMESPACE": namespace,
                "NAME": self._pod(k),
                "CLUSTER_ID": "Kubernetes",
                "INSTANCE_IPS": pod_ip(k),
                "INTERCEPTION_MODE": "REDIRECT",
                "SERVICE_ACCOUNT": app,
                "LABELS": labels,
                **version,
                **pieces,
            },
        }

    def find_plain(self) -> int:
        """Return the last service of the first namespace, which has no rules unless all have."""
        return self.n_services - self.n_namespaces

    def find_ruled(self) -> int:
        """Return a service of the first namespace that has rules."""
        middle = self.n_rules // 2
        return middle - middle % self.n_namespaces

    def find_new(self, serial: int) -> int:
        """Return a number in the first namespace that no service of the world has."""
        return self.n_services + serial * self.n_namespaces

    def n_viewers(self, number: int, n_sidecars: int) -> int:
        """Return how many of the first sidecars see a service."""
        if not self.is_scoped:
            return n_sidecars
        return len(range(number % self.n_namespaces, n_sidecars, self.n_namespaces))

    def _pods(self, number: int) -> range:
        return range(number, self.n_pods, self.n_services)

    def _pod(self, k: int) -> str:
        return f"{_name(k % self.n_services)}-pod-{k}"


def cluster_ip(number: int) -> str:
    """Return the address of a service."""
    return f"10.96.{number >> 8}.{number & 255}"


def pod_ip(k: int) -> str:
    """Return the address of a pod."""
    return f"10.{64 + (k >> 16)}.{k >> 8 & 255}.{k & 255}"


def _name(number: int) -> str:
    return f"service-{number}"
