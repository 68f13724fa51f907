"""One cluster: its API server, and a reader for each kind."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from navarch.sources.kubernetes import client, discovery, health, reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from navarch.sources import base
    from navarch.sources.kubernetes import scan, selection

_SELECTORS: Final = {
    # Such Pods have no address.
    "Pod": {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"},
    # Those hold releases and tokens, many and large, and no certificate
    # (istio `pilot/pkg/credentials/kube/secrets.go`).
    "Secret": {
        "fieldSelector": "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"
    },
}
_UNREAD: Final = frozenset({"ServiceAccount"})
"""Kinds that files may hold and the mesh does not need."""
_REMOTE_KINDS: Final = frozenset({"EndpointSlice", "Namespace", "Node", "Pod", "Service"})
"""What is read of clusters whose rules don't count."""
_REVISION_GROUPS: Final = (".istio.io", "gateway.networking.k8s.io")


def select_kinds(catalog: base.Catalog, *, is_remote: bool) -> list[reader.Kind]:
    """Choose what is read of a cluster, in a fixed order."""
    made = []
    for (group, written_kind), entry in sorted(catalog.kinds.items()):
        if entry.key_kind in _UNREAD or (is_remote and entry.key_kind not in _REMOTE_KINDS):
            continue
        wanted = discovery.Wanted(group, written_kind, entry.versions)
        selectors = _SELECTORS.get(entry.key_kind, {})
        has_revisions = group.endswith(_REVISION_GROUPS)
        made.append(
            reader.Kind(
                entry.key_kind,
                wanted,
                selectors,
                has_revisions,
                is_selected=entry.is_namespaced,
            )
        )
    return made


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    """What a cluster is to the mesh.

    Attributes:
        is_remote: Whether its rules don't count.
        revision: Of this control plane.
        selection: Which namespaces count; None for all.
    """

    is_remote: bool = False
    revision: str = "default"
    selection: selection.Selection | None = None


class Cluster:
    """A cluster that is read; `readers` are its sources."""

    def __init__(
        self, name: str, access: client.Access, scanner: scan.Scanner, role: Role | None = None
    ) -> None:
        role = role or Role()
        self.name = name
        self.api = client.Client(access)
        self.resources = discovery.Discovery(self.api)
        self.health = health.Health(name)
        self.place = reader.Place(
            cluster=name if role.is_remote else "",
            name=name,
            api=self.api,
            resources=self.resources,
            scanner=scanner,
            health=self.health,
            revision=role.revision,
            selection=role.selection,
        )
        self.readers: list[reader.KindReader] = []

    def add_readers(self, kinds: Iterable[reader.Kind]) -> None:
        """Make a reader for each kind."""
        self.readers += [reader.KindReader(kind, self.place) for kind in kinds]
