"""MeshConfig and MeshNetworks: defaults, merging, and what is refused at which field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from navarch import errors
from navarch.crds import mesh_config, mesh_networks
from tests.unit.crds import objects


def read(body: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(mesh_config.read_mesh_config(body, objects.ORIGIN))
    return value


def test_an_empty_file_gives_istios_defaults() -> None:
    """The core gets every default that shapes a proxy's configuration."""
    value = read(None)
    assert value == read({})
    told = {
        "proxyListenPort": 15001,
        "proxyInboundListenPort": 15006,
        "proxyHttpPort": 0,
        "connectTimeout": "10s",
        "protocolDetectionTimeout": "0s",
        "ingressControllerMode": "STRICT",
        "enableTracing": True,
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
        "inboundTrafficPolicy": {"mode": "PASSTHROUGH"},
        "enableAutoMtls": True,
        "trustDomain": "cluster.local",
        "defaultServiceExportTo": ["*"],
        "rootNamespace": "istio-system",
        "localityLbSetting": {"enabled": True},
        "dnsRefreshRate": "60s",
        "h2UpgradePolicy": "DO_NOT_UPGRADE",
        "pathNormalization": {"normalization": "DEFAULT"},
    }
    assert {name: value[name] for name in told} == told
    assert [provider["name"] for provider in value["extensionProviders"]] == [
        "prometheus",
        "stackdriver",
        "envoy",
    ]
    assert value["defaultConfig"]["statusPort"] == 15020
    assert value["defaultConfig"]["serviceCluster"] == "istio-proxy"


def test_a_given_field_replaces_its_default_whole() -> None:
    """A message that is given does not inherit fields of its default, as in Istio."""
    value = read({"outboundTrafficPolicy": {}, "localityLbSetting": {"failoverPriority": ["a"]}})
    assert value["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    assert value["localityLbSetting"] == {"failoverPriority": ["a"]}


def test_zero_values_override_defaults() -> None:
    """False and empty lists are values, where the default is another."""
    value = read({"enableTracing": False, "enableAutoMtls": False, "defaultServiceExportTo": []})
    assert value["enableTracing"] is False
    assert value["enableAutoMtls"] is False
    assert value["defaultServiceExportTo"] == []


def test_default_config_is_merged_field_by_field() -> None:
    """Only what is given of defaultConfig changes."""
    proxy = read({"defaultConfig": {"meshId": "m", "tracingServiceName": "CANONICAL_NAME_ONLY"}})[
        "defaultConfig"
    ]
    assert proxy["meshId"] == "m"
    assert proxy["statusPort"] == 15020
    assert "serviceCluster" not in proxy


def test_providers_are_merged_by_name() -> None:
    """A provider replaces the predefined one of its name, in its place."""
    value = read(
        {
            "extensionProviders": [
                {"name": "mine", "zipkin": {"service": "z", "port": 9411}},
                {"name": "envoy", "envoyFileAccessLog": {"path": "/x"}},
            ]
        }
    )
    assert value["extensionProviders"] == [
        {"name": "prometheus", "prometheus": {}},
        {"name": "stackdriver", "stackdriver": {}},
        {"name": "envoy", "envoyFileAccessLog": {"path": "/x"}},
        {"name": "mine", "zipkin": {"service": "z", "port": 9411}},
    ]


def test_reading_again_gives_the_same_bytes() -> None:
    """The canonical form is a fixed point."""
    first = mesh_config.read_mesh_config({"trustDomainAliases": ["b", "a"], "dnsRefreshRate": "1m"})
    assert mesh_config.read_mesh_config(json.loads(first)) == first


REFUSED: dict[str, tuple[Any, objects.Found]] = {
    "no object": ([], {("", "wrong-type")}),
    "unknown fields": (
        {"proxyListenPorts": 1, "defaultConfig": {"x": 1}},
        {("proxyListenPorts", "unknown-field"), ("defaultConfig.x", "unknown-field")},
    ),
    "wrong types": (
        {"enableTracing": "yes", "connectTimeout": 5, "outboundTrafficPolicy": {"mode": "ANY"}},
        {
            ("enableTracing", "wrong-type"),
            ("connectTimeout", "wrong-type"),
            ("outboundTrafficPolicy.mode", "unknown-value"),
        },
    ),
    "values": (
        {
            "proxyListenPort": 0,
            "connectTimeout": "2h",
            "protocolDetectionTimeout": "-1s",
            "trustDomain": "",
            "trustDomainAliases": ["a b"],
            "serviceSettings": [{"hosts": ["a_"]}],
            "meshMTLS": {"ecdhCurves": ["X25519"]},
            "defaultHttpRetryPolicy": {"attempts": -1},
            "defaultTrafficPolicy": {"connectionPool": {}},
        },
        {
            ("proxyListenPort", "invalid-port"),
            ("connectTimeout", "out-of-range"),
            ("protocolDetectionTimeout", "out-of-range"),
            ("trustDomain", "invalid-host"),
            ("trustDomainAliases[0]", "invalid-host"),
            ("serviceSettings[0].hosts[0]", "invalid-host"),
            ("meshMTLS.ecdhCurves", "unsupported-field"),
            ("defaultHttpRetryPolicy.attempts", "out-of-range"),
            ("defaultTrafficPolicy.connectionPool", "missing-field"),
        },
    ),
    "providers": (
        {
            "extensionProviders": [
                {"prometheus": {}},
                {"name": "a"},
                {"name": "a", "sds": {}, "prometheus": {}},
            ]
        },
        {
            ("extensionProviders[0].name", "missing-field"),
            ("extensionProviders[1]", "conflict"),
            ("extensionProviders[2].name", "duplicate"),
            ("extensionProviders[2]", "conflict"),
        },
    ),
    "proxies": (
        {
            "defaultConfig": {
                "discoveryAddress": "",
                "statusPort": 0,
                "concurrency": -1,
                "drainDuration": "1500ms",
                "serviceCluster": "a",
                "tracingServiceName": "CANONICAL_NAME_ONLY",
                "privateKeyProvider": {},
                "tracing": {"zipkin": {}, "datadog": {}, "sampling": 101, "customTags": {"a": {}}},
            }
        },
        {
            ("defaultConfig.discoveryAddress", "missing-field"),
            ("defaultConfig.statusPort", "invalid-port"),
            ("defaultConfig.concurrency", "out-of-range"),
            ("defaultConfig.drainDuration", "invalid-duration"),
            ("defaultConfig", "conflict"),
            ("defaultConfig.privateKeyProvider", "missing-field"),
            ("defaultConfig.tracing", "conflict"),
            ("defaultConfig.tracing.sampling", "out-of-range"),
            ("defaultConfig.tracing.customTags.a", "missing-field"),
        },
    ),
}


@pytest.mark.parametrize(("body", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_each_fault_is_found_at_its_field(body: Any, found: objects.Found) -> None:
    """Every fault of the settings is told, at its field, with its code, and no other."""
    with pytest.raises(errors.CrdError) as caught:
        read(body)
    assert objects.pairs(caught.value) == found


def test_networks_are_read() -> None:
    """Networks are taken as they are given."""
    body = {
        "networks": {
            "n1": {
                "endpoints": [{"fromCidr": "10.0.0.0/8"}, {"fromRegistry": "c1"}],
                "gateways": [{"address": "1.2.3.4", "port": 15443}],
            }
        }
    }
    assert json.loads(mesh_networks.read_mesh_networks(body)) == body
    assert mesh_networks.read_mesh_networks(None) == b"{}"


def test_faults_of_networks_are_found() -> None:
    """Each endpoint and each gateway is one thing, well formed."""
    network = {"endpoints": [{}, {"fromCidr": "x"}], "gateways": [{"address": "a_", "port": 0}]}
    with pytest.raises(errors.CrdError) as caught:
        mesh_networks.read_mesh_networks({"networks": {"n": network}})
    assert objects.pairs(caught.value) == {
        ("networks.n.endpoints[0]", "missing-field"),
        ("networks.n.endpoints[1].fromCidr", "invalid-address"),
        ("networks.n.gateways[0].address", "invalid-host"),
        ("networks.n.gateways[0].port", "invalid-port"),
    }
