"""WorkloadGroup (networking.istio.io): the template of workload entries that register themselves.

Sources: istio.io/api networking/v1alpha3/workload_group.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import header_rules, message, rules, workload

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class TemplateMetadata(message.Message):
    """Metadata of each entry that is made from the template."""

    labels: message.StringMap = message.EMPTY
    annotations: message.StringMap = message.EMPTY


class HttpHeader(message.Message):
    """A header of the probe's request."""

    name: str = ""
    value: str = ""


class HttpGet(message.Message):
    """A probe by HTTP."""

    path: str = ""
    port: message.UInt32 = 0
    host: str = ""
    scheme: str = ""
    http_headers: message.Listed[HttpHeader] = ()


class TcpSocket(message.Message):
    """A probe by connecting."""

    host: str = ""
    port: message.UInt32 = 0


class Exec(message.Message):
    """A probe by a command."""

    command: message.Listed[str] = ()


class Grpc(message.Message):
    """A probe by grpc.health.v1."""

    port: message.UInt32 = 0
    service: str = ""


class ReadinessProbe(message.Message):
    """How the agent finds whether the workload is ready; exactly one way."""

    initial_delay_seconds: message.Int32 = 0
    timeout_seconds: message.Int32 = 0
    period_seconds: message.Int32 = 0
    success_threshold: message.Int32 = 0
    failure_threshold: message.Int32 = 0
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    grpc: Grpc | None = None


class WorkloadGroup(message.Message):
    """The spec of a WorkloadGroup."""

    metadata: TemplateMetadata | None = None
    template: workload.Workload | None = None
    probe: ReadinessProbe | None = None


SPEC = WorkloadGroup


def check(spec: WorkloadGroup, _: envelope.Metadata, found: faults.Faults) -> None:
    """There is a template, and the probe is one that the agent can do."""
    if spec.template is None:
        message = "is required; write template: {} if it says nothing"
        found.add(("spec", "template"), "missing-field", message)
    if spec.metadata is not None:
        rules.check_labels(spec.metadata.labels, ("spec", "metadata", "labels"), found)
    if spec.probe is not None:
        _check_probe(spec.probe, found)


def _check_probe(probe: ReadinessProbe, found: faults.Faults) -> None:
    at: faults.Path = ("spec", "probe")
    for name, number in (
        ("periodSeconds", probe.period_seconds),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if number < 0:
            found.add((*at, name), "out-of-range", "must not be negative")
    ways = {
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "exec": probe.exec,
        "grpc": probe.grpc,
    }
    rules.check_one_of(ways, at, found, is_required=True)
    if probe.http_get is not None:
        _check_http_get(probe.http_get, (*at, "httpGet"), found)
    if probe.tcp_socket is not None:
        rules.check_port(probe.tcp_socket.port, (*at, "tcpSocket", "port"), found)
    if probe.grpc is not None:
        rules.check_port(probe.grpc.port, (*at, "grpc", "port"), found)
    if probe.exec is not None and not probe.exec.command:
        found.add(
            (*at, "exec", "command"), "missing-field", "is required; write the command as a list"
        )


def _check_http_get(probe: HttpGet, at: faults.Path, found: faults.Faults) -> None:
    rules.check_port(probe.port, (*at, "port"), found)
    if probe.scheme not in ("", "HTTP", "HTTPS"):
        found.add((*at, "scheme"), "unknown-value", f"must be HTTP or HTTPS, not {probe.scheme!r}")
    for index, header in enumerate(probe.http_headers):
        header_rules.check_name(header.name, (*at, "httpHeaders", index, "name"), found)
