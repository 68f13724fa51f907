"""Gateway (networking.istio.io): what the gateway proxies that a selector names listen to.

Sources: istio.io/api networking/v1alpha3/gateway.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import message, names, rules, traffic, traffic_rules, workload

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class Server(message.Message):
    """One port with the hosts that it exposes."""

    port: workload.Port | None = None
    bind: str = ""
    hosts: message.Listed[str] = ()
    tls: traffic.ServerTls | None = None
    default_endpoint: str = ""
    name: str = ""


class Gateway(message.Message):
    """The spec of a Gateway."""

    servers: message.Listed[Server] = ()
    selector: message.StringMap = message.EMPTY


SPEC = Gateway


def check(spec: Gateway, metadata: envelope.Metadata, found: faults.Faults) -> None:
    """There are servers, with ports of distinct names, hosts, and TLS where the protocol has it."""
    if not names.is_label(metadata.name):
        message = f"must be letters, digits and dashes without dots, not {metadata.name!r}"
        found.add(("metadata", "name"), "invalid-name", message)
    if not spec.servers:
        found.add(
            ("spec", "servers"),
            "missing-field",
            "is required; give the gateway at least one server",
        )
    port_names: set[str] = set()
    for index, server in enumerate(spec.servers):
        at = ("spec", "servers", index)
        _check_server(server, at, found)
        if server.port is not None:
            if server.port.name in port_names:
                message = (
                    f"repeats the port name {server.port.name!r}; names must differ between servers"
                )
                found.add((*at, "port", "name"), "duplicate", message)
            port_names.add(server.port.name)


def _check_server(server: Server, at: faults.Path, found: faults.Faults) -> None:
    if not server.hosts:
        found.add((*at, "hosts"), "missing-field", 'is required; write ["*"] for all hosts')
    for index, host in enumerate(server.hosts):
        rules.check_host_with_namespace(host, (*at, "hosts", index), found, is_gateway=True)
    is_socket = server.bind.startswith(names.UNIX_PREFIX)
    if is_socket:
        rules.check_unix_path(server.bind, (*at, "bind"), found)
    elif server.bind:
        rules.check_address(server.bind, (*at, "bind"), found)
    if server.tls is not None:
        traffic_rules.check_server_tls(server.tls, (*at, "tls"), found)
    if server.port is None:
        found.add((*at, "port"), "missing-field", "is required; write number, protocol and name")
        return
    _check_server_port(server.port, (*at, "port"), found, is_socket=is_socket)
    _check_tls_fits(server, server.port.protocol.lower(), at, found)


def _check_server_port(
    port: workload.Port, at: faults.Path, found: faults.Faults, *, is_socket: bool
) -> None:
    rules.check_protocol(port.protocol, (*at, "protocol"), found, is_required=True)
    if is_socket:
        if port.number:
            found.add((*at, "number"), "conflict", "must be 0 for a Unix domain socket")
    else:
        rules.check_port(port.number, (*at, "number"), found)
    if port.target_port:
        found.add((*at, "targetPort"), "unsupported-field", "has no effect on gateways; remove it")
    if not port.name:
        found.add((*at, "name"), "missing-field", "is required; name the port, such as http-web")


def _check_tls_fits(server: Server, protocol: str, at: faults.Path, found: faults.Faults) -> None:
    """TLS settings belong to TLS protocols; HTTP takes the redirect to HTTPS alone."""
    tls = server.tls
    if protocol in names.TLS_PROTOCOLS:
        if tls is None:
            found.add(
                (*at, "tls"), "missing-field", f"is required for the protocol {protocol.upper()}"
            )
        return
    if tls is None or protocol not in names.PROTOCOLS:
        return
    is_redirect_only = (
        protocol in names.HTTP_PROTOCOLS
        and tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
        and not (tls.ca_certificates or tls.private_key or tls.server_certificate)
    )
    if not is_redirect_only:
        message = f"must be left out for {protocol.upper()}, save httpsRedirect for HTTP; or use HTTPS or TLS"
        found.add((*at, "tls"), "conflict", message)
