"""Files of settings of the whole mesh, each a source of one object: the mesh configuration and the networks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, records
from navarch.runtime import clock
from navarch.sources.file import files, watch, yaml_reader

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from navarch.sources import base

RESCAN_SECONDS: Final = 10.0
_MAX_WAIT_SECONDS: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What a file of settings holds.

    Attributes:
        source: The source's name.
        key: The one object that the file gives.
        noun: What it is, in messages.
    """

    source: str
    key: records.SourceKey
    noun: str


MESH_CONFIG: Final = Subject(
    "mesh-config", records.SourceKey("MeshConfig", "", "mesh"), "a mesh configuration"
)
MESH_NETWORKS: Final = Subject(
    "mesh-networks", records.SourceKey("MeshNetworks", "", "mesh"), "a file of the mesh's networks"
)


def read_object(subject: Subject, path: Path) -> records.RawObject:
    """Return the object with the fields that stand at the file's top level; an empty file has none.

    Raises:
        errors.CrdError: The file can't be read, or is no mapping.
    """
    origin = records.Origin(subject.source, str(path), 1)
    try:
        value = yaml_reader.read_document(files.read_text(path))
    except files.UnreadableFileError as error:
        fault = records.Diagnostic("unreadable-file", str(error), key=subject.key, origin=origin)
        raise errors.CrdError([fault]) from error
    except yaml_reader.UnreadableError as error:
        where = records.Origin(subject.source, str(path), error.line + 1)
        fault = records.Diagnostic("invalid-yaml", error.message, key=subject.key, origin=where)
        raise errors.CrdError([fault]) from error
    body = {} if value is None else value
    if not isinstance(body, dict):
        message = f"{subject.noun} is a mapping of its fields"
        fault = records.Diagnostic("wrong-type", message, key=subject.key, origin=origin)
        raise errors.CrdError([fault])
    return records.RawObject(subject.key, body, origin)


class MeshSettingsSource:
    """Reads and watches one file of settings; a file that can't be read changes nothing."""

    def __init__(self, subject: Subject, path: Path, *, time: clock.Clock | None = None) -> None:
        self._subject = subject
        self._path = path.absolute()
        self._clock = time or clock.SystemClock()
        self._told: Mapping[str, Any] | None = None
        self._signature: files.Signature | None = None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self._subject.source

    def run(self, sink: base.Sink, stop: threading.Event) -> None:
        """Tell the file's content, then its changes, until `stop` is set."""
        with watch.Watcher([self._path]) as watcher:
            self._told = None
            sink.emit(self.name, [records.SourceEvent(records.EventType.INIT)])
            self._refresh(sink)
            sink.emit(self.name, [records.SourceEvent(records.EventType.INIT_DONE)])
            settling = watch.Settling()
            next_look = self._clock.now() + RESCAN_SECONDS
            while not stop.is_set():
                due = min([next_look, *settling.dues()]) - self._clock.now()
                look = watcher.wait(min(max(0.0, due), _MAX_WAIT_SECONDS))
                watcher.check()
                now = self._clock.now()
                settling.note(look, now)
                is_late = now >= next_look and files.find_signature(self._path) != self._signature
                if look.at_once or look.is_everything or settling.take_due(now) or is_late:
                    self._refresh(sink)
                if now >= next_look:
                    next_look = now + RESCAN_SECONDS

    def _refresh(self, sink: base.Sink) -> None:
        self._signature = files.find_signature(self._path)
        try:
            made = read_object(self._subject, self._path)
        except errors.CrdError as error:
            sink.report(self.name, str(self._path), error.diagnostics)
            return
        sink.report(self.name, str(self._path), ())
        if made.body == self._told:
            return
        self._told = made.body
        sink.emit(self.name, [records.SourceEvent(records.EventType.APPLY, made.key, made)])
