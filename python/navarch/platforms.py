"""The chosen platforms as sources and writers, with their figures: settings in, workers out; no logic of its own."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Any, Final

from navarch import core, records, settings
from navarch.ingest import reader
from navarch.ops import metrics
from navarch.runtime import mailbox
from navarch.sources.file import mesh_settings, source, yaml_reader

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from navarch.runtime import histogram
    from navarch.sources import base
    from navarch.sources.kubernetes import cluster, lease, remote, reviews, selection

_MAX_STATUSES: Final = 100_000
_Statuses = mailbox.Mailbox[records.SourceKey, dict[str, Any]]


class Platforms:
    """What is read; `sources`, `growing` and `writers` are to be run."""

    def __init__(self, told: settings.Settings) -> None:
        self.sources: list[base.Source] = []
        self.growing: list[base.GrowingSource] = []
        self._remote: remote.RemoteClusters | None = None
        self.cluster: cluster.Cluster | None = None
        self.reviewer: reviews.KubernetesReviewer | None = None
        self._lease: lease.Lease | None = None
        """Of what belongs to no revision."""
        self._selection: selection.Selection | None = None
        self._mesh_source = mesh_settings.MESH_CONFIG.source
        self.writers: list[tuple[str, Callable[[threading.Event], None]]] = []
        self.statuses: _Statuses = mailbox.Mailbox(_MAX_STATUSES)
        self.health: _Statuses = mailbox.Mailbox(_MAX_STATUSES)
        catalog = reader.catalog()
        if settings.FILE in told.platforms:
            self.sources.append(source.FileSource(told.config_dirs, catalog))
        if settings.KUBERNETES in told.platforms:
            self._add_kubernetes(told, catalog)

    def _add_kubernetes(self, told: settings.Settings, catalog: base.Catalog) -> None:
        # The official client takes a second and 35 MB that commands and meshes of files need not spend.
        from navarch.sources.kubernetes import (  # noqa: PLC0415
            client,
            cluster,
            lease,
            remote,
            reviews,
            scan,
            selection,
            status,
        )

        scanner = scan.Scanner(core.read_watch_lines, core.read_list_page)
        access = client.Access(told.kubeconfig, told.context)
        self._selection = selection.Selection()
        role = cluster.Role(revision=told.revision, selection=self._selection)
        made = cluster.Cluster(told.cluster_id, access, scanner, role)
        self._add_mesh_settings(told, made)
        made.add_readers(cluster.select_kinds(catalog, is_remote=False))
        kinds = cluster.select_kinds(catalog, is_remote=True)
        self._remote = remote.RemoteClusters(
            made, told.system_namespace, kinds, told.remote_sync_seconds
        )
        self.cluster = made
        self.reviewer = reviews.KubernetesReviewer(made.api)
        self.sources += made.readers
        self.growing.append(self._remote)
        # Of its own, for the cluster's ends with the readers, before Leases are given up.
        holder, identity = client.Client(access), _identity()
        own, shared = (
            lease.Lease(holder, told.system_namespace, name, identity)
            for name in (f"navarch-writer-{told.revision}", "navarch-writer")
        )
        self._lease = shared
        named = {kind.key_kind: kind for kind in cluster.select_kinds(catalog, is_remote=False)}
        holds = status.Holds(told.revision, own, shared)
        writer = status.StatusWriter(made.place, named, holds, self.statuses)
        scribe = status.StatusWriter(made.place, named, status.Unshared(), self.health)
        self.writers += [
            ("lease", own.run),
            ("lease-shared", shared.run),
            ("status", writer.run),
            ("health", scribe.run),
        ]

    def _add_mesh_settings(self, told: settings.Settings, made: cluster.Cluster) -> None:
        """Read the ConfigMap for what no file is named."""
        from navarch.sources.kubernetes import (  # noqa: PLC0415  as above
            mesh_settings as in_cluster,
        )

        keys = {}
        if told.mesh_config is None:
            keys["mesh"] = mesh_settings.MESH_CONFIG.key
        if told.mesh_networks is None:
            keys["meshNetworks"] = mesh_settings.MESH_NETWORKS.key
        if keys:
            name = in_cluster.name_of(told.revision)
            found = in_cluster.MeshSettings(
                made.place, told.system_namespace, name, keys, _read_yaml
            )
            self.sources.append(found)
            if told.mesh_config is None:
                self._mesh_source = found.name

    def note(
        self, source_name: str, event: records.SourceEvent, changes: Sequence[records.Change]
    ) -> None:
        """Tell the readers what the mesh configuration selects, as soon as it is known."""
        if self._selection is None:
            return
        for change in changes:
            if change.key == mesh_settings.MESH_CONFIG.key and change.payload is not None:
                self._selection.note_mesh(change.payload)
        if event.type is records.EventType.INIT_DONE and source_name == self._mesh_source:
            self._selection.note_known()

    def add_roots(self, find_roots: Callable[[], str]) -> None:
        """Keep the mesh's roots in each namespace of the cluster, if there is one."""
        if self.cluster is not None and self._lease is not None:
            from navarch.sources.kubernetes import roots  # noqa: PLC0415  as above

            made = roots.RootCertificates(self.cluster.place, self._lease, find_roots)
            self.writers += made.workers()

    def clusters(self) -> list[cluster.Cluster]:
        """Return all clusters that are read now."""
        own = [self.cluster] if self.cluster else []
        return own + (self._remote.clusters() if self._remote else [])

    def notes(self) -> list[str]:
        """Return what is not read just now, and why."""
        return [note for each in self.clusters() for note in each.health.notes()]

    def figures(self) -> list[metrics.Metric]:
        """Return the figures of each cluster and kind."""
        lists: dict[metrics.Labels, float] = {}
        events: dict[metrics.Labels, float] = {}
        ages: dict[metrics.Labels, float] = {}
        lags: dict[metrics.Labels, float] = {}
        reads: dict[metrics.Labels, histogram.Reading] = {}
        for each in self.clusters():
            reads[(("cluster", each.name),)] = each.health.reads.read()
            for kind, figures, age in each.health.all_figures():
                labels = (("cluster", each.name), ("kind", kind))
                lists[labels] = figures.n_lists
                events[labels] = figures.n_events
                ages[labels] = age
                lags[labels] = figures.lag_seconds
        if not lists:
            return []
        prefix = "navarch_kubernetes"
        return [
            metrics.Metric(f"{prefix}_lists_total", "counter", "Full lists read.", lists),
            metrics.Metric(f"{prefix}_events_total", "counter", "Batches of events read.", events),
            metrics.Metric(
                f"{prefix}_last_event_age_seconds",
                "gauge",
                "Age of the last event or bookmark, -1 before the first.",
                ages,
            ),
            metrics.Metric(
                f"{prefix}_reader_lag_seconds",
                "gauge",
                "How long the last events were held up by ingest.",
                lags,
            ),
            metrics.Metric(
                f"{prefix}_read_seconds",
                "histogram",
                "From the arrival of events to their handing over to ingest.",
                reads,
            ),
        ]


def _read_yaml(text: str) -> object:
    try:
        return yaml_reader.read_document(text)
    except yaml_reader.UnreadableError as error:
        raise ValueError(f"line {error.line + 1}: {error.message}") from error


def _identity() -> str:
    """Return a name of this process among the replicas: that of its Pod, and something of its own."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"
