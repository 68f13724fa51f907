"""Extension providers of MeshConfig: external authorizers, tracers, metrics, access logs, secrets.

Source: istio.io/api mesh/v1alpha1/config.proto, message MeshConfig.ExtensionProvider.
"""

from __future__ import annotations

from typing import Literal

from navarch.crds.schema import message, proxy_config


class Backend(message.Message):
    """The service of a provider: `[namespace/]host`, and its port."""

    service: str = ""
    port: message.UInt32 = 0


class RequestBody(message.Message):
    """How much of a request's body goes to the authorizer."""

    max_request_bytes: message.UInt32 = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class Authorizer(Backend):
    """What both external authorizers have."""

    timeout: message.PositiveDuration | None = None
    fail_open: bool = False
    clear_route_cache: bool | None = None
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


class HttpAuthorizer(Authorizer):
    """An external authorizer asked over HTTP; header names may end in `*`."""

    path_prefix: str = ""
    include_headers_in_check: message.Listed[str] = ()
    include_request_headers_in_check: message.Listed[str] = ()
    include_additional_headers_in_check: message.StringMap = message.EMPTY
    headers_to_upstream_on_allow: message.Listed[str] = ()
    headers_to_downstream_on_deny: message.Listed[str] = ()
    headers_to_downstream_on_allow: message.Listed[str] = ()


class Header(message.Message):
    """A header sent to a provider; its value is given or comes from the environment."""

    name: str = ""
    value: str | None = None
    env_name: str | None = None


class Tracer(Backend):
    """What tracers have."""

    max_tag_length: message.UInt32 = 0


class ZipkinTracer(Tracer):
    """Zipkin."""

    enable_64bit_trace_id: bool = False
    path: str = ""
    trace_context_option: Literal["USE_B3", "USE_B3_WITH_W3C_PROPAGATION"] = "USE_B3"
    timeout: message.Duration | None = None
    headers: message.Listed[Header] = ()


class TokenTracer(Tracer):
    """Lightstep and SkyWalking."""

    access_token: str = ""


class OpenCensusTracer(Tracer):
    """OpenCensus (no effect in today's Istio)."""

    context: message.Listed[proxy_config.TraceContext] = ()


class StackdriverLogging(message.Message):
    """Labels of Stackdriver's logs."""

    labels: message.StringMap = message.EMPTY


class StackdriverProvider(message.Message):
    """Stackdriver (no effect in today's Istio)."""

    debug: bool = False
    max_number_of_attributes: message.Int64 | None = None
    max_number_of_annotations: message.Int64 | None = None
    max_number_of_message_events: message.Int64 | None = None
    max_tag_length: message.UInt32 = 0
    logging: StackdriverLogging | None = None


class HttpService(message.Message):
    """How a provider is spoken to over HTTP."""

    path: str = ""
    timeout: message.Duration | None = None
    headers: message.Listed[Header] = ()


class GrpcService(message.Message):
    """How a provider is spoken to over gRPC."""

    timeout: message.Duration | None = None
    initial_metadata: message.Listed[Header] = ()


class ResourceDetectors(message.Message):
    """What the tracer finds out about its surroundings."""

    environment: proxy_config.NoFields | None = None
    dynatrace: proxy_config.NoFields | None = None


class DynatraceApi(Backend):
    """Dynatrace's API for sampling."""

    http: HttpService | None = None


class DynatraceSampler(message.Message):
    """Sampling by Dynatrace."""

    tenant: str = ""
    cluster_id: message.Int32 = 0
    root_spans_per_minute: message.UInt32 = 0
    http_service: DynatraceApi | None = None


class OpenTelemetryTracer(Tracer):
    """OpenTelemetry over gRPC, or over HTTP where `http` is set."""

    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    dynatrace_sampler: DynatraceSampler | None = None
    service_attribute_enrichment: str = ""


class LogFormat(message.Message):
    """The format of a log line: text, or a JSON object."""

    text: str | None = None
    labels: message.FreeForm | None = None


class FileAccessLog(message.Message):
    """A log file."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool = False


class TcpLogService(Backend):
    """An access log service for TCP."""

    log_name: str = ""
    filter_state_objects_to_log: message.Listed[str] = ()


class HttpLogService(TcpLogService):
    """An access log service for HTTP."""

    additional_request_headers_to_log: message.Listed[str] = ()
    additional_response_headers_to_log: message.Listed[str] = ()
    additional_response_trailers_to_log: message.Listed[str] = ()


class FileLogLabels(message.Message):
    """The format of an OpenTelemetry log: body and attributes."""

    text: str = ""
    labels: message.FreeForm | None = None


class OpenTelemetryLogService(TcpLogService):
    """An access log service for OpenTelemetry."""

    log_format: FileLogLabels | None = None


class SecretService(Backend):
    """A secret discovery service."""

    name: str = ""


class ExtensionProvider(message.Message):
    """A named provider; exactly one kind."""

    name: str = ""
    envoy_ext_authz_http: HttpAuthorizer | None = None
    envoy_ext_authz_grpc: Authorizer | None = None
    zipkin: ZipkinTracer | None = None
    lightstep: TokenTracer | None = None
    datadog: Tracer | None = None
    stackdriver: StackdriverProvider | None = None
    opencensus: OpenCensusTracer | None = None
    skywalking: TokenTracer | None = None
    opentelemetry: OpenTelemetryTracer | None = None
    prometheus: proxy_config.NoFields | None = None
    envoy_file_access_log: FileAccessLog | None = None
    envoy_http_als: HttpLogService | None = None
    envoy_tcp_als: TcpLogService | None = None
    envoy_otel_als: OpenTelemetryLogService | None = None
    sds: SecretService | None = None


def predefined() -> tuple[ExtensionProvider, ...]:
    """Return the providers that every mesh has."""
    return (
        ExtensionProvider(name="prometheus", prometheus=proxy_config.NoFields()),
        ExtensionProvider(name="stackdriver", stackdriver=StackdriverProvider()),
        ExtensionProvider(name="envoy", envoy_file_access_log=FileAccessLog(path="/dev/stdout")),
    )
