"""What an Envoy must be told to start with: who it is, and where its control plane listens (pure)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

CLUSTER: Final = "xds-grpc"
"""The name of the static cluster of the control plane; Istio's, so that its tools find it."""
LOCAL_CLUSTER: Final = "local_cluster"
"""The name of the static cluster of a proxy's own kind, by which Envoy knows how its zones are peopled."""
PROXY_TYPES: Final = ("sidecar", "router")
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECTION_MONITOR: Final = "envoy.resource_monitors.global_downstream_max_connections"
_CONNECTION_LIMIT: Final = (
    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
)
_N_CONNECTIONS: Final = 100_000
# Envoy's own limit of 100 refuses as little as [0-9a-f]{64}; this one is that of Istio's bootstrap.
_REGEX_PROGRAM_SIZE: Final = 32_768


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """Who a proxy is; with an `id` the parts of an id are not needed.

    Attributes:
        proxy_type: `sidecar` or `router`.
        ip: The workload's address; several are joined by commas, the first is the one in the id.
        metadata: Further fields of the node's metadata; they win over those made here.
    """

    id: str = ""
    proxy_type: str = "sidecar"
    ip: str = ""
    pod: str = ""
    namespace: str = ""
    cluster: str = ""
    cluster_id: str = "Kubernetes"
    service_account: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    has_redirect: bool = True
    domain_suffix: str = "cluster.local"
    locality: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A bootstrap to make.

    Attributes:
        discovery: Where navarch serves ADS.
        admin: Where Envoy's own admin page is served.
        is_delta: Incremental xDS rather than the state of the world.
    """

    node: Node
    discovery: settings.Address
    admin: settings.Address
    is_delta: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class _Identity:
    proxy_type: str
    ip: str
    pod: str
    namespace: str
    id: str


def build_bootstrap(plan: Plan) -> dict[str, Any]:
    """Return a bootstrap as protobuf JSON.

    Raises:
        errors.SettingsError: The node's id is malformed, or parts of it are missing.
    """
    ads = {
        "api_type": "DELTA_GRPC" if plan.is_delta else "GRPC",
        "transport_api_version": "V3",
        # Each node of Envoy's is known from the stream's first request on.
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": CLUSTER}}],
    }
    source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    local = _local_cluster() if _has_self_discovery(plan.node) else None
    made = {
        "node": build_node(plan.node),
        "admin": {"address": _socket_address(plan.admin)},
        "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        "static_resources": {
            "clusters": [_control_plane(plan.discovery), *([local] if local else [])]
        },
        "overload_manager": {"resource_monitors": [_connection_monitor()]},
        "layered_runtime": {
            "layers": [
                {
                    "name": "navarch",
                    "static_layer": {"re2.max_program_size.error_level": _REGEX_PROGRAM_SIZE},
                }
            ]
        },
    }
    if local:
        made["cluster_manager"] = {"local_cluster_name": LOCAL_CLUSTER}
    return made


def build_node(node: Node) -> dict[str, Any]:
    """Return the node with the metadata that navarch reads.

    Raises:
        errors.SettingsError: The node's id is malformed, or parts of it are missing.
    """
    who = _identify(node)
    metadata: dict[str, Any] = {
        "NAMESPACE": who.namespace,
        "CLUSTER_ID": node.cluster_id,
        "INSTANCE_IPS": node.ip or who.ip,
        "NAME": who.pod,
        "LABELS": dict(sorted(node.labels.items())),
        "INTERCEPTION_MODE": "REDIRECT" if node.has_redirect else "NONE",
    }
    if node.service_account:
        metadata["SERVICE_ACCOUNT"] = node.service_account
    app = node.labels.get("app") or who.pod
    made: dict[str, Any] = {
        "id": who.id,
        "cluster": node.cluster or f"{app}.{who.namespace}",
        "metadata": metadata | dict(node.metadata),
    }
    if node.locality:
        made["locality"] = dict(node.locality)
    return made


def _identify(node: Node) -> _Identity:
    if node.id:
        parts = node.id.split("~")
        pod, dot, namespace = parts[2].rpartition(".") if len(parts) == 4 else ("", "", "")  # noqa: PLR2004
        if not dot or parts[0] not in PROXY_TYPES:
            shape = "TYPE~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN with TYPE sidecar or router"
            raise errors.SettingsError(f"--node-id {node.id!r} must be {shape}")
        return _Identity(parts[0], parts[1], pod, namespace, node.id)
    missing = [
        flag
        for flag, value in (("--ip", node.ip), ("--pod", node.pod), ("--namespace", node.namespace))
        if not value
    ]
    if missing:
        raise errors.SettingsError(f"give --node-id, or {', '.join(missing)} too")
    ip = node.ip.split(",")[0]
    domain = f"{node.namespace}.svc.{node.domain_suffix}"
    made = f"{node.proxy_type}~{ip}~{node.pod}.{node.namespace}~{domain}"
    return _Identity(node.proxy_type, ip, node.pod, node.namespace, made)


def _control_plane(address: settings.Address) -> dict[str, Any]:
    """Return the one static cluster: HTTP/2 with keepalive, found by DNS where it is no address."""
    is_address = ":" in address.host or address.host.replace(".", "").isdecimal()
    endpoint = {"endpoint": {"address": _socket_address(address)}}
    protocol = {
        "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
        "explicit_http_config": {
            # A control plane that is gone without a word is noticed within 40 s.
            "http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            }
        },
    }
    # One control plane that is away must not be shut out by a circuit breaker when it is back.
    threshold = {
        "max_connections": _N_CONNECTIONS,
        "max_pending_requests": _N_CONNECTIONS,
        "max_requests": _N_CONNECTIONS,
    }
    return {
        "name": CLUSTER,
        "type": "STATIC" if is_address else "STRICT_DNS",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                {"priority": "DEFAULT"} | threshold,
                {"priority": "HIGH"} | threshold,
            ]
        },
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 300, "keepalive_interval": 30}
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _connection_monitor() -> dict[str, Any]:
    """Return the limit of all listeners' connections together, which Envoy asks every edge proxy to have."""
    limit = {"max_active_downstream_connections": _N_CONNECTIONS}
    config = {"@type": f"type.googleapis.com/{_CONNECTION_LIMIT}", **limit}
    return {"name": _CONNECTION_MONITOR, "typed_config": config}


def _has_self_discovery(node: Node) -> bool:
    told = node.metadata.get("ENABLE_SELF_DISCOVERY", False)
    return node.proxy_type == "sidecar" and str(told).lower() in {"true", "1"}


def _local_cluster() -> dict[str, Any]:
    """Return the cluster of the proxy's own workload: zone-aware balancing wants it, nothing connects to it."""
    source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {
        "name": LOCAL_CLUSTER,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": source},
        "connect_timeout": "1s",
    }


def _socket_address(address: settings.Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}
