"""The file source: tells what the files hold, then what changes in them."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, records
from navarch.runtime import clock
from navarch.sources.file import files, holdings, reading, watch

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from navarch.sources import base

RESCAN_SECONDS: Final = 10.0
"""How often everything is looked at without an event: network file systems and far ends of symlinks give none."""
REMOVAL_SECONDS: Final = 0.1
"""How long an object must be gone before it counts as deleted: editors and moves between files leave a gap."""
_FIRST_CREATION: Final = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)
_N_EVENTS_AT_ONCE: Final = 500
_MAX_WAIT_SECONDS: Final = 0.5
_SELF: Final = "the source itself"

_Bodies = dict[tuple["Path", records.SourceKey], "Mapping[str, Any]"]


class FileSource:
    """Reads and watches directories (with all below them) and single files.

    Its state outlives a failed run, and belongs to the thread of the run.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        catalog: base.Catalog,
        *,
        name: str = "file",
        time: clock.Clock | None = None,
    ) -> None:
        self._name = name
        self._roots = [root.absolute() for root in roots]
        self._catalog = catalog
        self._clock = time or clock.SystemClock()
        self._holdings = holdings.Holdings()
        self._told: dict[records.SourceKey, tuple[Path, bytes, int]] = {}
        self._removals: dict[records.SourceKey, float] = {}
        self._duplicates: dict[records.SourceKey, list[records.Diagnostic]] = {}

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self._name

    def read_once(self, sink: base.Sink) -> None:
        """Tell all that is there, and watch nothing.

        Raises:
            errors.SourceError: A root can't be read.
        """
        self._list(sink)

    def run(self, sink: base.Sink, stop: threading.Event) -> None:
        """Read all, then follow the changes until `stop` is set."""
        try:
            # The watch is set before the scan: what changes between them is seen twice, never missed.
            with watch.Watcher(self._roots) as watcher:
                self._list(sink)
                self._follow(watcher, sink, stop)
        except errors.SourceError as error:
            message = f"{error}; what was read before stays in force"
            fault = records.Diagnostic(
                "source-unavailable", message, origin=records.Origin(self._name)
            )
            sink.report(self._name, _SELF, [fault])
            raise

    def _list(self, sink: base.Sink) -> None:
        """Tell all that is there between INIT and INIT_DONE."""
        found = self._scan()
        changed = self._find_changed(found)
        events = [records.SourceEvent(records.EventType.INIT)]
        self._told.clear()
        self._removals.clear()
        # In the order of paths each file knows at once whether it wins, and no two need be in memory.
        for path in sorted(found.keys() | changed):
            bodies: _Bodies = {}
            if path in changed:
                self._replace(path, bodies)
            holding = self._holdings.find(path)
            keys = {entry.key for entry in holding.entries} if holding else set()
            events += self._tell(keys, bodies)
            self._report([path], keys, sink)
            if len(events) >= _N_EVENTS_AT_ONCE:
                sink.emit(self._name, events)
                events = []
        sink.report(self._name, _SELF, ())
        sink.emit(self._name, [*events, records.SourceEvent(records.EventType.INIT_DONE)])

    def _follow(self, watcher: watch.Watcher, sink: base.Sink, stop: threading.Event) -> None:
        """Tell what changes until `stop` is set."""
        next_scan = self._clock.now() + RESCAN_SECONDS
        settling = watch.Settling()
        while not stop.is_set():
            dues = [next_scan, *settling.dues(), *self._removals.values()]
            look = watcher.wait(min(max(0.0, min(dues) - self._clock.now()), _MAX_WAIT_SECONDS))
            watcher.check()
            now = self._clock.now()
            settling.note(look, now)
            paths = look.at_once | settling.take_due(now)
            if look.is_everything or now >= next_scan:
                paths |= self._find_changed(self._scan())
                next_scan = now + RESCAN_SECONDS
            if paths:
                self._refresh(paths, sink)
            self._confirm_removals(sink)

    def _scan(self) -> dict[Path, files.Signature]:
        try:
            return files.scan(self._roots)
        except OSError as error:
            where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise errors.SourceError(f"can't read {where}", is_retryable=True) from error

    def _require_roots(self) -> None:
        for root in self._roots:
            if not root.exists():
                raise errors.SourceError(f"{root} is gone", is_retryable=True)

    def _find_changed(self, found: Mapping[Path, files.Signature]) -> set[Path]:
        """Return the files that differ from what was read, those that are gone among them."""
        changed = set(self._holdings.paths()) - found.keys()
        for path, signature in found.items():
            holding = self._holdings.find(path)
            if holding is None or holding.signature != signature:
                changed.add(path)
        return changed

    def _refresh(self, paths: Iterable[Path], sink: base.Sink) -> None:
        """Read files again, whatever their signature says (a clock tick holds many writes), and tell."""
        bodies: _Bodies = {}
        touched: set[records.SourceKey] = set()
        for path in paths:
            touched |= self._replace(path, bodies)
        events = self._tell(touched, bodies)
        if events:
            sink.emit(self._name, events)
        self._report(paths, touched, sink)

    def _replace(self, path: Path, bodies: _Bodies) -> set[records.SourceKey]:
        """Read a file anew, or forget it where it is gone; return the keys that may have changed."""
        if files.find_signature(path) is None:
            return self._holdings.replace(path, None)
        read = reading.read_file(path, self._holdings.find(path), self._catalog)
        bodies.update({(path, key): body for key, body in read.bodies.items()})
        return self._holdings.replace(path, read.holding)

    def _tell(
        self, keys: Iterable[records.SourceKey], bodies: _Bodies
    ) -> list[records.SourceEvent]:
        """Return an APPLY for each winner that differs from what was told, and note keys that are gone."""
        due = self._clock.now() + REMOVAL_SECONDS
        wanted: list[holdings.Winner] = []
        for key in keys:
            winner = self._holdings.find_winner(key)
            if winner is None:
                if key in self._told:
                    self._removals.setdefault(key, due)
                continue
            self._removals.pop(key, None)
            entry = winner.entry
            if self._told.get(key) != (winner.path, entry.digest, entry.age):
                wanted.append(winner)
        events = []
        for winner in sorted(wanted, key=lambda each: (each.path, each.entry.line)):
            entry = winner.entry
            body = self._find_body(winner.path, entry, bodies)
            if body is None:
                continue
            self._told[entry.key] = (winner.path, entry.digest, entry.age)
            origin = records.Origin(self._name, str(winner.path), entry.line)
            made = records.RawObject(entry.key, _with_creation(body, entry.age), origin)
            events.append(records.SourceEvent(records.EventType.APPLY, entry.key, made))
        return events

    def _find_body(
        self, path: Path, entry: holdings.Entry, bodies: _Bodies
    ) -> Mapping[str, Any] | None:
        """Return an object's body; reads its file in full where this round has not parsed it.

        None where the file was changed under our hands: its own event brings the object.
        """
        if (path, entry.key) not in bodies:
            read = reading.read_file(path, None, self._catalog)
            for key, body in read.bodies.items():
                bodies.setdefault((path, key), body)
        return bodies.get((path, entry.key))

    def _confirm_removals(self, sink: base.Sink) -> None:
        now = self._clock.now()
        gone = sorted(key for key, due in self._removals.items() if due <= now)
        if gone:
            # A root that went away with all its files was unmounted or moved: nobody deleted objects.
            self._require_roots()
        for key in gone:
            del self._removals[key]
            del self._told[key]
        if gone:
            deletes = [records.SourceEvent(records.EventType.DELETE, key) for key in gone]
            sink.emit(self._name, deletes)

    def _report(
        self, paths: Iterable[Path], keys: Iterable[records.SourceKey], sink: base.Sink
    ) -> None:
        """Report on files that were read and on keys whose places changed."""
        for path in paths:
            holding = self._holdings.find(path)
            sink.report(self._name, str(path), holding.diagnostics if holding else ())
        for key in keys:
            told = self._holdings.describe_duplicates(key)
            if told or key in self._duplicates:
                sink.report(self._name, str(key), told)
            if told:
                self._duplicates[key] = told
            else:
                self._duplicates.pop(key, None)


def _with_creation(body: Mapping[str, Any], age: int) -> Mapping[str, Any]:
    """Give an object of the mesh that has no creation time one that follows its place in the file.

    Istio breaks ties between objects by age, so the order of a file must be an order of ages.
    """
    metadata = body["metadata"]
    if age < 0 or metadata.get("creationTimestamp"):
        return body
    made = _FIRST_CREATION + datetime.timedelta(seconds=age)
    dated = {**metadata, "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {**body, "metadata": dated}
