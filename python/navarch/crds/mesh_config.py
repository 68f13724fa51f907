"""MeshConfig: the mesh-wide settings, read over Istio's defaults.

Sources: istio.io/api mesh/v1alpha1/config.proto; defaults and merging from Istio's pkg/config/mesh/mesh.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from navarch import records
from navarch.crds.schema import (
    canonical,
    duration,
    extension_provider,
    faults,
    message,
    names,
    proxy_config,
    reading,
    rules,
    traffic,
    traffic_rules,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = records.SourceKey("MeshConfig", "", "mesh")
"""The one key of the mesh's settings."""


class OutboundTrafficPolicy(message.Message):
    """What becomes of traffic to unknown destinations."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    tls: traffic.ClientTls | None = None


class InboundTrafficPolicy(message.Message):
    """How inbound traffic reaches the application."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class ConfigSource(message.Message):
    """A further source of configuration."""

    address: str = ""
    tls_settings: traffic.ClientTls | None = None
    subscribed_resources: message.Listed[Literal["SERVICE_REGISTRY"]] = ()


class CertificateData(message.Message):
    """A further root certificate; exactly one of pem and spiffeBundleUrl."""

    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: message.Listed[str] = ()
    trust_domains: message.Listed[str] = ()


class CertificateAuthority(message.Message):
    """An external certificate authority."""

    address: str = ""
    tls_settings: traffic.ClientTls | None = None
    request_timeout: message.Duration | None = None
    istiod_side: bool = False


class ThriftConfig(message.Message):
    """Thrift (no effect in today's Istio)."""

    rate_limit_url: str = ""
    rate_limit_timeout: message.Duration | None = None


class ClusterLocal(message.Message):
    """Whether a service stays within its cluster."""

    cluster_local: bool = False


class ServiceSettings(message.Message):
    """Settings of the services that hosts name."""

    settings: ClusterLocal | None = None
    hosts: message.Listed[str] = ()


class Requirement(message.Message):
    """One requirement on labels."""

    key: str = ""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: message.Listed[str] = ()


class LabelSelector(message.Message):
    """Kubernetes' label selector."""

    match_labels: message.StringMap = message.EMPTY
    match_expressions: message.Listed[Requirement] = ()


class ServiceScopeConfig(message.Message):
    """How far services are visible in an ambient multicluster."""

    namespace_selector: LabelSelector | None = None
    services_selector: LabelSelector | None = None
    scope: Literal["LOCAL", "GLOBAL"] = "LOCAL"


class DefaultProviders(message.Message):
    """The providers in use where no Telemetry names others."""

    tracing: message.Listed[str] = ()
    metrics: message.Listed[str] = ()
    access_logging: message.Listed[str] = ()


class PathNormalization(message.Message):
    """How paths are normalized before they are matched."""

    normalization: Literal[
        "DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"
    ] = "DEFAULT"


class TlsConfig(message.Message):
    """TLS parameters of a class of connections."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    cipher_suites: message.Listed[str] = ()
    ecdh_curves: message.Listed[str] = ()


class DefaultTrafficPolicy(message.Message):
    """The baseline under every DestinationRule."""

    connection_pool: traffic.ConnectionPool | None = None
    outlier_detection: traffic.OutlierDetection | None = None


Visibility = Literal["UNSPECIFIED", "PUBLIC", "NAMESPACE", "NONE"]


class VisibilityRule(message.Message):
    """A condition on a ServiceEntry."""

    namespace_selector: LabelSelector | None = None


class VisibilityPolicy(message.Message):
    """The visibility of the ServiceEntries that all rules match; no rule matches all."""

    visibility: Visibility = "UNSPECIFIED"
    matching_rules: message.Listed[VisibilityRule] = ()


class ServiceEntryVisibility(message.Message):
    """Who may see ServiceEntries; the first policy that matches counts."""

    default_visibility: Visibility = "UNSPECIFIED"
    policies: message.Listed[VisibilityPolicy] = ()
    apply_to_sidecars: bool = False


class Certificate(message.Message):
    """A certificate for a service (no effect in today's Istio)."""

    secret_name: str = ""
    dns_names: message.Listed[str] = ()


class MeshConfig(message.Message):
    """The mesh-wide settings; a field's default is Istio's, which holds where the field is absent."""

    proxy_listen_port: message.Int32 = 15001
    proxy_inbound_listen_port: message.Int32 = 15006
    proxy_http_port: message.Int32 = 0
    connect_timeout: message.PositiveDuration = "10s"
    hbone_idle_timeout: message.Duration | None = None
    protocol_detection_timeout: message.Duration = "0s"
    tcp_keepalive: traffic.TcpKeepalive | None = None
    ingress_class: str = "istio"
    ingress_service: str = "istio-ingressgateway"
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    ingress_selector: str = ""
    enable_tracing: bool = True
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    default_config: proxy_config.ProxyConfig = proxy_config.ProxyConfig()
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy(mode="ALLOW_ANY")
    inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy()
    config_sources: message.Listed[ConfigSource] = ()
    enable_auto_mtls: bool = True
    trust_domain: str = "cluster.local"
    trust_domain_aliases: message.Listed[str] = ()
    ca_certificates: message.Listed[CertificateData] = ()
    default_service_export_to: message.Listed[str] = ("*",)
    default_virtual_service_export_to: message.Listed[str] = ("*",)
    default_destination_rule_export_to: message.Listed[str] = ("*",)
    root_namespace: str = "istio-system"
    locality_lb_setting: traffic.LocalityLbSetting = traffic.LocalityLbSetting(enabled=True)
    zone_aware_lb_setting: traffic.ZoneAwareLbSetting | None = None
    dns_refresh_rate: message.PositiveDuration = "60s"
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    certificates: message.Listed[Certificate] = ()
    thrift_config: ThriftConfig | None = None
    service_settings: message.Listed[ServiceSettings] = ()
    service_scope_configs: message.Listed[ServiceScopeConfig] = ()
    enable_prometheus_merge: bool = True
    verify_certificate_at_client: bool | None = None
    ca: CertificateAuthority | None = None
    extension_providers: message.Listed[extension_provider.ExtensionProvider] = ()
    default_providers: DefaultProviders = DefaultProviders()
    discovery_selectors: message.Listed[LabelSelector] = ()
    path_normalization: PathNormalization = PathNormalization()
    default_http_retry_policy: traffic.HttpRetry | None = None
    default_inbound_http_retry_policy: traffic.HttpRetry | None = None
    mesh_mtls: Annotated[TlsConfig | None, pydantic.Field(alias="meshMTLS")] = None
    tls_defaults: TlsConfig | None = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    service_entry_visibility: ServiceEntryVisibility | None = None


def read_mesh_config(body: Mapping[str, Any] | None, origin: records.Origin | None = None) -> bytes:
    """Read the mesh's settings over the defaults; None and {} give the defaults.

    Returns:
        Canonical JSON of the whole MeshConfig: every setting that has a default is there; what is absent in it
        is unset (messages) or zero (scalars within messages).

    Raises:
        errors.CrdError: A field is unknown, has the wrong type, or breaks a rule; with every fault.
    """
    return reading.read_settings(MeshConfig, body, _check, _encode, (KEY, origin))


def _encode(model: MeshConfig) -> bytes:
    return canonical.encode(_with_defaults(model))


def _with_defaults(model: MeshConfig) -> dict[str, Any]:
    """Return the settings as JSON with all defaults.

    Merging is Istio's: a field that is given replaces its default whole, save defaultConfig (field by field) and
    extensionProviders (by name, over the predefined ones); aliases of the trust domain are sorted.
    """
    given = _dump(model)
    value = _DEFAULTS | given
    value["defaultConfig"] = _DEFAULTS["defaultConfig"] | given.get("defaultConfig", {})
    proxy = value["defaultConfig"]
    if "tracingServiceName" not in proxy:
        proxy.setdefault("serviceCluster", "istio-proxy")
    for name, mode in _ALWAYS_TOLD.items():
        value[name] = {mode[0]: mode[1]} | value[name]
    providers = {provider["name"]: provider for provider in _PREDEFINED_PROVIDERS}
    for provider in given.get("extensionProviders", ()):
        providers[provider.get("name", "")] = provider
    value["extensionProviders"] = list(providers.values())
    value["trustDomainAliases"] = sorted(set(model.trust_domain_aliases))
    return value


def _dump(model: message.Message) -> dict[str, Any]:
    return model.model_dump(by_alias=True, exclude_defaults=True)


_NANOSECONDS_PER_SECOND = 1_000_000_000
_MAX_CONNECT_NANOSECONDS = 3600 * _NANOSECONDS_PER_SECOND
_PROVIDER_KINDS = tuple(extension_provider.ExtensionProvider.model_fields.keys() - {"name"})
_ALWAYS_TOLD = {
    "outboundTrafficPolicy": ("mode", "REGISTRY_ONLY"),
    "inboundTrafficPolicy": ("mode", "PASSTHROUGH"),
    "pathNormalization": ("normalization", "DEFAULT"),
}
"""Enums whose zero value in a message that is given differs from the default of the message."""
_PREDEFINED_PROVIDERS = [_dump(provider) for provider in extension_provider.predefined()]
_DEFAULTS = MeshConfig().model_dump(
    by_alias=True,
    exclude_none=True,
    exclude={"locality_lb_setting": {"distribute", "failover", "failover_priority"}},
)


def _check(model: MeshConfig, found: faults.Faults) -> None:
    """Apply Istio's rules for the whole (pkg/config/validation/agent, ValidateMeshConfig)."""
    rules.check_port(model.proxy_listen_port, ("proxyListenPort",), found)
    rules.check_port(model.proxy_inbound_listen_port, ("proxyInboundListenPort",), found)
    if model.proxy_http_port:
        rules.check_port(model.proxy_http_port, ("proxyHttpPort",), found)
    if duration.parse_nanoseconds(model.connect_timeout) > _MAX_CONNECT_NANOSECONDS:
        found.add(("connectTimeout",), "out-of-range", "must be at most 1h")
    if duration.parse_nanoseconds(model.protocol_detection_timeout) < 0:
        found.add(
            ("protocolDetectionTimeout",), "out-of-range", "must not be negative; 0s means none"
        )
    traffic_rules.check_locality_lb(model.locality_lb_setting, ("localityLbSetting",), found)
    for index, settings in enumerate(model.service_settings):
        for host_index, host in enumerate(settings.hosts):
            at = ("serviceSettings", index, "hosts", host_index)
            rules.check_wildcard_host(host, at, found)
    _check_trust_domain(model.trust_domain, ("trustDomain",), found)
    for index, alias in enumerate(model.trust_domain_aliases):
        _check_trust_domain(alias, ("trustDomainAliases", index), found)
    if model.mesh_mtls is not None and model.mesh_mtls.ecdh_curves:
        message = (
            "must be left out: curves of the mesh's own TLS can't be set; tlsDefaults takes them"
        )
        found.add(("meshMTLS", "ecdhCurves"), "unsupported-field", message)
    for name, retry in (
        ("defaultHttpRetryPolicy", model.default_http_retry_policy),
        ("defaultInboundHttpRetryPolicy", model.default_inbound_http_retry_policy),
    ):
        traffic_rules.check_retry(retry, (name,), found)
    if model.default_traffic_policy is not None:
        _check_traffic_policy(model.default_traffic_policy, ("defaultTrafficPolicy",), found)
    _check_providers(model, found)
    _check_proxy(model.default_config, ("defaultConfig",), found)


def _check_trust_domain(domain: str, at: faults.Path, found: faults.Faults) -> None:
    labels = domain.removesuffix(".").split(".")
    if not all(names.is_label(label) for label in labels):
        found.add(at, "invalid-host", f"must be a domain such as cluster.local, not {domain!r}")


def _check_traffic_policy(
    policy: DefaultTrafficPolicy, at: faults.Path, found: faults.Faults
) -> None:
    if policy.connection_pool is not None:
        traffic_rules.check_connection_pool(policy.connection_pool, (*at, "connectionPool"), found)
    if policy.outlier_detection is not None:
        traffic_rules.check_outlier_detection(
            policy.outlier_detection, (*at, "outlierDetection"), found
        )


def _check_providers(model: MeshConfig, found: faults.Faults) -> None:
    """A provider has a name and is one thing; its service and port are Istio's to warn of, not to refuse."""
    seen: set[str] = set()
    for index, provider in enumerate(model.extension_providers):
        at = ("extensionProviders", index)
        if not provider.name:
            found.add((*at, "name"), "missing-field", "is required; Telemetry and policies use it")
        elif provider.name in seen:
            found.add((*at, "name"), "duplicate", f"repeats the name {provider.name!r}; rename one")
        seen.add(provider.name)
        kinds = {name: getattr(provider, name) for name in _PROVIDER_KINDS}
        given = [message.json_name(name) for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            text = f"must be of exactly one kind, not {' and '.join(given) or 'none'}"
            found.add(at, "conflict", text)


def _check_proxy(proxy: proxy_config.ProxyConfig, at: faults.Path, found: faults.Faults) -> None:
    for name, value in (
        ("configPath", proxy.config_path),
        ("binaryPath", proxy.binary_path),
        ("discoveryAddress", proxy.discovery_address),
    ):
        if not value:
            found.add(
                (*at, name), "missing-field", "must not be empty; leave it out for the default"
            )
    clusters = {
        "serviceCluster": proxy.service_cluster,
        "tracingServiceName": proxy.tracing_service_name,
    }
    rules.check_one_of(clusters, at, found)
    rules.check_port(proxy.proxy_admin_port, (*at, "proxyAdminPort"), found)
    rules.check_port(proxy.status_port, (*at, "statusPort"), found)
    if proxy.concurrency is not None and proxy.concurrency < 0:
        found.add((*at, "concurrency"), "out-of-range", "must not be negative; 0 means all cores")
    if duration.parse_nanoseconds(proxy.drain_duration) % _NANOSECONDS_PER_SECOND:
        found.add((*at, "drainDuration"), "invalid-duration", "must be whole seconds")
    provider = proxy.private_key_provider
    if provider is not None:
        keys = {"cryptomb": provider.cryptomb, "qat": provider.qat}
        rules.check_one_of(keys, (*at, "privateKeyProvider"), found, is_required=True)
    if proxy.tracing is not None:
        _check_tracing(proxy.tracing, (*at, "tracing"), found)


def _check_tracing(tracing: proxy_config.Tracing, at: faults.Path, found: faults.Faults) -> None:
    tracers = {
        "zipkin": tracing.zipkin,
        "lightstep": tracing.lightstep,
        "datadog": tracing.datadog,
        "stackdriver": tracing.stackdriver,
        "openCensusAgent": tracing.open_census_agent,
    }
    rules.check_one_of(tracers, at, found)
    if not 0 <= tracing.sampling <= rules.MAX_PERCENT:
        found.add(
            (*at, "sampling"), "out-of-range", f"must be from 0 to 100, not {tracing.sampling:g}"
        )
    if tracing.tls_settings is not None:
        traffic_rules.check_client_tls(tracing.tls_settings, (*at, "tlsSettings"), found)
    for name, tag in tracing.custom_tags.items():
        kinds = {
            "literal": tag.literal,
            "environment": tag.environment,
            "header": tag.header,
            "formatter": tag.formatter,
        }
        rules.check_one_of(kinds, (*at, "customTags", name), found, is_required=True)
