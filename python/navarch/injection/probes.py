"""Probes and lifecycle handlers of the application, answered through the proxy's agent.

The kubelet has no certificate of the mesh, so that its probes would fail where mutual TLS is strict; the agent takes
them on its own port, which is not captured, and asks the application on loopback.
Source: Istio's pkg/kube/inject/app_probe.go; cmd/pilot-agent/status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from navarch.injection import merging

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_PROBES: Final = (
    ("readinessProbe", "readyz"),
    ("livenessProbe", "livez"),
    ("startupProbe", "startupz"),
)
_HANDLERS: Final = (("preStop", "prestopz"), ("postStart", "poststartz"))
_KINDS: Final = ("httpGet", "tcpSocket", "grpc")
_HANDLER_KINDS: Final = ("httpGet", "tcpSocket")
PROBERS: Final = "ISTIO_KUBE_APP_PROBERS"
"""The variable by which the agent knows what it has to ask."""

Container = dict[str, Any]


def rewrite_container(
    container: Container, status_port: int, captured: Collection[int]
) -> tuple[Container, dict[str, Any]]:
    """Return a container whose probes go to the agent, and what the agent must ask instead, by path.

    Args:
        container: It is not changed.
        status_port: Where the agent listens.
        captured: The inbound ports that the proxy captures; empty for all of them.
    """
    made = dict(container)
    asked: dict[str, Any] = {}
    for field, word in _PROBES:
        if isinstance(made.get(field), dict):
            made[field] = _rewrite(
                made[field], _path(container, word), _Place(status_port, captured, asked, _KINDS)
            )
    handlers = made.get("lifecycle")
    if isinstance(handlers, dict):
        made["lifecycle"] = handlers = dict(handlers)
        for field, word in _HANDLERS:
            if isinstance(handlers.get(field), dict):
                place = _Place(status_port, captured, asked, _HANDLER_KINDS)
                handlers[field] = _rewrite(handlers[field], _path(container, word), place)
    return made, asked


class _Place:
    """Where probes go, and what of them is noted."""

    def __init__(
        self,
        status_port: int,
        captured: Collection[int],
        asked: dict[str, Any],
        kinds: tuple[str, ...],
    ) -> None:
        self.status_port = status_port
        self.captured = captured
        self.asked = asked
        self.kinds = kinds


def _path(container: Container, word: str) -> str:
    return f"/app-health/{container.get('name')}/{word}"


def _rewrite(probe: Mapping[str, Any], path: str, place: _Place) -> dict[str, Any]:
    made = dict(probe)
    kind = next((kind for kind in place.kinds if isinstance(probe.get(kind), dict)), None)
    if kind is None:
        return made
    action = dict(probe[kind])
    port = _as_number(action.get("port"))
    if isinstance(action.get("port"), str) and port is None:
        # A port by name is known to the kubelet alone.
        return made
    is_rewritten = kind == "httpGet" and port == place.status_port and action.get("path") == path
    if is_rewritten or (place.captured and port not in place.captured):
        return made
    noted: dict[str, Any] = {kind: {**action, "port": port}}
    if isinstance(probe.get("timeoutSeconds"), int):
        noted["timeoutSeconds"] = probe["timeoutSeconds"]
    place.asked[path] = merging.copy_json(noted)
    made.pop(kind)
    target = action if kind == "httpGet" else {}
    made["httpGet"] = {**target, "path": path, "port": place.status_port}
    if made["httpGet"].get("scheme") == "HTTPS":
        # The agent speaks plain HTTP with the kubelet, and HTTPS with the application.
        made["httpGet"]["scheme"] = "HTTP"
    return made


def _as_number(port: object) -> int | None:
    if isinstance(port, int):
        return port
    return int(port) if isinstance(port, str) and port.isascii() and port.isdigit() else None


def resolve_ports(container: Container) -> Container:
    """Return a container whose probes name ports by number, where it declares those names."""
    numbers = {
        port.get("name"): port.get("containerPort")
        for port in container.get("ports") or ()
        if isinstance(port, dict) and port.get("name")
    }
    made = dict(container)
    for field, _ in _PROBES:
        made = _resolve_in(made, field, numbers)
    if isinstance(made.get("lifecycle"), dict):
        handlers = dict(made["lifecycle"])
        for field, _ in _HANDLERS:
            handlers = _resolve_in(handlers, field, numbers)
        made["lifecycle"] = handlers
    return made


def _resolve_in(holder: dict[str, Any], field: str, numbers: Mapping[Any, Any]) -> dict[str, Any]:
    probe = holder.get(field)
    if not isinstance(probe, dict):
        return holder
    changed = dict(probe)
    for kind in _KINDS:
        action = probe.get(kind)
        if isinstance(action, dict) and action.get("port") in numbers:
            changed[kind] = {**action, "port": numbers[action["port"]]}
    return {**holder, field: changed}
