"""WorkloadGroup (networking.istio.io): the template of workload entries that register themselves.

Sources: istio.io/api networking/v1alpha3/workload_group.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

from navarch.crds.schema import message, workload


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
