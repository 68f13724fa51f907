"""A request as an operator describes it, run through the proxies of a mesh: `navarch simulate`."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from navarch import core, errors
from navarch.ops import bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Objects = Callable[[str], list[dict[str, Any]]]

ISTIO_VERSION: Final = "1.32.0"
_SCHEMES: Final = {
    "http": "http",
    "https": "https",
    "h2c": "http2",
    "grpc": "grpc",
    "tcp": "tcp",
    "tls": "tls",
}
_DEFAULT_PORTS: Final = {"https": 443, "tls": 443}


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """A request as flags tell it.

    Attributes:
        url: Such as `http://reviews:9080/path` or `tcp://db:5432`.
        address: IP or IP:PORT that is connected to, in place of what the URL's host resolves to.
        headers: Headers; `host` replaces the URL's.
        percent: What the proxy's dice show, below 100; without it the likelier branches are followed.
        is_inbound: To the workload rather than from it.
        principal: The identity in the client's certificate, with or without `spiffe://`.
        claims: A JSON object: what a token claims that the request has; "" for none.
    """

    url: str
    method: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    address: str = ""
    sni: str = ""
    alpn: tuple[str, ...] = ()
    source_address: str = ""
    percent: float | None = None
    has_certificate: bool = False
    is_inbound: bool = False
    principal: str = ""
    claims: str = ""


def build_request(described: Described) -> dict[str, Any]:
    """Return the request in the core's fields.

    Raises:
        errors.RequestError: The URL, the address or the claims can't be read.
    """
    url, port = _split(described.url)
    protocol = _SCHEMES[url.scheme]
    headers = {name.lower(): value for name, value in described.headers.items()}
    host = headers.pop("host", url.netloc.rpartition("@")[2])
    made: dict[str, Any] = {
        "protocol": "tls" if described.sni and protocol == "tcp" else protocol,
        "direction": "inbound" if described.is_inbound else "outbound",
        "host": host,
        "port": port or _DEFAULT_PORTS.get(url.scheme, 80),
        "method": described.method,
        "path": urllib.parse.urlunsplit(("", "", url.path or "/", url.query, "")),
        "headers": headers,
        "sni": described.sni,
        "alpn": list(described.alpn),
        "has_certificate": described.has_certificate,
        "principal": described.principal,
        "claims": _read_claims(described.claims),
        "source_address": described.source_address,
        "percent": described.percent,
    }
    if described.address:
        made["address"], told = _split_address(described.address)
        made["port"] = told or made["port"]
    elif host != url.netloc and _is_address(url.hostname or ""):
        made["address"] = url.hostname
    return made


def _read_claims(text: str) -> dict[str, Any]:
    try:
        claims = json.loads(text) if text else {}
    except ValueError as error:
        raise errors.RequestError(f"--claims {text!r} is no JSON: {error}") from error
    if not isinstance(claims, dict):
        raise errors.RequestError(f"--claims {text!r} must be a JSON object")
    return claims


def _split(text: str) -> tuple[urllib.parse.SplitResult, int | None]:
    try:
        url = urllib.parse.urlsplit(text)
        port = url.port
    except ValueError as error:
        raise errors.RequestError(f"--url {text!r} can't be read: {error}") from error
    if url.scheme not in _SCHEMES or not url.hostname:
        raise errors.RequestError(
            f"--url {text!r} must be SCHEME://HOST with {', '.join(_SCHEMES)}"
        )
    if url.scheme == "tcp" and not port:
        raise errors.RequestError(f"{text!r} needs a port")
    return url, port


def _split_address(text: str) -> tuple[str, int | None]:
    if _is_address(text.strip("[]")):
        return text.strip("[]"), None
    ip, _, port = text.rpartition(":")
    ip = ip.strip("[]")
    if not _is_address(ip) or not port.isdecimal():
        raise errors.RequestError(f"--address {text!r} must be IP or IP:PORT")
    return ip, int(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Simulator:
    """Runs requests through the proxies of one mesh.

    Args:
        held: The core that holds the mesh.
        objects: All objects of a kind that are in force, in Kubernetes form.
    """

    def __init__(self, held: core.Core, objects: Objects) -> None:
        self._core = held
        self._objects = objects

    def find_node(self, workload: str, *, is_stock: bool = False) -> dict[str, Any]:
        """Return the node of a workload's proxy; one that a Gateway selects is a router.

        Args:
            workload: `NAMESPACE/NAME` of a Pod or WorkloadEntry, or of what its Pods are named after.
            is_stock: Whether the proxy is upstream's Envoy rather than Istio's build.

        Raises:
            errors.RequestError: There is no such workload, or its address is not known.
        """
        namespace, _, name = workload.rpartition("/")
        namespace = namespace or "default"
        found = [
            each
            for each in self._workloads()
            if each.namespace == namespace and _is_named(each, name)
        ]
        if not found:
            why = f"no Pod or WorkloadEntry {namespace}/{name} with an address; give --node"
            raise errors.RequestError(why)
        # The one that has exactly the name, else the first by name.
        return self._node(min(found, key=lambda each: (each.name != name, each.name)), is_stock)

    def find_node_at(self, ip: str, *, is_stock: bool = False) -> dict[str, Any] | None:
        """Return the node of the sidecar at an address, if a workload is known to have it."""
        return next((self._node(w, is_stock) for w in self._workloads() if w.ip == ip), None)

    def run(
        self, node: dict[str, Any], request: dict[str, Any], receiver: dict[str, Any] | None = None
    ) -> core.Simulation:
        """Run a request through a proxy, and through a receiver's if one is given; tokens are judged by the time."""
        request = {"now_seconds": time.time()} | request
        if str(node.get("id", "")).startswith("router~") and not request.get("address"):
            request = request | {"port": self._listener_port(node, request["port"])}
        told = json.dumps(receiver).encode() if receiver is not None else None
        return self._core.simulate(json.dumps(node).encode(), json.dumps(request).encode(), told)

    def run_through(
        self, node: dict[str, Any], request: dict[str, Any], *, is_stock: bool = False
    ) -> core.Simulation:
        """Run a request, and on through the sidecar of the endpoint with the largest share where it is known."""
        sent = self.run(node, request)
        endpoints = sent.answer["landing"].get("endpoints", [])
        ip = endpoints[0]["address"].rpartition(":")[0].strip("[]") if endpoints else ""
        receiver = self.find_node_at(ip, is_stock=is_stock)
        return sent if receiver is None else self.run(node, request, receiver)

    def _workloads(self) -> Iterator[_Workload]:
        for pod in self._objects("Pod"):
            if ip := pod.get("status", {}).get("podIP", ""):
                account = pod.get("spec", {}).get("serviceAccountName", "")
                yield _Workload(**_named(pod), ip=ip, service_account=account)
        for entry in self._objects("WorkloadEntry"):
            spec = entry.get("spec", {})
            if _is_address(ip := spec.get("address", "")):
                told = _named(entry)
                told["labels"] = told["labels"] | spec.get("labels", {})
                yield _Workload(**told, ip=ip, service_account=spec.get("serviceAccount", ""))

    def _node(self, workload: _Workload, is_stock: bool) -> dict[str, Any]:  # noqa: FBT001  passed on
        selectors = [each["spec"].get("selector", {}) for each in self._objects("Gateway")]
        is_router = any(s and s.items() <= workload.labels.items() for s in selectors)
        told = bootstrap.Node(
            proxy_type="router" if is_router else "sidecar",
            ip=workload.ip,
            pod=workload.name,
            namespace=workload.namespace,
            labels=workload.labels,
            service_account=workload.service_account,
            metadata=_stock(workload) if is_stock else {"ISTIO_VERSION": ISTIO_VERSION},
        )
        return bootstrap.build_node(told)

    def _listener_port(self, node: dict[str, Any], port: int) -> int:
        """Return the gateway's own port behind its Service's, or the port itself."""
        metadata = node.get("metadata", {})
        labels = metadata.get("LABELS", {})
        for service in self._objects("Service"):
            spec = service.get("spec", {})
            selector = spec.get("selector") or {}
            is_own = service["metadata"].get("namespace") == metadata.get("NAMESPACE")
            if is_own and selector and selector.items() <= labels.items():
                for each in spec.get("ports", []):
                    target = each.get("targetPort", each["port"])
                    if each["port"] == port and isinstance(target, int):
                        return target
        return port


@dataclasses.dataclass(frozen=True, slots=True)
class _Workload:
    name: str
    namespace: str
    labels: dict[str, str]
    ip: str
    service_account: str


def _stock(workload: _Workload) -> dict[str, Any]:
    """Return what navarch's agent adds to the node of upstream's Envoy, where injection has left its mark."""
    has_agent = workload.labels.get("security.istio.io/tlsMode") == "istio"
    return {"WORKLOAD_CERTIFICATE": True} if has_agent else {}


def _named(each: dict[str, Any]) -> dict[str, Any]:
    metadata = each["metadata"]
    return {
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "labels": dict(metadata.get("labels") or {}),
    }


def _is_named(workload: _Workload, name: str) -> bool:
    return workload.name == name or workload.name.startswith(f"{name}-")
