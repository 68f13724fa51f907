"""What WasmPlugin and TrafficExtension share: a Wasm module, its place among the filters, its rules.

Sources: istio.io/api extensions/v1alpha1/wasm.proto, traffic_extension.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from navarch.crds.schema import matching, message, rules

if TYPE_CHECKING:
    from navarch.crds.schema.faults import Faults, Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = frozenset({"file", "http", "https", "oci"})
_MAX_NAME_LENGTH = 256
_MAX_SECRET_LENGTH = 253
_MAX_VALUE_LENGTH = 2048

Phase = Literal["UNSPECIFIED_PHASE", "UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"]


class EnvironmentVariable(message.Message):
    """A variable of the Wasm machine, given or taken from the proxy."""

    name: str = ""
    value_from: Literal["INLINE", "HOST"] = "INLINE"
    value: str = ""


class VmConfig(message.Message):
    """The Wasm machine."""

    env: message.Listed[EnvironmentVariable] = ()


class TrafficSelector(message.Message):
    """Which traffic goes through an extension."""

    mode: Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"] = "UNDEFINED"
    ports: message.Listed[matching.PortSelector] = ()


class WasmModule(message.Message):
    """A Wasm module, where it comes from and how it runs."""

    url: str = ""
    sha256: str = ""
    image_pull_policy: Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"] = (
        "UNSPECIFIED_POLICY"
    )
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: message.FreeForm | None = None
    plugin_name: str = ""
    fail_strategy: Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"] = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    type: Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"] = "UNSPECIFIED_PLUGIN_TYPE"


def check_module(module: WasmModule, at: Path, found: Faults) -> None:
    """The module has an address of a known scheme; names and values are not too long."""
    scheme = _SCHEME.match(module.url)
    if not module.url:
        found.add((*at, "url"), "missing-field", "is required; write oci://, https:// or file:///")
    elif scheme is not None and scheme[1].lower() not in _SCHEMES:
        known = ", ".join(sorted(_SCHEMES))
        found.add((*at, "url"), "unknown-value", f"must have one of the schemes {known}")
    if module.sha256 and not _SHA256.fullmatch(module.sha256):
        found.add((*at, "sha256"), "invalid-value", "must be 64 hexadecimal digits in lower case")
    for name, value, limit in (
        ("imagePullSecret", module.image_pull_secret, _MAX_SECRET_LENGTH),
        ("pluginName", module.plugin_name, _MAX_NAME_LENGTH),
    ):
        if len(value) > limit:
            found.add((*at, name), "out-of-range", f"must have at most {limit} characters")
    if module.vm_config is not None:
        _check_environment(module.vm_config.env, (*at, "vmConfig", "env"), found)


def _check_environment(variables: tuple[EnvironmentVariable, ...], at: Path, found: Faults) -> None:
    seen: set[str] = set()
    for index, variable in enumerate(variables):
        place = (*at, index)
        if not 1 <= len(variable.name) <= _MAX_NAME_LENGTH:
            message = f"must have 1 to {_MAX_NAME_LENGTH} characters"
            found.add((*place, "name"), "invalid-name", message)
        if variable.name in seen:
            found.add((*place, "name"), "duplicate", f"repeats {variable.name!r}; remove one")
        seen.add(variable.name)
        if variable.value_from == "HOST" and variable.value:
            found.add((*place, "value"), "conflict", "must be left out where valueFrom is HOST")
        if len(variable.value) > _MAX_VALUE_LENGTH:
            message = f"must have at most {_MAX_VALUE_LENGTH} characters"
            found.add((*place, "value"), "out-of-range", message)


def check_traffic(selectors: tuple[TrafficSelector, ...], found: Faults) -> None:
    """Ports are in range and named once each."""
    for index, selector in enumerate(selectors):
        seen: set[int] = set()
        for port_index, port in enumerate(selector.ports):
            at = ("spec", "match", index, "ports", port_index, "number")
            rules.check_port(port.number, at, found)
            if port.number in seen:
                found.add(at, "duplicate", f"repeats the port {port.number}; remove one")
            seen.add(port.number)
