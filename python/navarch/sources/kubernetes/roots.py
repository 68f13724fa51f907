"""Keeps the mesh's root certificates in each namespace, where Pods mount them.

Source: istio `security/pkg/k8s/controller` and `pilot/pkg/bootstrap/namespacecontroller.go`: ConfigMap
`istio-ca-root-cert`, key `root-cert.pem`.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, records
from navarch.runtime import backoff, clock
from navarch.sources.kubernetes import client, discovery, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from navarch.sources.kubernetes import lease

_log = logging.getLogger(__name__)

NAME: Final = "istio-ca-root-cert"
KEY: Final = "root-cert.pem"
_LABEL: Final = {"istio.io/config": "true"}
_LEFT_OUT: Final = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_LOOK_SECONDS: Final = 1.0
_CONFLICTS: Final = frozenset({403, 404, 409})
"""What a namespace that is going away answers, or one that another replica was quicker in."""


class RootCertificates:
    """Writes while the Lease is held; `workers` are to be run."""

    def __init__(
        self, place: reader.Place, hold: lease.Lease, find_roots: Callable[[], str]
    ) -> None:
        """Watch namespaces and ConfigMaps of this name, nothing else.

        Args:
            place: The cluster.
            hold: Who writes.
            find_roots: Returns the roots to trust, in PEM.
        """
        self._client = place.api
        self._lease = hold
        self._selection = place.selection
        self._find_roots = find_roots
        self._namespaces = _Seen()
        self._maps = _Seen()
        namespaces = reader.Kind("RootNamespace", discovery.Wanted("", "Namespace", ("v1",)))
        selector = {"fieldSelector": f"metadata.name={NAME}"}
        maps = reader.Kind("RootConfigMap", discovery.Wanted("", "ConfigMap", ("v1",)), selector)
        self._readers = [
            (reader.KindReader(namespaces, place), self._namespaces),
            (reader.KindReader(maps, place), self._maps),
        ]
        self._clock = clock.SystemClock()
        self._schedule = backoff.Backoff()

    def workers(self) -> list[tuple[str, Callable[[threading.Event], None]]]:
        """Return what is to be run, with names."""
        made: list[tuple[str, Callable[[threading.Event], None]]] = [("roots", self.run)]
        for each, seen in self._readers:
            made.append((f"roots-{each.kind_name}", _bound(each, seen)))
        return made

    def run(self, stop: threading.Event) -> None:
        """Write what is missing or different until `stop` is set."""
        n_failures = 0
        while not self._clock.wait(stop, _LOOK_SECONDS):
            if not (self._lease.is_held and self._namespaces.is_listed and self._maps.is_listed):
                continue
            try:
                self._write_all(stop)
                n_failures = 0
            except errors.SourceError as error:
                n_failures += 1
                if not stop.is_set():
                    _log.warning("root certificates can't be written: %s", error)
                self._clock.wait(stop, self._schedule.delay_seconds(n_failures, 1.0))

    def _write_all(self, stop: threading.Event) -> None:
        roots = self._find_roots()
        known = {key.namespace: text for key, text in self._maps.objects().items()}
        for key, text in sorted(self._namespaces.objects().items()):
            if stop.is_set() or not self._lease.is_held:
                return
            if self._counts(key.name, json.loads(text)):
                self._write(key.name, known.get(key.name), roots)

    def _counts(self, name: str, namespace: Mapping[str, Any]) -> bool:
        """Return whether a namespace is to have the roots; one that counts no more keeps those it has."""
        is_ending = (namespace.get("status") or {}).get("phase") == "Terminating"
        if name in _LEFT_OUT or is_ending:
            return False
        labels = namespace["metadata"].get("labels") or {}
        return self._selection is None or self._selection.is_chosen(name, labels)

    def _write(self, namespace: str, known: bytes | None, roots: str) -> None:
        if known is not None and (json.loads(known).get("data") or {}).get(KEY) == roots:
            return
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        frame = {"apiVersion": "v1", "kind": "ConfigMap", "data": {KEY: roots}}
        body = frame | {"metadata": {"name": NAME, "namespace": namespace, "labels": _LABEL}}
        try:
            if known is None:
                self._client.write(client.Request("POST", path, body=body))
            else:
                self._client.write(client.Request("PUT", f"{path}/{NAME}", body=body))
        except errors.ApiError as error:
            if error.status not in _CONFLICTS:
                raise
            _log.debug("roots of namespace %s: %s", namespace, error)


class _Seen:
    """A sink that keeps what a reader tells."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[records.SourceKey, bytes] = {}
        self._unlisted: set[records.SourceKey] = set()
        self.is_listed = False

    def objects(self) -> dict[records.SourceKey, bytes]:
        """Return what is there now."""
        with self._lock:
            return dict(self._objects)

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:  # noqa: ARG002  there is one
        """Take events."""
        with self._lock:
            for event in events:
                self._take(event)

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        """Log what the reader says is wrong."""
        for told in diagnostics:
            _log.warning("%s: %s: %s", source, subject, told)

    def _take(self, event: records.SourceEvent) -> None:
        if event.type is records.EventType.INIT:
            self._unlisted = set(self._objects)
        elif event.type is records.EventType.INIT_DONE:
            for key in self._unlisted:
                self._objects.pop(key, None)
            self._unlisted = set()
            self.is_listed = True
        elif event.type is records.EventType.APPLY and event.object is not None:
            self._objects[event.object.key] = event.object.text
            self._unlisted.discard(event.object.key)
        elif event.key is not None:
            self._objects.pop(event.key, None)


def _bound(each: reader.KindReader, seen: _Seen) -> Callable[[threading.Event], None]:
    return lambda stop: each.run(seen, stop)
