"""What a pod's annotations wish for its proxy, checked as Istio checks them.

Source: istio.io/api annotation; Istio's pkg/kube/inject/validate.go.
"""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Final

from navarch import errors
from navarch.crds.schema import names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STATUS: Final = "sidecar.istio.io/status"
OVERRIDES: Final = "proxy.istio.io/overrides"
PROXY_CONFIG: Final = "proxy.istio.io/config"
TEMPLATES: Final = "inject.istio.io/templates"
INTERCEPTION_MODE: Final = "sidecar.istio.io/interceptionMode"
STATUS_PORT: Final = "status.sidecar.istio.io/port"
NATIVE: Final = "sidecar.istio.io/nativeSidecar"
REWRITE_PROBES: Final = "sidecar.istio.io/rewriteAppHTTPProbers"
MERGE_METRICS: Final = "prometheus.istio.io/merge-metrics"
USER_VOLUME: Final = "sidecar.istio.io/userVolume"
USER_VOLUME_MOUNT: Final = "sidecar.istio.io/userVolumeMount"
_TRAFFIC: Final = "traffic.sidecar.istio.io/"
INCLUDE_OUTBOUND_RANGES: Final = f"{_TRAFFIC}includeOutboundIPRanges"
EXCLUDE_OUTBOUND_RANGES: Final = f"{_TRAFFIC}excludeOutboundIPRanges"
INCLUDE_INBOUND_PORTS: Final = f"{_TRAFFIC}includeInboundPorts"
EXCLUDE_INBOUND_PORTS: Final = f"{_TRAFFIC}excludeInboundPorts"
INCLUDE_OUTBOUND_PORTS: Final = f"{_TRAFFIC}includeOutboundPorts"
EXCLUDE_OUTBOUND_PORTS: Final = f"{_TRAFFIC}excludeOutboundPorts"
VIRTUAL_INTERFACES: Final = f"{_TRAFFIC}kubevirtInterfaces"
EXCLUDE_INTERFACES: Final = f"{_TRAFFIC}excludeInterfaces"

_MAX_PORT: Final = 65535
_MAX_UINT32: Final = 2**32 - 1
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""The words of Go's strconv.ParseBool."""


class InjectionError(errors.NavarchError):
    """A pod that can't be given a proxy as it asks; the message names the annotation and the remedy."""


def read_bool(text: str) -> bool | None:
    """Read a boolean as Istio does; None if it is none."""
    return True if text in _TRUE else False if text in _FALSE else None


def _fault_in_mode(text: str) -> str:
    return "" if text in ("REDIRECT", "TPROXY", "NONE") else "must be REDIRECT, TPROXY or NONE"


def _fault_in_bool(text: str) -> str:
    return "must be true or false" if read_bool(text) is None else ""


def _fault_in_number(text: str) -> str:
    is_number = text.isascii() and text.isdigit() and int(text) <= _MAX_UINT32
    return "" if is_number else "must be a whole number"


def _fault_in_port(text: str) -> str:
    text = text.strip()
    is_port = text.isascii() and text.isdigit() and int(text) <= _MAX_PORT
    return "" if is_port else "must be a port number"


def _fault_in_ports(text: str) -> str:
    if not text.strip():
        return ""
    bad = [part for part in text.split(",") if _fault_in_port(part)]
    return f"must be ports with commas between them; {bad[0]!r} is none" if bad else ""


def _fault_in_ports_or_all(text: str) -> str:
    return "" if text == "*" else _fault_in_ports(text)


def _fault_in_ranges(text: str) -> str:
    for part in text.split(",") if text else ():
        if "/" not in part or not names.is_subnet(part):
            return f"must be subnets such as 10.0.0.0/8 with commas between them; {part!r} is none"
    return ""


def _fault_in_ranges_or_all(text: str) -> str:
    return "" if text == "*" else _fault_in_ranges(text)


def _fault_in_volumes(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    is_fine = isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())
    return "" if is_fine else "must be a JSON object of objects by the volume's name"


_CHECKS: Final[Mapping[str, Callable[[str], str]]] = types.MappingProxyType(
    {
        INTERCEPTION_MODE: _fault_in_mode,
        STATUS_PORT: _fault_in_port,
        "readiness.status.sidecar.istio.io/initialDelaySeconds": _fault_in_number,
        "readiness.status.sidecar.istio.io/periodSeconds": _fault_in_number,
        "readiness.status.sidecar.istio.io/failureThreshold": _fault_in_number,
        INCLUDE_OUTBOUND_RANGES: _fault_in_ranges_or_all,
        EXCLUDE_OUTBOUND_RANGES: _fault_in_ranges,
        INCLUDE_INBOUND_PORTS: _fault_in_ports_or_all,
        EXCLUDE_INBOUND_PORTS: _fault_in_ports,
        INCLUDE_OUTBOUND_PORTS: _fault_in_ports_or_all,
        EXCLUDE_OUTBOUND_PORTS: _fault_in_ports,
        MERGE_METRICS: _fault_in_bool,
        USER_VOLUME: _fault_in_volumes,
        USER_VOLUME_MOUNT: _fault_in_volumes,
    }
)


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Check the annotations that shape a proxy.

    Raises:
        InjectionError: With every fault.
    """
    told = []
    for name, text in sorted(annotations.items()):
        check = _CHECKS.get(name)
        fault = check(text) if check is not None else ""
        if fault:
            told.append(f"annotation {name} {fault}, not {text[:80]!r}")
    if told:
        raise InjectionError("; ".join(told))
