"""Gateway and Sidecar: what is taken, and what is refused at which field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.crds import objects

HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
HTTPS = {"number": 443, "name": "https", "protocol": "HTTPS"}


def server(**parts: Any) -> dict[str, Any]:
    return {"servers": [objects.with_parts({"port": HTTP, "hosts": ["*"]}, **parts)]}


def secure(**tls: Any) -> dict[str, Any]:
    return server(port=HTTPS, tls=tls)


def egress(*hosts: str, **parts: Any) -> dict[str, Any]:
    return {"egress": [objects.with_parts({"hosts": list(hosts)}, **parts)]}


def ingress(**parts: Any) -> dict[str, Any]:
    return {"ingress": [objects.with_parts({"port": {"number": 80, "protocol": "HTTP"}}, **parts)]}


TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "HTTP": ("Gateway", {**server(), "selector": {"istio": "ingressgateway"}}),
    "hosts": ("Gateway", server(hosts=["*.a.com", "./a.com", "ns/b.com", "*/c.com", "10.0.0.1"])),
    "redirect": ("Gateway", server(tls={"httpsRedirect": True})),
    "secret": ("Gateway", secure(mode="MUTUAL", credentialName="s")),
    "files": ("Gateway", secure(mode="SIMPLE", serverCertificate="/c", privateKey="/k")),
    "the mesh's own": ("Gateway", secure(mode="ISTIO_MUTUAL")),
    "several certificates": (
        "Gateway",
        secure(mode="SIMPLE", tlsCertificates=[{"serverCertificate": "/c", "privateKey": "/k"}]),
    ),
    "socket": ("Gateway", server(port={**HTTP, "number": 0}, bind="unix:///s")),
    "passthrough": (
        "Gateway",
        server(port={**HTTPS, "protocol": "TLS"}, tls={"mode": "AUTO_PASSTHROUGH"}),
    ),
    "imports": ("Sidecar", egress("./*", "*/a.com", "istio-system/*", "~other/*.b.com", "~/*")),
    "proxy of its own": (
        "Sidecar",
        {
            "outboundTrafficPolicy": {
                "mode": "ALLOW_ANY",
                "egressProxy": {"host": "proxy.shop.svc", "port": {"number": 80}},
            }
        },
    ),
    "listener on a socket": (
        "Sidecar",
        egress("*/*", port={"number": 0, "protocol": "HTTP"}, bind="unix:///s"),
    ),
    "inbound": (
        "Sidecar",
        ingress(defaultEndpoint="127.0.0.1:8080", connectionPool={"tcp": {"maxConnections": 1}}),
    ),
    "inbound by IPv6": ("Sidecar", ingress(defaultEndpoint="[::1]:8080", captureMode="NONE")),
}


@pytest.mark.parametrize(("kind", "spec"), TAKEN.values(), ids=TAKEN.keys())
def test_right_objects_are_taken(kind: str, spec: dict[str, Any]) -> None:
    """An object that Istio's admission takes has no faults."""
    assert objects.find_faults(kind, spec) == set()


AT = "spec.servers[0]"
REFUSED: dict[str, tuple[str, dict[str, Any], objects.Found]] = {
    "no servers": ("Gateway", {}, {("spec.servers", "missing-field")}),
    "empty server": (
        "Gateway",
        {"servers": [{}]},
        {(f"{AT}.hosts", "missing-field"), (f"{AT}.port", "missing-field")},
    ),
    "hosts": (
        "Gateway",
        server(hosts=["short", "a*.com", "~/a.com", "ns/"]),
        {(f"{AT}.hosts[{index}]", "invalid-host") for index in range(4)},
    ),
    "port": (
        "Gateway",
        server(port={"number": 0, "protocol": "", "targetPort": 1}),
        {
            (f"{AT}.port.number", "invalid-port"),
            (f"{AT}.port.protocol", "invalid-protocol"),
            (f"{AT}.port.targetPort", "unsupported-field"),
            (f"{AT}.port.name", "missing-field"),
        },
    ),
    "port names": (
        "Gateway",
        {"servers": [{"port": HTTP, "hosts": ["*"]}, {"port": HTTP, "hosts": ["*"]}]},
        {("spec.servers[1].port.name", "duplicate")},
    ),
    "bind": ("Gateway", server(bind="a"), {(f"{AT}.bind", "invalid-address")}),
    "HTTPS without TLS": ("Gateway", server(port=HTTPS), {(f"{AT}.tls", "missing-field")}),
    "HTTP with TLS": (
        "Gateway",
        server(tls={"mode": "SIMPLE", "credentialName": "s"}),
        {(f"{AT}.tls", "conflict")},
    ),
    "no certificates": (
        "Gateway",
        secure(mode="MUTUAL"),
        {
            (f"{AT}.tls.serverCertificate", "missing-field"),
            (f"{AT}.tls.privateKey", "missing-field"),
            (f"{AT}.tls.caCertificates", "missing-field"),
        },
    ),
    "the mesh's own and files": (
        "Gateway",
        secure(mode="ISTIO_MUTUAL", privateKey="/k"),
        {(f"{AT}.tls.privateKey", "conflict")},
    ),
    "two secrets": (
        "Gateway",
        secure(mode="SIMPLE", credentialName="a", credentialNames=["b"]),
        {(f"{AT}.tls", "conflict")},
    ),
    "revocation": (
        "Gateway",
        secure(mode="SIMPLE", credentialName="a", caCrl="/crl"),
        {(f"{AT}.tls.caCrl", "conflict")},
    ),
    "unknown version": (
        "Gateway",
        secure(mode="ISTIO_MUTUAL", minProtocolVersion="TLSV1_4"),
        {(f"{AT}.tls.minProtocolVersion", "unknown-value")},
    ),
    "empty sidecar": ("Sidecar", {}, {("spec", "missing-field")}),
    "imports": (
        "Sidecar",
        egress("a.com", "ns/short", "a_b/*", "*/a*.com"),
        {(f"spec.egress[0].hosts[{index}]", "invalid-host") for index in range(4)},
    ),
    "listeners": (
        "Sidecar",
        {
            "egress": [
                {"hosts": ["*/*"]},
                {"hosts": ["*/*"], "port": {"number": 80, "protocol": "x", "targetPort": 1}},
                {"port": {"number": 80}, "bind": "x"},
                {"hosts": ["*/*"], "port": {"protocol": "TCP"}, "captureMode": "IPTABLES"},
            ]
        },
        {
            ("spec.egress[0].port", "missing-field"),
            ("spec.egress[1].port.protocol", "invalid-protocol"),
            ("spec.egress[1].port.targetPort", "unsupported-field"),
            ("spec.egress[2].hosts", "missing-field"),
            ("spec.egress[2].port.number", "duplicate"),
            ("spec.egress[2].bind", "invalid-address"),
            ("spec.egress[3].bind", "invalid-address"),
            ("spec.egress[3].captureMode", "conflict"),
        },
    ),
    "inbound": (
        "Sidecar",
        {
            "ingress": [
                {"defaultEndpoint": "10.0.0.1:80"},
                {
                    "port": {"number": 0, "name": "a.b"},
                    "defaultEndpoint": ":x",
                    "tls": {"mode": "ISTIO_MUTUAL", "httpsRedirect": True},
                    "connectionPool": {},
                },
            ]
        },
        {
            ("spec.ingress[0].port", "missing-field"),
            ("spec.ingress[0].defaultEndpoint", "invalid-address"),
            ("spec.ingress[1].port.number", "invalid-port"),
            ("spec.ingress[1].port.name", "invalid-name"),
            ("spec.ingress[1].defaultEndpoint", "invalid-port"),
            ("spec.ingress[1].tls.mode", "unknown-value"),
            ("spec.ingress[1].tls.httpsRedirect", "unsupported-field"),
            ("spec.ingress[1].connectionPool", "missing-field"),
        },
    ),
    "proxy of its own, in the wrong mode": (
        "Sidecar",
        {"outboundTrafficPolicy": {"egressProxy": {"host": "a.b"}}},
        {("spec.outboundTrafficPolicy.egressProxy", "conflict")},
    ),
    "proxy of its own": (
        "Sidecar",
        {"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "a_"}}},
        {
            ("spec.outboundTrafficPolicy.egressProxy.host", "invalid-host"),
            ("spec.outboundTrafficPolicy.egressProxy.port", "missing-field"),
        },
    ),
    "mode of the mesh": (
        "Sidecar",
        {"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS"}},
        {("spec.outboundTrafficPolicy.mode", "unknown-value")},
    ),
}


@pytest.mark.parametrize(("kind", "spec", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_each_fault_is_found_at_its_field(
    kind: str, spec: dict[str, Any], found: objects.Found
) -> None:
    """Every fault of an object is told, at its field, with its code, and no other."""
    assert objects.find_faults(kind, spec) == found


def test_a_gateway_has_a_name_without_dots() -> None:
    """VirtualServices name gateways, and take a dot for the old FQDN form."""
    metadata = {"name": "a.b", "namespace": "shop"}
    found = objects.find_faults("Gateway", server(), metadata=metadata)
    assert found == {("metadata.name", "invalid-name")}
