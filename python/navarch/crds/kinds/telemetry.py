"""Telemetry (telemetry.istio.io): tracing, metrics and access logs of workloads.

Sources: istio.io/api telemetry/v1alpha1/telemetry.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from navarch.crds.schema import matching, message, proxy_config, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]


class ProviderRef(message.Message):
    """An extension provider by name."""

    name: str = ""


class ModeMatch(message.Message):
    """Which side of the traffic."""

    mode: Mode = "CLIENT_AND_SERVER"


class Tracing(message.Message):
    """How requests are traced."""

    match: ModeMatch | None = None
    providers: message.Listed[ProviderRef] = ()
    random_sampling_percentage: float | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, proxy_config.CustomTag] = message.EMPTY
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class MetricMatch(message.Message):
    """Which metric on which side; one of Istio's or a custom one."""

    metric: (
        Literal[
            "ALL_METRICS",
            "REQUEST_COUNT",
            "REQUEST_DURATION",
            "REQUEST_SIZE",
            "RESPONSE_SIZE",
            "TCP_OPENED_CONNECTIONS",
            "TCP_CLOSED_CONNECTIONS",
            "TCP_SENT_BYTES",
            "TCP_RECEIVED_BYTES",
            "GRPC_REQUEST_MESSAGES",
            "GRPC_RESPONSE_MESSAGES",
        ]
        | None
    ) = None
    custom_metric: str | None = None
    mode: Mode = "CLIENT_AND_SERVER"


class TagOverride(message.Message):
    """A tag set to an expression's value, or removed."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricOverride(message.Message):
    """A change to metrics."""

    match: MetricMatch | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = message.EMPTY


class Metrics(message.Message):
    """Which metrics are kept, and with which tags."""

    providers: message.Listed[ProviderRef] = ()
    overrides: message.Listed[MetricOverride] = ()
    reporting_interval: message.Duration | None = None


class LogFilter(message.Message):
    """A CEL expression that selects what is logged."""

    expression: str = ""


class AccessLogging(message.Message):
    """Where access logs go."""

    match: ModeMatch | None = None
    providers: message.Listed[ProviderRef] = ()
    disabled: bool | None = None
    filter: LogFilter | None = None


class Telemetry(message.Message):
    """The spec of a Telemetry."""

    selector: matching.WorkloadSelector | None = None
    target_ref: matching.PolicyTargetReference | None = None
    target_refs: message.Listed[matching.PolicyTargetReference] = ()
    tracing: message.Listed[Tracing] = ()
    metrics: message.Listed[Metrics] = ()
    access_logging: message.Listed[AccessLogging] = ()


SPEC = Telemetry


def check(spec: Telemetry, _: envelope.Metadata, found: faults.Faults) -> None:
    """It is attached in one way; providers have names; tags and overrides say something."""
    rules.check_attachment(spec.selector, spec.target_ref, spec.target_refs, found)
    for index, tracing in enumerate(spec.tracing):
        _check_tracing(tracing, ("spec", "tracing", index), found)
    for index, metrics in enumerate(spec.metrics):
        at = ("spec", "metrics", index)
        _check_providers(metrics.providers, at, found)
        for override_index, override in enumerate(metrics.overrides):
            _check_override(override, (*at, "overrides", override_index), found)
    for index, logging in enumerate(spec.access_logging):
        _check_providers(logging.providers, ("spec", "accessLogging", index), found)


def _check_providers(
    providers: tuple[ProviderRef, ...], at: faults.Path, found: faults.Faults
) -> None:
    for index, provider in enumerate(providers):
        if not provider.name:
            message = "is required; name one of the mesh's extensionProviders"
            found.add((*at, "providers", index, "name"), "missing-field", message)


def _check_tracing(tracing: Tracing, at: faults.Path, found: faults.Faults) -> None:
    _check_providers(tracing.providers, at, found)
    share = tracing.random_sampling_percentage
    if share is not None and not 0 <= share <= rules.MAX_PERCENT:
        text = f"must be from 0 to 100, not {share:g}"
        found.add((*at, "randomSamplingPercentage"), "out-of-range", text)
    for name, tag in tracing.custom_tags.items():
        place = (*at, "customTags", name)
        if not name:
            found.add(place, "invalid-name", "has an empty name; name the tag")
        kinds = {
            "literal": tag.literal,
            "environment": tag.environment,
            "header": tag.header,
            "formatter": tag.formatter,
        }
        rules.check_one_of(kinds, place, found)
        if tag.literal is not None and not tag.literal.value:
            found.add((*place, "literal", "value"), "missing-field", "is required")
        for field, named in (("header", tag.header), ("environment", tag.environment)):
            if named is not None and not named.name:
                found.add((*place, field, "name"), "missing-field", "is required")


def _check_override(override: MetricOverride, at: faults.Path, found: faults.Faults) -> None:
    match = override.match
    if match is not None:
        kinds = {"metric": match.metric, "customMetric": match.custom_metric}
        rules.check_one_of(kinds, (*at, "match"), found)
        if match.custom_metric == "":
            found.add((*at, "match", "customMetric"), "missing-field", "is empty; name the metric")
    for name, tag in override.tag_overrides.items():
        place = (*at, "tagOverrides", name, "value")
        if tag.operation == "UPSERT" and not tag.value:
            found.add(place, "missing-field", "is required for UPSERT; write a CEL expression")
        if tag.operation == "REMOVE" and tag.value:
            found.add(place, "conflict", "must be left out for REMOVE")
