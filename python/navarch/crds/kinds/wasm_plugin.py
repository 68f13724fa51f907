"""WasmPlugin (extensions.istio.io): a Wasm module among a proxy's filters.

Source: istio.io/api extensions/v1alpha1/wasm.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import extension, matching, message, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class WasmPlugin(extension.WasmModule):
    """The spec of a WasmPlugin: a module, its place, and whom it is for."""

    selector: matching.WorkloadSelector | None = None
    target_ref: matching.PolicyTargetReference | None = None
    target_refs: message.Listed[matching.PolicyTargetReference] = ()
    phase: extension.Phase = "UNSPECIFIED_PHASE"
    priority: message.Int32 | None = None
    match: message.Listed[extension.TrafficSelector] = ()


SPEC = WasmPlugin


def check(spec: WasmPlugin, _: envelope.Metadata, found: faults.Faults) -> None:
    """It is attached in one way; the module can be found; ports are in range."""
    rules.check_attachment(spec.selector, spec.target_ref, spec.target_refs, found)
    extension.check_module(spec, ("spec",), found)
    extension.check_traffic(spec.match, found)
