"""ProxyConfig: the settings of one proxy, as in MeshConfig.defaultConfig and the annotation proxy.istio.io/config.

Sources: istio.io/api mesh/v1alpha1/proxy.proto; defaults from Istio's pkg/config/mesh/mesh.go.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from navarch.crds.schema import message, traffic


class Switch(message.Message):
    """Something that is there unless it is disabled."""

    disabled: bool | None = None


class OptIn(message.Message):
    """Something that is not there unless it is enabled."""

    enabled: bool | None = None


class Zipkin(message.Message):
    """A Zipkin collector."""

    address: str = ""


class Lightstep(message.Message):
    """A Lightstep collector."""

    address: str = ""
    access_token: str = ""


class Datadog(message.Message):
    """A Datadog agent."""

    address: str = ""


class Stackdriver(message.Message):
    """Stackdriver (no effect in today's Istio)."""

    debug: bool = False
    max_number_of_attributes: message.Int64 | None = None
    max_number_of_annotations: message.Int64 | None = None
    max_number_of_message_events: message.Int64 | None = None


TraceContext = Literal["UNSPECIFIED", "W3C_TRACE_CONTEXT", "GRPC_BIN", "CLOUD_TRACE_CONTEXT", "B3"]


class OpenCensusAgent(message.Message):
    """OpenCensus (no effect in today's Istio)."""

    address: str = ""
    context: message.Listed[TraceContext] = ()


class LiteralTag(message.Message):
    """A tag of fixed value."""

    value: str = ""


class NamedTag(message.Message):
    """A tag whose value is that of a header or an environment variable."""

    name: str = ""
    default_value: str = ""


class FormatterTag(message.Message):
    """A tag whose value is an access log format."""

    value: str = ""


class CustomTag(message.Message):
    """A tag on every span; exactly one."""

    literal: LiteralTag | None = None
    environment: NamedTag | None = None
    header: NamedTag | None = None
    formatter: FormatterTag | None = None


class Tracing(message.Message):
    """The tracer of a proxy; at most one."""

    zipkin: Zipkin | None = None
    lightstep: Lightstep | None = None
    datadog: Datadog | None = None
    stackdriver: Stackdriver | None = None
    open_census_agent: OpenCensusAgent | None = None
    custom_tags: dict[str, CustomTag] = message.EMPTY
    max_path_tag_length: message.UInt32 = 0
    sampling: float = 0.0
    tls_settings: traffic.ClientTls | None = None
    enable_istio_tags: bool | None = None


class RemoteService(message.Message):
    """A service that every proxy talks to."""

    address: str = ""
    tls_settings: traffic.ClientTls | None = None
    tcp_keepalive: traffic.TcpKeepalive | None = None


ForwardClientCert = Literal[
    "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
]


class NoFields(message.Message):
    """A message whose presence is all that it says."""


class GatewayTopology(message.Message):
    """The proxies in front of a gateway."""

    num_trusted_proxies: message.UInt32 = 0
    forward_client_cert_details: ForwardClientCert = "UNDEFINED"
    proxy_protocol: NoFields | None = None


class StatsMatcher(message.Message):
    """Which further statistics Envoy keeps."""

    inclusion_prefixes: message.Listed[str] = ()
    inclusion_suffixes: message.Listed[str] = ()
    inclusion_regexps: message.Listed[str] = ()


class Image(message.Message):
    """Which image the injector puts in."""

    image_type: str = ""


class AcceleratedKeys(message.Message):
    """A private key provider that polls hardware."""

    poll_delay: message.Duration | None = None
    fallback: bool | None = None


class PrivateKeyProvider(message.Message):
    """Where private key operations are done; exactly one."""

    cryptomb: AcceleratedKeys | None = None
    qat: AcceleratedKeys | None = None


class ClientCertDetails(message.Message):
    """Parts of the client's certificate in x-forwarded-client-cert."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ServerHeader(message.Message):
    """The header `server`."""

    disabled: bool | None = None
    value: str = ""


class MetadataExchangeHeaders(message.Message):
    """Istio's peer metadata headers."""

    mode: Literal["UNDEFINED", "IN_MESH"] = "UNDEFINED"


class ProxyHeaders(message.Message):
    """Which headers a proxy adds."""

    forwarded_client_cert: ForwardClientCert = "UNDEFINED"
    set_current_client_cert_details: ClientCertDetails | None = None
    request_id: Switch | None = None
    server: ServerHeader | None = None
    attempt_count: Switch | None = None
    envoy_debug_headers: Switch | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    preserve_http1_header_case: bool | None = None
    x_forwarded_host: OptIn | None = None
    x_forwarded_port: OptIn | None = None


class ConnectionSettings(message.Message):
    """Limits and timeouts of a proxy's listeners; the profile EDGE brings Envoy's edge defaults."""

    profile: Literal["UNSPECIFIED", "SIDECAR", "EDGE"] = "UNSPECIFIED"
    listener_per_connection_buffer_limit_bytes: message.UInt32 | None = None
    cluster_per_connection_buffer_limit_bytes: message.UInt32 | None = None
    http_idle_timeout: message.Duration | None = None
    http_max_connection_duration: message.Duration | None = None
    http_drain_timeout: message.Duration | None = None
    http_request_timeout: message.Duration | None = None
    http_request_headers_timeout: message.Duration | None = None
    http_stream_idle_timeout: message.Duration | None = None
    http_max_stream_duration: message.Duration | None = None
    http_max_concurrent_streams: message.UInt32 | None = None
    http2_initial_stream_window_size: message.UInt32 | None = None
    http2_initial_connection_window_size: message.UInt32 | None = None
    http_headers_with_underscores_action: str = ""
    http_merge_slashes: bool | None = None
    http_path_with_escaped_slashes_action: str = ""
    listener_connection_limit: message.UInt32 | None = None
    global_downstream_connection_limit: message.UInt32 | None = None


class ProxyConfig(message.Message):
    """The settings of one proxy, with Istio's defaults.

    `readinessProbe` is Kubernetes' own message; the agent reads it, nothing here does.
    """

    config_path: str = "./etc/istio/proxy"
    binary_path: str = "/usr/local/bin/envoy"
    service_cluster: str | None = None
    tracing_service_name: (
        Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"]
        | None
    ) = None
    drain_duration: message.PositiveDuration = "45s"
    parent_shutdown_duration: message.Duration | None = None
    termination_drain_duration: message.Duration = "5s"
    discovery_address: str = "istiod.istio-system.svc:15012"
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: message.Int32 = 15000
    status_port: message.Int32 = 15020
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS"] = "MUTUAL_TLS"
    custom_config_file: str = ""
    stat_name_length: message.Int32 = 189
    concurrency: message.Int32 | None = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    tracing: Tracing | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    proxy_metadata: message.StringMap = message.EMPTY
    runtime_values: message.StringMap = message.EMPTY
    extra_stat_tags: message.Listed[str] = ()
    gateway_topology: GatewayTopology | None = None
    mesh_id: str = ""
    readiness_probe: dict[str, Any] | None = None
    proxy_stats_matcher: StatsMatcher | None = None
    hold_application_until_proxy_starts: bool | None = None
    ca_certificates_pem: Annotated[
        message.Listed[str], pydantic.Field(alias="caCertificatesPem")
    ] = ()
    image: Image | None = None
    private_key_provider: PrivateKeyProvider | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: message.Duration | None = None
    file_flush_min_size_kb: message.UInt32 | None = None
    stats_compression: bool | None = None
    connection_settings: ConnectionSettings | None = None
