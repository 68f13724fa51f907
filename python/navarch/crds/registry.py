"""The kinds that navarch reads, and the one place where a kind is added."""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import TYPE_CHECKING, Any, Final

import pydantic

from navarch import records
from navarch.crds import kubernetes
from navarch.crds.kinds import (
    authorization_policy,
    destination_rule,
    envoy_filter,
    gateway,
    peer_authentication,
    proxy_config,
    request_authentication,
    service_entry,
    sidecar,
    telemetry,
    traffic_extension,
    virtual_service,
    wasm_plugin,
    workload_entry,
    workload_group,
)
from navarch.crds.schema import canonical, envelope, faults, message, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[Any, envelope.Metadata, faults.Faults], None]

_NETWORKING = "networking.istio.io"
_SECURITY = "security.istio.io"
_TELEMETRY = "telemetry.istio.io"
_EXTENSIONS = "extensions.istio.io"
_GATEWAY_API = "gateway.networking.k8s.io"
_V1_TO_ALPHA3 = ("v1", "v1beta1", "v1alpha3")
_V1_AND_BETA1 = ("v1", "v1beta1")


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object.

    Attributes:
        name: As in `records.SourceKey.kind`; `written_kind` is what objects carry.
        versions: API versions that are read, newest first; their specs are the same.
        is_namespaced: Whether its objects live in a namespace (`default` where they name none).
        is_ordered_by_age: Whether age decides between objects of the kind, so that a source without creation
            times has to make some up (parity notes: the index among such objects of a file).
    """

    name: str
    group: str
    versions: tuple[str, ...]
    model: type[message.Message]
    check: Check | None = None
    is_namespaced: bool = True
    is_ordered_by_age: bool = False
    is_passed_as_it_is: bool = False

    @property
    def written_kind(self) -> str:
        """The kind as objects carry it."""
        return "Gateway" if self.name == KUBERNETES_GATEWAY else self.name

    @property
    def api_versions(self) -> tuple[str, ...]:
        """The values of `apiVersion` that are read, newest first."""
        return tuple(
            f"{self.group}/{version}" if self.group else version for version in self.versions
        )


KUBERNETES_GATEWAY: Final = "KubernetesGateway"
"""The key's kind of `Gateway` of gateway.networking.k8s.io; `Gateway` is Istio's."""


def _mesh_kind(name: str, group: str, versions: tuple[str, ...], module: Any) -> Kind:  # noqa: ANN401 - a module
    """Make a kind of the mesh's API from its module: SPEC, and where they exist STATUS and `check`."""
    status = getattr(module, "STATUS", None)
    fields: dict[str, Any] = {"spec": (module.SPEC, module.SPEC())}
    if status is not None:
        fields["status"] = (status | None, None)
    base = envelope.PlainEnvelope if status is None else envelope.Envelope
    model = pydantic.create_model(f"{name}Object", __base__=base, **fields)
    return Kind(
        name=name,
        group=group,
        versions=versions,
        model=model,
        check=getattr(module, "check", None),
        is_ordered_by_age=True,
    )


def _kubernetes_kind(
    name: str,
    group: str = "",
    versions: tuple[str, ...] = ("v1",),
    model: type[message.Message] = kubernetes.KubernetesObject,
    **flags: Any,  # noqa: ANN401 - those of Kind
) -> Kind:
    return Kind(
        name=name, group=group, versions=versions, model=model, is_passed_as_it_is=True, **flags
    )


def _gateway_api_kind(name: str, *versions: str, is_namespaced: bool = True) -> Kind:
    return _kubernetes_kind(
        name,
        _GATEWAY_API,
        versions,
        kubernetes.SpecObject,
        is_namespaced=is_namespaced,
        is_ordered_by_age=False,
    )


_ALL: Final = (
    _mesh_kind("VirtualService", _NETWORKING, _V1_TO_ALPHA3, virtual_service),
    _mesh_kind("DestinationRule", _NETWORKING, _V1_TO_ALPHA3, destination_rule),
    _mesh_kind("ServiceEntry", _NETWORKING, _V1_TO_ALPHA3, service_entry),
    _mesh_kind("WorkloadEntry", _NETWORKING, _V1_TO_ALPHA3, workload_entry),
    _mesh_kind("WorkloadGroup", _NETWORKING, _V1_TO_ALPHA3, workload_group),
    _mesh_kind("Gateway", _NETWORKING, _V1_TO_ALPHA3, gateway),
    _mesh_kind("Sidecar", _NETWORKING, _V1_TO_ALPHA3, sidecar),
    _mesh_kind("EnvoyFilter", _NETWORKING, ("v1alpha3",), envoy_filter),
    _mesh_kind("ProxyConfig", _NETWORKING, ("v1beta1",), proxy_config),
    _mesh_kind("PeerAuthentication", _SECURITY, _V1_AND_BETA1, peer_authentication),
    _mesh_kind("RequestAuthentication", _SECURITY, _V1_AND_BETA1, request_authentication),
    _mesh_kind("AuthorizationPolicy", _SECURITY, _V1_AND_BETA1, authorization_policy),
    _mesh_kind("Telemetry", _TELEMETRY, ("v1", "v1alpha1"), telemetry),
    _mesh_kind("WasmPlugin", _EXTENSIONS, ("v1alpha1",), wasm_plugin),
    _mesh_kind("TrafficExtension", _EXTENSIONS, ("v1alpha1",), traffic_extension),
    _kubernetes_kind("Service", model=kubernetes.Service),
    _kubernetes_kind("EndpointSlice", "discovery.k8s.io", model=kubernetes.EndpointSlice),
    _kubernetes_kind("Pod", model=kubernetes.Pod),
    _kubernetes_kind("Node", model=kubernetes.Node, is_namespaced=False),
    _kubernetes_kind("Namespace", is_namespaced=False),
    _kubernetes_kind("ServiceAccount"),
    _kubernetes_kind("Secret", model=kubernetes.Secret),
    _kubernetes_kind("ConfigMap", model=kubernetes.ConfigMap),
    _kubernetes_kind(
        "Ingress", "networking.k8s.io", model=kubernetes.SpecObject, is_ordered_by_age=False
    ),
    _kubernetes_kind(
        "IngressClass", "networking.k8s.io", model=kubernetes.SpecObject, is_namespaced=False
    ),
    _gateway_api_kind("GatewayClass", "v1", "v1beta1", is_namespaced=False),
    _gateway_api_kind(KUBERNETES_GATEWAY, "v1", "v1beta1"),
    _gateway_api_kind("ListenerSet", "v1"),
    _gateway_api_kind("HTTPRoute", "v1", "v1beta1"),
    _gateway_api_kind("GRPCRoute", "v1", "v1alpha2"),
    _gateway_api_kind("TCPRoute", "v1", "v1alpha2"),
    _gateway_api_kind("TLSRoute", "v1", "v1alpha3", "v1alpha2"),
    _gateway_api_kind("ReferenceGrant", "v1", "v1beta1", "v1alpha2"),
    _gateway_api_kind("BackendTLSPolicy", "v1", "v1alpha3"),
)

KINDS: Final[Mapping[str, Kind]] = types.MappingProxyType({kind.name: kind for kind in _ALL})
"""Every kind, by `records.SourceKey.kind`."""

_BY_WRITTEN_KIND: Final = types.MappingProxyType(
    {(kind.group, kind.written_kind): kind for kind in _ALL}
)


@functools.lru_cache(maxsize=1024)
def find_kind(api_version: str, kind: str) -> Kind | None:
    """Return the kind of an object by what it says of itself, None for those that navarch does not read.

    A version that is unknown for a known kind is found all the same; `read` refuses it with a clear fault.
    """
    group, _, _ = api_version.rpartition("/")
    return _BY_WRITTEN_KIND.get((group, kind))


def read(raw: records.RawObject) -> records.Record:
    """Read and check one object.

    Raises:
        errors.CrdError: The object is no valid instance of its kind; it has every fault that was found.
    """
    found = faults.Faults()
    payload = b""
    kind = KINDS.get(raw.key.kind)
    if kind is None:
        found.add(
            ("kind",),
            "unknown-kind",
            f"is none that navarch reads; it reads {', '.join(sorted(KINDS))}",
        )
    else:
        try:
            payload = _read_by_kind(kind, raw, found)
        except RecursionError:
            found.add((), "too-deep", "is nested too deeply; flatten it")
        except (ValueError, TypeError) as error:
            found.add((), "not-json", f"holds what JSON can't: {error}"[:200])
    if found:
        raise found.to_error(raw.key, raw.origin)
    return records.Record(raw.key, payload, raw.origin)


def _read_by_kind(kind: Kind, raw: records.RawObject, found: faults.Faults) -> bytes:
    body = raw.body if isinstance(raw.body, dict) else dict(raw.body)
    if body.get("apiVersion") not in kind.api_versions:
        versions = " or ".join(kind.api_versions)
        message = f"must be {versions} for a {kind.written_kind}"
        found.add(("apiVersion",), "unknown-version", message)
        found.hide(("apiVersion",))
    if body.get("kind") != kind.written_kind:
        found.add(("kind",), "unknown-kind", f"must be {kind.written_kind}")
        found.hide(("kind",))
    model: Any = reading.read_model(kind.model, body, (), found)
    if model is None:
        return b""
    if not model.metadata.name:
        found.add(("metadata", "name"), "missing-field", "is required; give the object a name")
    if kind.is_passed_as_it_is:
        return b"" if found else _encode_as_it_is(body)
    if kind.check is not None:
        metadata = model.metadata
        if metadata.namespace != raw.key.namespace:
            metadata = metadata.model_copy(update={"namespace": raw.key.namespace})
        kind.check(model.spec, metadata, found)
    return b"" if found else _encode_model(model, raw.key)


def _encode_model(model: pydantic.BaseModel, key: records.SourceKey) -> bytes:
    value = model.model_dump(by_alias=True, exclude_defaults=True)
    value.setdefault("spec", {})
    if key.namespace:
        value["metadata"]["namespace"] = key.namespace
    return canonical.encode(value)


def _encode_as_it_is(body: dict[str, Any]) -> bytes:
    """Encode an object of Kubernetes' own, without what its server notes for itself, and without nulls."""
    meta = body["metadata"]
    if "managedFields" in meta:
        body = body | {"metadata": {name: meta[name] for name in meta if name != "managedFields"}}
    payload = canonical.encode(body)
    if b":null" in payload:
        payload = canonical.encode(_without_nulls(body))
    return payload


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value
