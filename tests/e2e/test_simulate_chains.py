"""The simulation takes the filter chain that a real Envoy takes.

Envoy runs the generated listeners with each chain's filters replaced by one that answers with the chain's name.
"""

from __future__ import annotations

import json
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from navarch import offline
from tests.e2e import local_envoy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.extension, pytest.mark.envoy]

HTTP1: Final = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
BYTES: Final = b"\x00\x01\x02 not http at all\r\n"
MUTUAL_HTTP: Final = ["istio-http/1.1", "istio", "http/1.1"]
MUTUAL_TCP: Final = ["istio-peer-exchange", "istio"]
# What the client speaks, its server name, and its ALPN protocols.
Spoken = tuple[str, str, list[str]]
SPOKEN: Final[tuple[Spoken, ...]] = (
    ("http", "", []),
    ("http2", "", []),
    ("tcp", "", []),
    ("tls", "", MUTUAL_HTTP),
    ("tls", "", MUTUAL_TCP),
    ("tls", "", ["h2", "http/1.1"]),
    ("tls", "a.example.com", []),
    ("tls", "b.example.com", ["h2"]),
    ("tls", "x.b.example.com", []),
    ("tls", "y.x.wild.org", []),
    ("tls", "wild.org", []),
    ("tls", "elsewhere.net", MUTUAL_TCP),
)
SIDECAR: Final = "sidecar~10.1.0.2~web-1.shop~shop.svc.cluster.local"
ROUTER: Final = "router~10.1.0.9~gw-1.shop~shop.svc.cluster.local"


def node(name: str, app: str) -> dict[str, Any]:
    metadata = {"NAMESPACE": "shop", "ISTIO_VERSION": "1.32.0", "LABELS": {"app": app}}
    return {"id": name, "cluster": f"{app}.shop", "metadata": metadata}


def object_of(kind: str, name: str, spec: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    made = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    return made | {"spec": spec}


def mesh_of(objects: list[dict[str, Any]], folder: Path) -> offline.Mesh:
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    made = offline.Mesh(offline.Input((file,)))
    assert made.diagnostics == []
    return made


def inbound(mode: str, ports: list[int]) -> list[dict[str, Any]]:
    """Return a workload with an HTTP, a TCP and a sniffed port, one of them with a mode of its own."""
    names = ("http", "tcp", "sniffed", "http-own")
    service = {
        "clusterIP": "10.96.0.2",
        "selector": {"app": "web"},
        "ports": [
            {"name": name, "port": 80 + n, "targetPort": ports[n]} for n, name in enumerate(names)
        ],
    }
    metadata = {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}}
    ip = {"podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}], "phase": "Running"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": ip}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {
            "name": "web-a",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "ports": [{"name": name, "port": ports[n]} for n, name in enumerate(names)],
        "endpoints": [{"addresses": ["10.1.0.2"], "conditions": {"ready": True}}],
    }
    policy = {
        "selector": {"matchLabels": {"app": "web"}},
        "mtls": {"mode": mode},
        "portLevelMtls": {ports[3]: {"mode": "STRICT"}},
    }
    authentication = object_of("PeerAuthentication", "web", policy, "security.istio.io/v1")
    return [pod, object_of("Service", "web", service), endpoints, authentication]


def gateway(port: int) -> list[dict[str, Any]]:
    def server(at: int, hosts: list[str], mode: str) -> dict[str, Any]:
        tls = {"mode": mode} | ({"credentialName": f"c-{at}"} if mode == "SIMPLE" else {})
        protocol = "HTTPS" if mode == "SIMPLE" else "TLS"
        return {
            "port": {"number": port, "name": f"s-{at}", "protocol": protocol},
            "hosts": hosts,
            "tls": tls,
        }

    servers = [
        server(0, ["a.example.com"], "SIMPLE"),
        server(1, ["*.b.example.com", "b.example.com"], "SIMPLE"),
        server(2, ["*.example.com"], "PASSTHROUGH"),
        server(3, ["*.wild.org"], "PASSTHROUGH"),
    ]
    entry = {
        "hosts": ["back.example.net"],
        "resolution": "DNS",
        "location": "MESH_EXTERNAL",
        "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
    }
    rule = {
        "hosts": ["*.example.com", "*.wild.org"],
        "gateways": ["gw"],
        "tls": [
            {
                "match": [{"sniHosts": [host]}],
                "route": [{"destination": {"host": "back.example.net"}}],
            }
            for host in ("x.b.example.com", "*.example.com", "*.wild.org")
        ],
    }
    version = "networking.istio.io/v1"
    spec = {"selector": {"app": "gw"}, "servers": servers}
    return [
        object_of("Gateway", "gw", spec, version),
        object_of("ServiceEntry", "back", entry, version),
        object_of("VirtualService", "back", rule, version),
    ]


def answering(listener: dict[str, Any], ports: list[int]) -> dict[str, Any]:
    """Return the listener, bound to ports of loopback, with chains that answer with their names."""
    for at, chain in enumerate(listener["filter_chains"]):
        name = f"chain {at} ({chain['name']})" if chain.get("name") else f"chain {at}"
        chain["filters"] = [_answer(name)]
        chain.pop("transport_socket", None)
    if "default_filter_chain" in listener:
        chain = listener["default_filter_chain"]
        chain["filters"] = [_answer(chain.get("name") or "default filter chain")]
    addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": p}} for p in ports]
    kept = [f for f in listener["listener_filters"] if not f["name"].endswith("original_dst")]
    return listener | {
        "address": addresses[0],
        "additional_addresses": [{"address": each} for each in addresses[1:]],
        "listener_filters": kept,
        "listener_filters_timeout": "5s",
        "access_log": [],
    }


def _answer(name: str) -> dict[str, Any]:
    prefix = "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3"
    config = {"@type": f"{prefix}.Config", "response": {"inline_string": name}}
    return {"name": "envoy.filters.network.direct_response", "typed_config": config}


def greeting(spoken: Spoken) -> bytes:
    protocol, name, alpn = spoken
    if protocol != "tls":
        return {"http": HTTP1, "http2": HTTP2, "tcp": BYTES}[protocol]
    context = ssl.create_default_context()
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name or None)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def taken_by_envoy(port: int, spoken: Spoken) -> str:
    """Return the chain's answer; "" if the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(greeting(spoken))
        answer = b""
        try:
            while part := client.recv(4096):
                answer += part
        except ConnectionResetError:
            pass
        return answer.decode()


def simulated(mesh: offline.Mesh, told: dict[str, Any], port: int, spoken: Spoken) -> str:
    protocol, name, alpn = spoken
    is_router = told["id"].startswith("router")
    request = {
        "protocol": protocol,
        "direction": "outbound" if is_router else "inbound",
        "address": "" if is_router else "127.0.0.1",
        "port": port,
        "sni": name,
        "alpn": alpn,
    }
    found = mesh.core.simulate(json.dumps(told).encode(), json.dumps(request).encode())
    steps = {step["stage"]: step["chosen"] for step in found.answer["steps"]}
    return str(steps.get("filter_chain", ""))


def listener_of(mesh: offline.Mesh, told: dict[str, Any], name: str) -> dict[str, Any]:
    listeners = {each["name"]: each for each in map(json.loads, mesh.translate(told)["listeners"])}
    return dict(listeners[name])


def different(
    mesh: offline.Mesh, told: dict[str, Any], name: str, ports: list[int], folder: Path
) -> list[Any]:
    listener = answering(listener_of(mesh, told, name), ports)
    with local_envoy.running({"static_resources": {"listeners": [listener]}}, folder, ports[0]):
        asked = [(port, spoken) for port in ports for spoken in SPOKEN]
        answers = [
            (each, taken_by_envoy(*each), simulated(mesh, told, each[0], each[1])) for each in asked
        ]
    assert len({real for _, real, _ in answers}) > 3
    return [each for each in answers if each[1] != each[2]]


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT", "DISABLE"])
def test_inbound_chains_are_taken_as_envoy_does(mode: str, tmp_path: Path) -> None:
    ports = local_envoy.free_ports(5)
    mesh = mesh_of(inbound(mode, ports), tmp_path)
    told = node(SIDECAR, "web")
    assert different(mesh, told, "virtualInbound", ports, tmp_path)[:3] == []


def test_a_gateways_chains_are_taken_as_envoy_does(tmp_path: Path) -> None:
    ports = local_envoy.free_ports(1)
    mesh = mesh_of(gateway(ports[0]), tmp_path)
    told = node(ROUTER, "gw")
    assert different(mesh, told, f"0.0.0.0_{ports[0]}", ports, tmp_path)[:3] == []
