"""TrafficExtension (extensions.istio.io): a Wasm module or a Lua script among a proxy's filters.

Source: istio.io/api extensions/v1alpha1/traffic_extension.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import extension, matching, message, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class Lua(message.Message):
    """A Lua script."""

    inline_code: str = ""


class TrafficExtension(message.Message):
    """The spec of a TrafficExtension; one of wasm and lua."""

    selector: matching.WorkloadSelector | None = None
    target_refs: message.Listed[matching.PolicyTargetReference] = ()
    phase: extension.Phase = "UNSPECIFIED_PHASE"
    priority: message.Int32 | None = None
    match: message.Listed[extension.TrafficSelector] = ()
    wasm: extension.WasmModule | None = None
    lua: Lua | None = None


SPEC = TrafficExtension


def check(spec: TrafficExtension, _: envelope.Metadata, found: faults.Faults) -> None:
    """It is attached in one way, and is one thing that can run."""
    rules.check_attachment(spec.selector, None, spec.target_refs, found)
    rules.check_one_of({"wasm": spec.wasm, "lua": spec.lua}, ("spec",), found, is_required=True)
    extension.check_traffic(spec.match, found)
    if spec.wasm is not None:
        extension.check_module(spec.wasm, ("spec", "wasm"), found)
    if spec.lua is not None and not spec.lua.inline_code:
        at = ("spec", "lua", "inlineCode")
        found.add(at, "missing-field", "is required; write the script")
