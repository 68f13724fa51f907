"""Whole objects that hold a pod's template: Deployments, Jobs, lists and the like (`navarch inject`)."""

from __future__ import annotations

import dataclasses
import types
from typing import TYPE_CHECKING, Any, Final

from navarch.injection import labels, merging, mesh_view, pods, wishes
from navarch.injection.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from navarch.injection.inputs import MeshView
    from navarch.injection.settings import Settings

Document = dict[str, Any]

_TEMPLATE: Final = ("spec", "template")
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = types.MappingProxyType(
    {
        "Pod": (),
        "CronJob": ("spec", "jobTemplate", "spec", "template"),
        **dict.fromkeys(
            (
                "DaemonSet",
                "Deployment",
                "DeploymentConfig",
                "Job",
                "ReplicaSet",
                "ReplicationController",
                "StatefulSet",
            ),
            _TEMPLATE,
        ),
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One thing to tell of one object."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclasses.dataclass(frozen=True, slots=True)
class Offline:
    """What injection offline works with.

    Attributes:
        namespaces: Labels of the Namespaces among the documents; any other is taken to want proxies.
        proxy_configs: The ProxyConfig objects among the documents.
        root_namespace: Whose ProxyConfig holds for the mesh.
    """

    settings: Settings
    mesh: MeshView
    namespaces: Mapping[str, Mapping[str, str]]
    proxy_configs: tuple[Document, ...]
    root_namespace: str


def prepare(documents: Iterable[Document], settings: Settings, mesh: MeshView) -> Offline:
    """Gather what the documents say of namespaces and proxies."""
    flat = [each for document in documents for each in _flatten(document)]
    namespaces = {
        str((each.get("metadata") or {}).get("name")): (each.get("metadata") or {}).get("labels")
        or {}
        for each in flat
        if each.get("kind") == "Namespace"
    }
    configs = tuple(each for each in flat if each.get("kind") == "ProxyConfig")
    return Offline(settings, mesh, namespaces, configs, mesh.root_namespace)


def _flatten(document: Document) -> list[Document]:
    items = document.get("items")
    if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
        return [inner for each in items if isinstance(each, dict) for inner in _flatten(each)]
    return [document]


def inject_document(
    document: Document, offline: Offline, namespace: str
) -> tuple[Document, list[Told]]:
    """Return a document with proxies in the pods that it describes, and what is to be told of it.

    Args:
        document: It is not changed; what holds no pod comes back as it is.
        offline: The surroundings.
        namespace: Where objects live that name no namespace.

    Raises:
        wishes.InjectionError: A pod asks for what can't be; it names the object.
    """
    items = document.get("items")
    if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
        made, told = dict(document), []
        made["items"] = []
        for each in items:
            inner, said = (
                inject_document(each, offline, namespace) if isinstance(each, dict) else (each, [])
            )
            made["items"].append(inner)
            told += said
        return made, told
    path = _TEMPLATES.get(str(document.get("kind")))
    return (document, []) if path is None else _inject(document, path, offline, namespace)


def _inject(
    document: Document, path: tuple[str, ...], offline: Offline, namespace: str
) -> tuple[Document, list[Told]]:
    metadata = document.get("metadata") or {}
    place = str(metadata.get("namespace") or namespace)
    where = f"{document['kind']} {place}/{metadata.get('name', '')}"
    made: Document = merging.copy_json(document)
    holder: Any = made
    for part in path:
        holder = holder.get(part) if isinstance(holder, dict) else None
    if not isinstance(holder, dict):
        return document, [Told(where, f"has no {'.'.join(path)}; nothing was injected")]
    own_labels = (holder.get("metadata") or {}).get("labels") or {}
    asked = labels.ask_labels(
        offline.namespaces.get(place, {labels.NAMESPACE_LABEL: "enabled"}),
        own_labels,
        offline.settings.control_plane.revision,
    )
    if not asked.is_wanted:
        return document, [Told(where, f"not injected: {asked.reason}")]
    owner = None
    if path:
        api_version = str(document.get("apiVersion"))
        owner = Owner(api_version, str(document["kind"]), place, str(metadata.get("name", "")))
    own_config = mesh_view.merge_proxy_configs(
        offline.proxy_configs, place, own_labels, offline.root_namespace
    )
    pod = {key: holder[key] for key in ("metadata", "spec") if key in holder}
    request = pods.Request(pod, place, owner, own_config)
    try:
        done = pods.inject(request, offline.settings, offline.mesh)
    except wishes.InjectionError as error:
        raise wishes.InjectionError(f"{where}: {error}") from error
    if done.skipped:
        return document, [Told(where, f"not injected: {done.skipped}")]
    holder |= done.pod
    return made, [Told(where, text) for text in done.warnings]
