"""EnvoyFilter (networking.istio.io): patches to what proxies get.

Sources: istio.io/api networking/v1alpha3/envoy_filter.proto; Istio's pkg/config/validation/envoyfilter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from navarch.crds.schema import matching, message, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class ProxyMatch(message.Message):
    """Which proxies, by version and metadata of their nodes."""

    proxy_version: str = ""
    metadata: message.StringMap = message.EMPTY


class SubFilter(message.Message):
    """A filter within a filter, such as an HTTP filter."""

    name: str = ""


class FilterMatch(message.Message):
    """A filter, and one within it."""

    name: str = ""
    sub_filter: SubFilter | None = None


class FilterChainMatch(message.Message):
    """Which filter chains."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    transport_socket: Any = None
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: message.UInt32 = 0


class ListenerMatch(message.Message):
    """Which listeners, and what in them."""

    port_number: message.UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class RouteMatch(message.Message):
    """Which routes."""

    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class VirtualHostMatch(message.Message):
    """Which virtual hosts, and which routes in them."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(message.Message):
    """Which route configurations, and what in them."""

    port_number: message.UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class ClusterMatch(message.Message):
    """Which clusters."""

    port_number: message.UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class WaypointMatch(message.Message):
    """What of a waypoint (no effect in today's Istio)."""

    port_number: message.UInt32 = 0
    filter: FilterMatch | None = None
    route: SubFilter | None = None


class ObjectMatch(message.Message):
    """Where the patch applies; at most one kind of object."""

    context: Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"] = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class Patch(message.Message):
    """What is done, and with which value."""

    operation: Literal[
        "INVALID",
        "MERGE",
        "ADD",
        "REMOVE",
        "INSERT_BEFORE",
        "INSERT_AFTER",
        "INSERT_FIRST",
        "REPLACE",
        "MERGE_AND_REPLACE_LIST",
    ] = "INVALID"
    value: message.FreeForm | None = None
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"


class ConfigPatch(message.Message):
    """One patch."""

    apply_to: Literal[
        "INVALID",
        "LISTENER",
        "FILTER_CHAIN",
        "NETWORK_FILTER",
        "HTTP_FILTER",
        "ROUTE_CONFIGURATION",
        "VIRTUAL_HOST",
        "HTTP_ROUTE",
        "CLUSTER",
        "EXTENSION_CONFIG",
        "BOOTSTRAP",
        "LISTENER_FILTER",
    ] = "INVALID"
    match: ObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilter(message.Message):
    """The spec of an EnvoyFilter."""

    workload_selector: matching.LabelSelector | None = None
    target_refs: message.Listed[matching.PolicyTargetReference] = ()
    config_patches: message.Listed[ConfigPatch] = ()
    priority: message.Int32 = 0


SPEC = EnvoyFilter

_LISTENER_PARTS = frozenset(
    {"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"}
)
_ROUTE_PARTS = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_MATCH_OF = (
    dict.fromkeys(_LISTENER_PARTS, "listener")
    | dict.fromkeys(_ROUTE_PARTS, "routeConfiguration")
    | {"CLUSTER": "cluster"}
)


def check(spec: EnvoyFilter, _: envelope.Metadata, found: faults.Faults) -> None:
    """It is attached in one way; each patch says what it does to what."""
    selector = spec.workload_selector
    if selector is not None:
        at = ("spec", "workloadSelector", "labels")
        rules.check_selector_labels(selector.labels, at, found)
    attachments = {"workloadSelector": selector, "targetRefs": spec.target_refs or None}
    rules.check_one_of(attachments, ("spec",), found)
    for index, patch in enumerate(spec.config_patches):
        _check_patch(patch, ("spec", "configPatches", index), found)


def _check_patch(config: ConfigPatch, at: faults.Path, found: faults.Faults) -> None:
    if config.apply_to == "INVALID":
        found.add((*at, "applyTo"), "missing-field", "is required; say what is patched")
    patch = config.patch
    if patch is None or patch.operation == "INVALID":
        found.add((*at, "patch", "operation"), "missing-field", "is required; say what is done")
    elif patch.value is None and patch.operation != "REMOVE":
        message = f"is required for {patch.operation}; only REMOVE needs none"
        found.add((*at, "patch", "value"), "missing-field", message)
    if config.match is None:
        return
    objects = {
        "listener": config.match.listener,
        "routeConfiguration": config.match.route_configuration,
        "cluster": config.match.cluster,
        "waypoint": config.match.waypoint,
    }
    rules.check_one_of(objects, (*at, "match"), found)
    wanted = _MATCH_OF.get(config.apply_to)
    for name, value in objects.items():
        if value is not None and wanted is not None and name not in (wanted, "waypoint"):
            message = f"must be left out: a patch of {config.apply_to} matches by {wanted}"
            found.add((*at, "match", name), "conflict", message)
    proxy = config.match.proxy
    if proxy is not None and proxy.proxy_version:
        rules.check_regex(proxy.proxy_version, (*at, "match", "proxy", "proxyVersion"), found)
