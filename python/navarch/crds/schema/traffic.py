"""Traffic policy: pools, outlier detection, load balancers, TLS, retries; part of several kinds and of MeshConfig."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from navarch.crds.schema import matching, message


class TcpKeepalive(message.Message):
    """SO_KEEPALIVE of upstream connections."""

    probes: message.UInt32 = 0
    time: message.PositiveDuration | None = None
    interval: message.PositiveDuration | None = None


class TcpSettings(message.Message):
    """Pool settings of every upstream connection."""

    max_connections: message.Int32 = 0
    connect_timeout: message.PositiveDuration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: message.PositiveDuration | None = None
    idle_timeout: message.PositiveDuration | None = None


class Http2Keepalive(message.Message):
    """Pings of upstream HTTP/2 connections."""

    interval: message.Duration | None = None
    timeout: message.Duration | None = None


H2UpgradePolicy = Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]


class HttpSettings(message.Message):
    """Pool settings of HTTP upstreams."""

    http1_max_pending_requests: message.Int32 = 0
    http2_max_requests: message.Int32 = 0
    max_requests_per_connection: message.Int32 = 0
    max_retries: message.Int32 = 0
    idle_timeout: message.PositiveDuration | None = None
    h2_upgrade_policy: H2UpgradePolicy = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: message.Int32 = 0
    http2_keep_alive: Http2Keepalive | None = None


class ConnectionPool(message.Message):
    """Limits of the connections to an upstream; at least one part."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


class OutlierDetection(message.Message):
    """When an endpoint is ejected; absent wrapped numbers mean Envoy's defaults, 0 means off."""

    consecutive_errors: message.Int32 = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: message.UInt32 | None = None
    consecutive_gateway_errors: message.UInt32 | None = None
    consecutive_5xx_errors: message.UInt32 | None = None
    interval: message.PositiveDuration | None = None
    base_ejection_time: message.PositiveDuration | None = None
    max_ejection_percent: message.Int32 = 0
    min_health_percent: message.Int32 = 0
    outlier_detection_http_error_codes: message.Listed[message.Int32] = ()


class HttpCookieAttribute(message.Message):
    """A further attribute of the cookie, such as SameSite."""

    name: str = ""
    value: str = ""


class HttpCookie(message.Message):
    """The cookie on which requests are hashed."""

    name: str = ""
    path: str = ""
    ttl: message.Duration | None = None
    attributes: message.Listed[HttpCookieAttribute] = ()


class RingHash(message.Message):
    """Ring hash."""

    minimum_ring_size: message.UInt64 = 0


class Maglev(message.Message):
    """Maglev hash."""

    table_size: message.UInt64 = 0


class ConsistentHash(message.Message):
    """Session affinity: one hash key and at most one algorithm."""

    http_header_name: str | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: message.UInt64 = 0


class LocalityDistribute(message.Message):
    """Shares of traffic from one locality to others; they sum up to 100."""

    from_: Annotated[str, pydantic.Field(alias="from")] = ""
    to: dict[str, message.UInt32] = message.EMPTY


class LocalityFailover(message.Message):
    """Where traffic of a region goes when its own endpoints are unhealthy."""

    from_: Annotated[str, pydantic.Field(alias="from")] = ""
    to: str = ""


class LocalityLbSetting(message.Message):
    """Load balancing by locality: one of distribute, failover, and failoverPriority (with failover)."""

    distribute: message.Listed[LocalityDistribute] = ()
    failover: message.Listed[LocalityFailover] = ()
    failover_priority: message.Listed[str] = ()
    enabled: bool | None = None


class ZoneAwareLbSetting(message.Message):
    """Envoy's zone aware routing."""

    enabled: bool | None = None
    min_cluster_size: message.UInt32 | None = None
    failover: message.Listed[LocalityFailover] = ()
    failover_priority: message.Listed[str] = ()


class Warmup(message.Message):
    """Slow start of new endpoints."""

    duration: message.PositiveDuration | None = None
    minimum_percent: float | None = None
    aggression: float | None = None


class BackendUtilization(message.Message):
    """Weights by the load that endpoints report."""

    weight_update_period: message.Duration | None = None
    weight_stabilization_period: message.Duration | None = None
    weight_expiration_period: message.Duration | None = None
    error_utilization_penalty_percent: message.UInt32 | None = None
    metric_names_for_computing_utilization: message.Listed[str] = ()


class LoadBalancer(message.Message):
    """At most one of simple and consistentHash."""

    simple: (
        Literal[
            "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"
        ]
        | None
    ) = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    warmup_duration_secs: message.PositiveDuration | None = None
    warmup: Warmup | None = None
    backend_utilization: BackendUtilization | None = None


class ClientTls(message.Message):
    """How a client speaks TLS to an upstream."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: message.Listed[str] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


TlsProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class TlsCertificate(message.Message):
    """One of several certificates of a server, by file."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTls(message.Message):
    """How a gateway server, or a sidecar's inbound port, speaks TLS."""

    https_redirect: bool = False
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: message.Listed[str] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: message.Listed[TlsCertificate] = ()
    subject_alt_names: message.Listed[str] = ()
    verify_certificate_spki: message.Listed[str] = ()
    verify_certificate_hash: message.Listed[str] = ()
    min_protocol_version: TlsProtocol = "TLS_AUTO"
    max_protocol_version: TlsProtocol = "TLS_AUTO"
    cipher_suites: message.Listed[str] = ()
    ecdh_curves: message.Listed[str] = ()
    insecure_skip_verify: bool | None = None


class RetryBudget(message.Message):
    """Retries as a share of active requests."""

    percent: float | None = None
    budget_interval: message.Duration | None = None
    min_retry_concurrency: message.UInt32 = 0


class Tunnel(message.Message):
    """Tunnelling of TCP through an HTTP proxy."""

    protocol: str = ""
    target_host: str = ""
    target_port: message.UInt32 = 0


class ProxyProtocol(message.Message):
    """PROXY protocol towards the upstream."""

    version: Literal["V1", "V2"] = "V1"


class PortTrafficPolicy(message.Message):
    """Traffic policy of one port; it replaces the destination's parts, it does not merge with them."""

    port: matching.PortSelector | None = None
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None


class TrafficPolicy(message.Message):
    """Traffic policy of a destination or a subset."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    port_level_settings: message.Listed[PortTrafficPolicy] = ()
    tunnel: Tunnel | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class HttpRetry(message.Message):
    """When and how often a request is tried again."""

    attempts: message.Int32 = 0
    per_try_timeout: message.PositiveDuration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: message.PositiveDuration | None = None
