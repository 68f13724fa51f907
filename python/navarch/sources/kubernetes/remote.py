"""Remote clusters: one for each kubeconfig in a labelled Secret, added, changed and removed at run time.

Source: istio `pkg/kube/multicluster/secretcontroller.go`; the form is that of `istioctl create-remote-secret`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Final

from navarch import records
from navarch.runtime import supervisor
from navarch.sources.kubernetes import client, cluster, discovery, reader

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from navarch.sources import base

_log = logging.getLogger(__name__)

SYNC_SECONDS: Final = 30.0
"""How long the first push waits for a remote cluster (Istio's PILOT_REMOTE_CLUSTER_TIMEOUT)."""
_LABEL: Final = "istio/multiCluster=true"
_JOIN_SECONDS: Final = 5.0


@dataclasses.dataclass(slots=True)
class _Running:
    """A remote cluster that is read, by whose Secret."""

    secret: records.SourceKey
    document: str
    cluster: cluster.Cluster
    workers: supervisor.Supervisor


class RemoteClusters:
    """Is the source of the clusters' Secrets, and runs the readers of the clusters that they name.

    Its methods are called by the thread of its run alone, save `clusters`.
    """

    def __init__(
        self,
        own: cluster.Cluster,
        namespace: str,
        kinds: Sequence[reader.Kind],
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        wanted = discovery.Wanted("", "Secret", ("v1",))
        secrets = reader.Kind(
            "RemoteSecret", wanted, {"labelSelector": _LABEL}, namespace=namespace
        )
        self._reader = reader.KindReader(secrets, own.place)
        self._own_name = own.name
        self._scanner = own.place.scanner
        self._selection = own.place.selection
        self._kinds = kinds
        self._sync_seconds = sync_seconds
        self._running: dict[str, _Running] = {}
        self._listed: set[records.SourceKey] | None = None
        self._sink: base.GrowingSink | None = None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self._reader.name

    def clusters(self) -> list[cluster.Cluster]:
        """Return the clusters that are read now."""
        return [each.cluster for _, each in sorted(self._running.items())]

    def run(self, sink: base.GrowingSink, stop: threading.Event) -> None:
        """Follow the Secrets until `stop` is set, then end the readers of all clusters."""
        self._sink = sink
        try:
            self._reader.run(self, stop)
        finally:
            if stop.is_set():
                for each in self._running.values():
                    each.workers.stop(_JOIN_SECONDS)

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        """Take events of Secrets; tell the real sink only that a list was read."""
        for event in events:
            if event.type is records.EventType.INIT:
                self._listed = set()
            elif event.type is records.EventType.APPLY and event.object is not None:
                if self._listed is not None:
                    self._listed.add(event.object.key)
                self._take(event.object)
            elif event.type is records.EventType.DELETE and event.key is not None:
                self._drop(event.key, {})
            elif self._listed is not None:
                secrets = {each.secret for each in self._running.values()}
                for gone in sorted(secrets - self._listed):
                    self._drop(gone, {})
                self._listed = None
                kinds = (records.EventType.INIT, records.EventType.INIT_DONE)
                self._to_sink().emit(source, [records.SourceEvent(each) for each in kinds])

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        """Pass a report on."""
        self._to_sink().report(source, subject, diagnostics)

    def _to_sink(self) -> base.GrowingSink:
        if self._sink is None:
            raise RuntimeError("events before the run")
        return self._sink

    def _take(self, secret: records.RawObject) -> None:
        """Bring the clusters of one Secret to what it says now."""
        faults: list[records.Diagnostic] = []

        def fault(text: str) -> None:
            place = f"Secret {secret.key.namespace}/{secret.key.name}"
            message = f"{place}: {text}"
            origin = records.Origin(self.name)
            faults.append(records.Diagnostic("invalid-remote-cluster", message, origin=origin))

        documents = _read_secret(secret.text, fault)
        self._drop(secret.key, documents)
        for name, document in sorted(documents.items()):
            running = self._running.get(name)
            if name == self._own_name:
                fault(f"`{name}` is the name of the cluster that navarch reads its rules from")
            elif running is not None and running.secret != secret.key:
                fault(f"cluster `{name}` is given by Secret {running.secret.name} already")
            elif running is None or running.document != document:
                self._start(name, secret.key, document)
        self.report(self.name, str(secret.key), faults)

    def _drop(self, secret: records.SourceKey, kept: dict[str, str]) -> None:
        """Forget the clusters of a Secret, save those that it still names."""
        for name, each in sorted(self._running.items()):
            if each.secret == secret and name not in kept:
                del self._running[name]
                each.workers.stop(_JOIN_SECONDS)
                _log.info("cluster %s is no longer read", name)
                for source in each.cluster.readers:
                    kinds = (records.EventType.INIT, records.EventType.INIT_DONE)
                    told = [records.SourceEvent(kind) for kind in kinds]
                    self._to_sink().emit(source.name, told)
                    self._to_sink().report(f"kubernetes/{name}", source.kind_name, ())
                self._to_sink().report(f"kubernetes/{name}", "connection", ())
        if not kept:
            self.report(self.name, str(secret), ())

    def _start(self, name: str, secret: records.SourceKey, document: str) -> None:
        before = self._running.get(name)
        if before is not None:
            # What is known of it stays in force until the new readers have listed all.
            before.workers.stop(_JOIN_SECONDS)
        access = client.Access(document=document)
        role = cluster.Role(is_remote=True, selection=self._selection)
        made = cluster.Cluster(name, access, self._scanner, role)
        made.add_readers(self._kinds)
        workers = supervisor.Supervisor()
        sink = self._to_sink()
        for each in made.readers:
            sink.add_source(each.name)
            workers.start(f"source-{each.name}", _bound(each, sink))
        workers.start(f"sync-{name}", self._releaser(made, sink))
        self._running[name] = _Running(secret, document, made, workers)
        _log.info("cluster %s is read, by Secret %s/%s", name, secret.namespace, secret.name)

    def _releaser(
        self, made: cluster.Cluster, sink: base.GrowingSink
    ) -> Callable[[threading.Event], None]:
        """Return a worker that lets the first push go without the cluster when it takes too long."""

        def release(stop: threading.Event) -> None:
            if not stop.wait(self._sync_seconds):
                for each in made.readers:
                    sink.release_source(each.name)

        return release


def _bound(each: reader.KindReader, sink: base.Sink) -> Callable[[threading.Event], None]:
    return lambda stop: each.run(sink, stop)


def _read_secret(text: bytes, fault: Callable[[str], None]) -> dict[str, str]:
    """Return the kubeconfigs of a Secret by the names of their clusters."""
    made = {}
    for name, encoded in (json.loads(text).get("data") or {}).items():
        try:
            made[name] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            fault(f"the kubeconfig of cluster `{name}` is no text: {error}")
    return made
