"""ServiceEntry, WorkloadEntry, WorkloadGroup: what is taken, and what is refused at which field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.crds import objects

HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
TCP = {"number": 9000, "name": "tcp", "protocol": "TCP"}


def entry(**parts: Any) -> dict[str, Any]:
    base = {"hosts": ["a.com"], "ports": [HTTP], "resolution": "DNS"}
    return objects.with_parts(base, **parts)


TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "DNS": ("ServiceEntry", entry()),
    "no resolution": ("ServiceEntry", {"hosts": ["*.a.com"], "ports": [TCP]}),
    "several hosts over HTTP": ("ServiceEntry", entry(hosts=["a.com", "b.com"])),
    "static": (
        "ServiceEntry",
        entry(
            resolution="STATIC",
            addresses=["10.1.0.0/16"],
            endpoints=[{"address": "10.0.0.1", "ports": {"http": 8080}, "weight": 2}],
        ),
    ),
    "socket": (
        "ServiceEntry",
        entry(resolution="STATIC", endpoints=[{"address": "unix:///var/run/x.sock"}]),
    ),
    "selector": (
        "ServiceEntry",
        entry(resolution="STATIC", workloadSelector={"labels": {"app": "x"}}, exportTo=["~"]),
    ),
    "any domain": ("ServiceEntry", entry(hosts=["*.a.com"], resolution="DYNAMIC_DNS")),
    "workload": ("WorkloadEntry", {"address": "vm.a.com", "labels": {"app": "x"}, "network": "n"}),
    "workload behind a gateway": ("WorkloadEntry", {"network": "n"}),
    "group": (
        "WorkloadGroup",
        {
            "metadata": {"labels": {"app": "x"}},
            "template": {"serviceAccount": "sa"},
            "probe": {"httpGet": {"port": 8080, "path": "/", "scheme": "HTTPS"}},
        },
    ),
}


@pytest.mark.parametrize(("kind", "spec"), TAKEN.values(), ids=TAKEN.keys())
def test_right_objects_are_taken(kind: str, spec: dict[str, Any]) -> None:
    """An object that Istio's admission takes has no faults."""
    assert objects.find_faults(kind, spec) == set()


REFUSED: dict[str, tuple[str, dict[str, Any], objects.Found]] = {
    "no hosts": ("ServiceEntry", entry(hosts=None), {("spec.hosts", "missing-field")}),
    "hosts": (
        "ServiceEntry",
        entry(hosts=["*", "*.a.com", "a..b"]),
        {
            ("spec.hosts[0]", "invalid-host"),
            ("spec.hosts[1]", "invalid-host"),
            ("spec.hosts[2]", "invalid-host"),
        },
    ),
    "addresses": (
        "ServiceEntry",
        entry(addresses=["10.0.0.0/8", "x"]),
        {("spec.addresses[0]", "conflict"), ("spec.addresses[1]", "invalid-address")},
    ),
    "ports": (
        "ServiceEntry",
        entry(ports=[HTTP, {**HTTP, "protocol": "SMTP"}, {"number": 0, "targetPort": 70000}]),
        {
            ("spec.ports[1].name", "duplicate"),
            ("spec.ports[1].number", "duplicate"),
            ("spec.ports[1].protocol", "invalid-protocol"),
            ("spec.ports[2].name", "missing-field"),
            ("spec.ports[2].number", "invalid-port"),
            ("spec.ports[2].targetPort", "invalid-port"),
        },
    ),
    "several hosts over TCP": (
        "ServiceEntry",
        entry(hosts=["a.com", "b.com"], ports=[TCP]),
        {("spec.ports[0].protocol", "conflict")},
    ),
    "selector and endpoints": (
        "ServiceEntry",
        entry(
            resolution="STATIC",
            workloadSelector={"labels": {"a": "*"}},
            endpoints=[{"address": "10.0.0.1"}],
        ),
        {("spec.endpoints", "conflict"), ("spec.workloadSelector.labels.a", "invalid-label")},
    ),
    "endpoints without resolution": (
        "ServiceEntry",
        entry(resolution="NONE", endpoints=[{"address": "10.0.0.1"}]),
        {("spec.endpoints", "conflict")},
    ),
    "two endpoints for one": (
        "ServiceEntry",
        entry(resolution="DNS_ROUND_ROBIN", endpoints=[{"address": "a.b"}, {"address": "c.d"}]),
        {("spec.endpoints", "conflict")},
    ),
    "static endpoints": (
        "ServiceEntry",
        entry(
            resolution="STATIC",
            ports=[HTTP, TCP],
            endpoints=[{"address": "a.com", "ports": {"grpc": 1}}, {"address": "unix://x"}, {}],
        ),
        {
            ("spec.endpoints[0].address", "invalid-address"),
            ("spec.endpoints[0].ports.grpc", "unknown-value"),
            ("spec.endpoints[1].address", "invalid-address"),
            ("spec.endpoints[1].address", "conflict"),
            ("spec.endpoints[2].address", "missing-field"),
        },
    ),
    "export to nobody and all": (
        "ServiceEntry",
        entry(exportTo=["~", "*"]),
        {("spec.exportTo", "conflict")},
    ),
    "unknown resolution": (
        "ServiceEntry",
        entry(resolution="GUESS"),
        {("spec.resolution", "unknown-value")},
    ),
    "workload without address": ("WorkloadEntry", {}, {("spec.address", "missing-field")}),
    "workload": (
        "WorkloadEntry",
        {"address": "a b", "ports": {"x_y": 0}, "labels": {"a/b/c": "x"}, "weight": -1},
        {("spec.weight", "out-of-range"), ("spec.address", "invalid-address")}
        | {
            ("spec.ports.x_y", "invalid-name"),
            ("spec.ports.x_y", "invalid-port"),
            ("spec.labels[a/b/c]", "invalid-label"),
        },
    ),
    "group": (
        "WorkloadGroup",
        {"probe": {"periodSeconds": -1, "httpGet": {"scheme": "FTP"}, "exec": {}}},
        {
            ("spec.template", "missing-field"),
            ("spec.probe", "conflict"),
            ("spec.probe.periodSeconds", "out-of-range"),
            ("spec.probe.httpGet.port", "invalid-port"),
            ("spec.probe.httpGet.scheme", "unknown-value"),
            ("spec.probe.exec.command", "missing-field"),
        },
    ),
}


@pytest.mark.parametrize(("kind", "spec", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_each_fault_is_found_at_its_field(
    kind: str, spec: dict[str, Any], found: objects.Found
) -> None:
    """Every fault of an object is told, at its field, with its code, and no other."""
    assert objects.find_faults(kind, spec) == found


def test_status_is_read_where_the_mesh_uses_it() -> None:
    """Of a status only what is read is handed on, so that the rest can't change the bytes."""
    payload = objects.read_payload(
        "ServiceEntry",
        entry(),
        status={"addresses": [{"value": "240.240.0.1", "host": "a.com", "x": 1}], "y": 2},
    )
    assert payload["status"] == {"addresses": [{"value": "240.240.0.1", "host": "a.com"}]}
    payload = objects.read_payload(
        "WorkloadEntry",
        {"address": "10.0.0.1"},
        status={"conditions": [{"type": "Healthy", "status": "True", "lastProbeTime": "x"}]},
    )
    assert payload["status"] == {"conditions": [{"type": "Healthy", "status": "True"}]}
    assert "status" not in objects.read_payload("Gateway", GATEWAY, status=["anything"])


GATEWAY = {"servers": [{"port": HTTP, "hosts": ["*"]}]}
