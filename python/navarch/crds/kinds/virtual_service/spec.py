"""The spec of a VirtualService.

Source: istio.io/api networking/v1alpha3/virtual_service.proto.
"""

from __future__ import annotations

from typing import Literal

from navarch.crds.schema import matching, message, traffic


class HttpMatch(message.Message):
    """All conditions of one match must hold."""

    name: str = ""
    uri: matching.StringMatch | None = None
    scheme: matching.StringMatch | None = None
    method: matching.StringMatch | None = None
    authority: matching.StringMatch | None = None
    headers: dict[str, matching.StringMatch] = message.EMPTY
    port: message.UInt32 = 0
    source_labels: message.StringMap = message.EMPTY
    gateways: message.Listed[str] = ()
    query_params: dict[str, matching.StringMatch] = message.EMPTY
    ignore_uri_case: bool = False
    without_headers: dict[str, matching.StringMatch] = message.EMPTY
    source_namespace: str = ""
    stat_prefix: str = ""


class HeaderOperations(message.Message):
    """What is done to the headers of a request or a response."""

    set: message.StringMap = message.EMPTY
    add: message.StringMap = message.EMPTY
    remove: message.Listed[str] = ()


class Headers(message.Message):
    """Header operations of both directions."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HttpDestination(message.Message):
    """One of the weighted destinations of an HTTP route."""

    destination: matching.Destination | None = None
    weight: message.Int32 = 0
    headers: Headers | None = None


class Redirect(message.Message):
    """A redirect instead of a route; `port` and `derivePort` exclude each other."""

    uri: str = ""
    authority: str = ""
    port: message.UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: message.UInt32 = 0
    prefix_rewrite: str | None = None


class DirectBody(message.Message):
    """The body of a direct response; exactly one."""

    string: str | None = None
    bytes: message.Base64 | None = None


class DirectResponse(message.Message):
    """A fixed answer instead of a route."""

    status: message.UInt32 = 0
    body: DirectBody | None = None


class Delegate(message.Message):
    """The VirtualService that has the routes."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(message.Message):
    """A rewrite of the path by regular expression."""

    match: str = ""
    rewrite: str = ""


class Rewrite(message.Message):
    """A rewrite of path and authority."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class Delay(message.Message):
    """A delay for a share of requests; `percent` is deprecated, `exponentialDelay` has no effect."""

    percent: message.Int32 = 0
    fixed_delay: message.PositiveDuration | None = None
    exponential_delay: message.PositiveDuration | None = None
    percentage: matching.Percent | None = None


class Abort(message.Message):
    """An error for a share of requests; exactly one status; `http2Error` has no effect."""

    http_status: message.Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: matching.Percent | None = None


class Fault(message.Message):
    """Faults put into requests."""

    delay: Delay | None = None
    abort: Abort | None = None


class Mirror(message.Message):
    """One of the destinations that get a copy of requests."""

    destination: matching.Destination | None = None
    percentage: matching.Percent | None = None


class CorsPolicy(message.Message):
    """Cross-origin rules; `allowOrigin` is deprecated."""

    allow_origin: message.Listed[str] = ()
    allow_origins: message.Listed[matching.StringMatch] = ()
    allow_methods: message.Listed[str] = ()
    allow_headers: message.Listed[str] = ()
    expose_headers: message.Listed[str] = ()
    max_age: message.PositiveDuration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HttpRoute(message.Message):
    """One HTTP rule: matches, and one of route, redirect, directResponse, delegate."""

    name: str = ""
    match: message.Listed[HttpMatch] = ()
    route: message.Listed[HttpDestination] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: Rewrite | None = None
    timeout: message.PositiveDuration | None = None
    retries: traffic.HttpRetry | None = None
    fault: Fault | None = None
    mirror: matching.Destination | None = None
    mirrors: message.Listed[Mirror] = ()
    mirror_percent: message.UInt32 | None = None
    mirror_percentage: matching.Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class RouteDestination(message.Message):
    """One of the weighted destinations of a TCP or TLS route."""

    destination: matching.Destination | None = None
    weight: message.Int32 = 0


class TlsMatch(message.Message):
    """Which TLS connections: by SNI and more."""

    sni_hosts: message.Listed[str] = ()
    destination_subnets: message.Listed[str] = ()
    port: message.UInt32 = 0
    source_labels: message.StringMap = message.EMPTY
    gateways: message.Listed[str] = ()
    source_namespace: str = ""


class TlsRoute(message.Message):
    """One rule for TLS connections that are not terminated."""

    match: message.Listed[TlsMatch] = ()
    route: message.Listed[RouteDestination] = ()


class TcpMatch(message.Message):
    """Which TCP connections; `sourceSubnet` has no effect."""

    destination_subnets: message.Listed[str] = ()
    port: message.UInt32 = 0
    source_subnet: str = ""
    source_labels: message.StringMap = message.EMPTY
    gateways: message.Listed[str] = ()
    source_namespace: str = ""


class TcpRoute(message.Message):
    """One rule for opaque connections."""

    match: message.Listed[TcpMatch] = ()
    route: message.Listed[RouteDestination] = ()


class VirtualService(message.Message):
    """The spec of a VirtualService."""

    hosts: message.Listed[str] = ()
    gateways: message.Listed[str] = ()
    http: message.Listed[HttpRoute] = ()
    tls: message.Listed[TlsRoute] = ()
    tcp: message.Listed[TcpRoute] = ()
    export_to: message.Listed[str] = ()
