"""Sidecar (networking.istio.io): what a workload's proxy may see, and how it takes inbound traffic.

Sources: istio.io/api networking/v1alpha3/sidecar.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from navarch.crds.schema import matching, message, names, rules, traffic, traffic_rules, workload

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class IngressListener(message.Message):
    """One inbound port of the workload."""

    port: workload.Port | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: traffic.ServerTls | None = None
    connection_pool: traffic.ConnectionPool | None = None


class EgressListener(message.Message):
    """The services that the workload may reach, on one port or on all."""

    port: workload.Port | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    hosts: message.Listed[str] = ()


class OutboundTrafficPolicy(message.Message):
    """What becomes of traffic to unknown destinations."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    egress_proxy: matching.Destination | None = None


class Sidecar(message.Message):
    """The spec of a Sidecar."""

    workload_selector: matching.LabelSelector | None = None
    ingress: message.Listed[IngressListener] = ()
    egress: message.Listed[EgressListener] = ()
    inbound_connection_pool: traffic.ConnectionPool | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


SPEC = Sidecar


_LOCAL_HOSTS = frozenset({"", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"})  # noqa: S104 - names what users may write


def check(spec: Sidecar, _: envelope.Metadata, found: faults.Faults) -> None:
    """It says something; its listeners have distinct ports; hosts are namespace/host."""
    if spec.workload_selector is not None:
        place = ("spec", "workloadSelector", "labels")
        rules.check_selector_labels(spec.workload_selector.labels, place, found)
    if not (
        spec.egress or spec.ingress or spec.outbound_traffic_policy or spec.inbound_connection_pool
    ):
        message = (
            "says nothing; give it egress, ingress, outboundTrafficPolicy or inboundConnectionPool"
        )
        found.add(("spec",), "missing-field", message)
    ports: set[int] = set()
    for index, ingress in enumerate(spec.ingress):
        _check_ingress(ingress, ("spec", "ingress", index), found)
        if ingress.port is not None:
            _check_distinct(
                ingress.port.number, ports, ("spec", "ingress", index, "port", "number"), found
            )
    if spec.inbound_connection_pool is not None:
        traffic_rules.check_connection_pool(
            spec.inbound_connection_pool, ("spec", "inboundConnectionPool"), found
        )
    _check_all_egress(spec.egress, found)
    if spec.outbound_traffic_policy is not None:
        _check_outbound(spec.outbound_traffic_policy, ("spec", "outboundTrafficPolicy"), found)


def _check_distinct(number: int, seen: set[int], at: faults.Path, found: faults.Faults) -> None:
    if number in seen:
        found.add(at, "duplicate", f"repeats the port {number}; listeners must have distinct ports")
    seen.add(number)


def _check_ingress(listener: IngressListener, at: faults.Path, found: faults.Faults) -> None:
    if listener.port is None:
        found.add((*at, "port"), "missing-field", "is required; write number, protocol and name")
    else:
        _check_port(listener.port, (*at, "port"), found)
        rules.check_port(listener.port.number, (*at, "port", "number"), found)
    if listener.bind:
        rules.check_address(listener.bind, (*at, "bind"), found)
    if listener.default_endpoint:
        _check_default_endpoint(listener.default_endpoint, (*at, "defaultEndpoint"), found)
    if listener.tls is not None:
        _check_ingress_tls(listener.tls, (*at, "tls"), found)
    if listener.connection_pool is not None:
        traffic_rules.check_connection_pool(
            listener.connection_pool, (*at, "connectionPool"), found
        )


def _check_port(port: workload.Port, at: faults.Path, found: faults.Faults) -> None:
    if port.name:
        rules.check_port_name(port.name, (*at, "name"), found)
    rules.check_protocol(port.protocol, (*at, "protocol"), found)
    if port.target_port:
        found.add((*at, "targetPort"), "unsupported-field", "has no effect on sidecars; remove it")


def _check_default_endpoint(endpoint: str, at: faults.Path, found: faults.Faults) -> None:
    if endpoint.startswith(names.UNIX_PREFIX):
        rules.check_unix_path(endpoint, at, found)
        return
    host, colon, port = endpoint.rpartition(":")
    if not colon or host not in _LOCAL_HOSTS:
        message = "must be 127.0.0.1:port, 0.0.0.0:port, [::1]:port, [::]:port or unix:///path"
        found.add(at, "invalid-address", message)
    elif not (port.isascii() and port.isdigit()) or not 1 <= int(port[:6]) <= names.MAX_PORT:
        found.add(
            at, "invalid-port", f"must end in a port from 1 to {names.MAX_PORT}, not {port!r}"
        )


def _check_ingress_tls(tls: traffic.ServerTls, at: faults.Path, found: faults.Faults) -> None:
    for name, value in (
        ("subjectAltNames", tls.subject_alt_names),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", tls.credential_name),
    ):
        if value:
            found.add((*at, name), "unsupported-field", "must be left out: sidecars don't know it")
    if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        found.add(
            (*at, "mode"),
            "unknown-value",
            f"must not be {tls.mode} on a sidecar; use SIMPLE or MUTUAL",
        )
    traffic_rules.check_server_tls(tls, at, found)


def _check_all_egress(listeners: tuple[EgressListener, ...], found: faults.Faults) -> None:
    ports: set[int] = set()
    sockets: set[str] = set()
    for index, listener in enumerate(listeners):
        at = ("spec", "egress", index)
        if not listener.hosts:
            found.add(
                (*at, "hosts"), "missing-field", 'is required; write ["*/*"] for all services'
            )
        for host_index, host in enumerate(listener.hosts):
            rules.check_host_with_namespace(
                host, (*at, "hosts", host_index), found, is_gateway=False
            )
        if listener.port is None:
            if index != len(listeners) - 1:
                message = "is required, save for the last listener, which takes all other ports"
                found.add((*at, "port"), "missing-field", message)
            continue
        _check_egress_port(listener, listener.port, at, found)
        if listener.port.number:
            _check_distinct(listener.port.number, ports, (*at, "port", "number"), found)
            continue
        if listener.bind in sockets:
            found.add((*at, "bind"), "duplicate", f"repeats the socket {listener.bind!r}")
        sockets.add(listener.bind)


def _check_egress_port(
    listener: EgressListener, port: workload.Port, at: faults.Path, found: faults.Faults
) -> None:
    _check_port(port, (*at, "port"), found)
    if port.number:
        rules.check_port(port.number, (*at, "port", "number"), found)
        if listener.bind:
            rules.check_address(listener.bind, (*at, "bind"), found)
        return
    if not listener.bind.startswith(names.UNIX_PREFIX):
        message = "must be unix:///path where the port number is 0; or set a port number"
        found.add((*at, "bind"), "invalid-address", message)
    else:
        rules.check_unix_path(listener.bind, (*at, "bind"), found)
    if listener.capture_mode == "IPTABLES":
        message = "must be DEFAULT or NONE for a Unix domain socket, which iptables can't capture"
        found.add((*at, "captureMode"), "conflict", message)


def _check_outbound(policy: OutboundTrafficPolicy, at: faults.Path, found: faults.Faults) -> None:
    if policy.mode == "ALLOW_ANY_DYNAMIC_DNS":
        message = (
            "must be REGISTRY_ONLY or ALLOW_ANY; ALLOW_ANY_DYNAMIC_DNS is for the whole mesh only"
        )
        found.add((*at, "mode"), "unknown-value", message)
    proxy = policy.egress_proxy
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        message = f"needs the mode ALLOW_ANY, not {policy.mode}"
        found.add((*at, "egressProxy"), "conflict", message)
        return
    if "*" in proxy.host:
        found.add(
            (*at, "egressProxy", "host"), "invalid-host", "must name one service, without wildcard"
        )
        return
    if proxy.port is None:
        found.add(
            (*at, "egressProxy", "port"), "missing-field", "is required; write port: {number: …}"
        )
    rules.check_destination(proxy, (*at, "egressProxy"), found)
