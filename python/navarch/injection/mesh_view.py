"""What injection reads of the mesh: its MeshConfig, and the ProxyConfig objects that hold for a pod."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from navarch.crds import mesh_config
from navarch.injection import merging
from navarch.injection.inputs import MeshView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DEFAULTS: Mapping[str, Any] = json.loads(mesh_config.read_mesh_config({}))


def view_mesh(payload: bytes) -> MeshView:
    """Read the canonical MeshConfig, as `mesh_config.read_mesh_config` gives it."""
    mesh = json.loads(payload)
    defaults = _DEFAULTS.get("defaultConfig") or {}
    proxy = mesh.get("defaultConfig") or {}
    return MeshView(
        default_config={k: v for k, v in proxy.items() if k not in defaults or defaults[k] != v},
        merges_metrics=mesh.get("enablePrometheusMerge") is not False,
        trust_domain=mesh.get("trustDomain") or "",
        listen_port=mesh["proxyListenPort"],
        inbound_port=mesh["proxyInboundListenPort"],
        root_namespace=mesh["rootNamespace"],
    )


def merge_proxy_configs(
    objects: Iterable[Mapping[str, Any]],
    namespace: str,
    labels: Mapping[str, str],
    root_namespace: str,
) -> dict[str, Any]:
    """Return what ProxyConfig objects say of a pod: the mesh's, then its namespace's, then its own, oldest first.

    Source: istio.io/api networking/v1beta1/proxy_config.proto; Istio's pilot/pkg/model/proxy_config.go.
    """
    ranked: list[tuple[int, str, str, Mapping[str, Any]]] = []
    for each in objects:
        metadata, spec = each.get("metadata") or {}, each.get("spec") or {}
        selector = (spec.get("selector") or {}).get("matchLabels") or {}
        place = metadata.get("namespace", "")
        is_selected = all(labels.get(key) == value for key, value in selector.items())
        if place not in (namespace, root_namespace) or not is_selected:
            continue
        if place == root_namespace and namespace != root_namespace and selector:
            continue
        rank = 2 if selector else 1 if place == namespace else 0
        ranked.append((rank, metadata.get("creationTimestamp", ""), metadata.get("name", ""), spec))
    made: dict[str, Any] = {}
    # The oldest of a rank wins, so that it is merged last.
    ranked.sort(key=lambda each: each[1:3], reverse=True)
    for _, _, _, spec in sorted(ranked, key=lambda each: each[0]):
        said = {
            "concurrency": spec.get("concurrency"),
            "proxyMetadata": spec.get("environmentVariables"),
            "image": spec.get("image"),
        }
        made = merging.merge(made, {key: value for key, value in said.items() if value is not None})
    return made
