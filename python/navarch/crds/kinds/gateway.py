"""Gateway (networking.istio.io): what the gateway proxies that a selector names listen to.

Sources: istio.io/api networking/v1alpha3/gateway.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from navarch.crds.schema import message, traffic, workload


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
