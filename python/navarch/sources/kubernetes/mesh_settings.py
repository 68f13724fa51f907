"""MeshConfig and MeshNetworks from a ConfigMap of the cluster, watched.

Source: istio `pkg/kube/..., pilot/pkg/bootstrap/mesh.go`: ConfigMap `istio`, of a revision `istio-REVISION`, in the
system namespace, with the keys `mesh` and `meshNetworks`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from navarch import records
from navarch.sources.kubernetes import discovery, reader

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from navarch.sources import base

_KIND: Final = "MeshConfigMap"


def name_of(revision: str) -> str:
    """Return the ConfigMap's name."""
    return "istio" if revision in ("", "default") else f"istio-{revision}"


class MeshSettings:
    """Is a source: of each key of the ConfigMap that is asked for, one object.

    A text that is no YAML is told, and what was read last stays in force.
    """

    def __init__(
        self,
        place: reader.Place,
        namespace: str,
        name: str,
        keys: Mapping[str, records.SourceKey],
        read_yaml: Callable[[str], object],
    ) -> None:
        """Take what is to be read.

        Args:
            place: The cluster.
            namespace: The system namespace.
            name: The ConfigMap.
            keys: Which object each key of its data is.
            read_yaml: Reads one document; raises ValueError.
        """
        selector = {"fieldSelector": f"metadata.name={name}"}
        wanted = discovery.Wanted("", "ConfigMap", ("v1",))
        kind = reader.Kind(_KIND, wanted, selector, namespace=namespace)
        self._reader = reader.KindReader(kind, place)
        self._subject = f"ConfigMap {namespace}/{name}"
        self._keys = keys
        self._read_yaml = read_yaml
        self._told: dict[records.SourceKey, records.RawObject] = {}
        self._sink: base.Sink | None = None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self._reader.name

    def run(self, sink: base.Sink, stop: threading.Event) -> None:
        """Read and watch until `stop` is set."""
        self._sink = sink
        self._reader.run(self, stop)

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        """Take what the ConfigMap's reader tells; pass on what is in it."""
        made: list[records.SourceEvent] = []
        for event in events:
            if event.type is records.EventType.APPLY and event.object is not None:
                made += self._take(event.object.text)
            elif event.type is records.EventType.DELETE:
                self._told.clear()
                kind = records.EventType.DELETE
                made += [records.SourceEvent(kind, key) for key in self._keys.values()]
            else:
                made.append(event)
        self._to_sink().emit(source, made)

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:
        """Pass a report on."""
        self._to_sink().report(source, subject, diagnostics)

    def _to_sink(self) -> base.Sink:
        if self._sink is None:
            raise RuntimeError("events before the run")
        return self._sink

    def _take(self, text: bytes) -> list[records.SourceEvent]:
        data = json.loads(text).get("data") or {}
        made = []
        for name, key in self._keys.items():
            subject = f"{self._subject}, key {name}"
            faults = []
            try:
                value = self._read_yaml(data[name]) if name in data else None
                if not isinstance(value, dict | None):
                    raise ValueError("it is no mapping of fields")  # noqa: TRY004, TRY301  as the other faults
                if name in data:
                    origin = records.Origin(self.name, subject)
                    self._told[key] = records.RawObject(key, value or {}, origin)
                else:
                    self._told.pop(key, None)
            except ValueError as error:
                message = f"{subject}: {error}; what was read last stays in force"
                origin = records.Origin(self.name, subject)
                faults = [records.Diagnostic("invalid-yaml", message, key=key, origin=origin)]
            self.report(self.name, subject, faults)
            if (held := self._told.get(key)) is not None:
                made.append(records.SourceEvent(records.EventType.APPLY, key, held))
            else:
                made.append(records.SourceEvent(records.EventType.DELETE, key))
        return made
