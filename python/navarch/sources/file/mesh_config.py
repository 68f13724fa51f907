"""The file of the mesh configuration as a source of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from navarch import errors, records
from navarch.runtime import clock
from navarch.sources.file import files, watch, yaml_reader

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from navarch.sources import base

KEY: Final = records.SourceKey("MeshConfig", "", "mesh")
RESCAN_SECONDS: Final = 10.0
_MAX_WAIT_SECONDS: Final = 0.5


def read_body(path: Path) -> Mapping[str, Any]:
    """Return the fields of the mesh configuration; an empty file has none.

    Raises:
        errors.CrdError: The file can't be read, or is no mapping.
    """
    origin = records.Origin("mesh-config", str(path), 1)
    try:
        value = yaml_reader.read_document(files.read_text(path))
    except files.UnreadableFileError as error:
        fault = records.Diagnostic("unreadable-file", str(error), key=KEY, origin=origin)
        raise errors.CrdError([fault]) from error
    except yaml_reader.UnreadableError as error:
        where = records.Origin("mesh-config", str(path), error.line + 1)
        fault = records.Diagnostic("invalid-yaml", error.message, key=KEY, origin=where)
        raise errors.CrdError([fault]) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        message = "a mesh configuration is a mapping of its fields"
        raise errors.CrdError([records.Diagnostic("wrong-type", message, key=KEY, origin=origin)])
    return value


class MeshConfigSource:
    """Reads and watches the file of the mesh configuration; a file that can't be read changes nothing."""

    def __init__(self, path: Path, *, time: clock.Clock | None = None) -> None:
        self._path = path.absolute()
        self._clock = time or clock.SystemClock()
        self._told: Mapping[str, Any] | None = None
        self._signature: files.Signature | None = None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return "mesh-config"

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
            body = read_body(self._path)
        except errors.CrdError as error:
            sink.report(self.name, str(self._path), error.diagnostics)
            return
        sink.report(self.name, str(self._path), ())
        if body == self._told:
            return
        self._told = body
        made = records.RawObject(KEY, body, records.Origin(self.name, str(self._path), 1))
        sink.emit(self.name, [records.SourceEvent(records.EventType.APPLY, KEY, made)])
