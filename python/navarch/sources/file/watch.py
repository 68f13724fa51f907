"""The operating system's file events → which paths are worth a look, and how soon.

A file that was closed after writing, moved into place or removed is looked at at once. One that is still being written
is left a moment: its writer's closing brings the event that counts, and half a document may read as a valid one.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import watchdog.events
import watchdog.observers

from navarch import errors
from navarch.runtime import mailbox
from navarch.sources.file import files

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE_SECONDS: Final = 0.1
MAX_SETTLE_SECONDS: Final = 1.0
_CAPACITY: Final = 100_000
_EVERYTHING: Final = Path()


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Paths to look at; `is_everything` says that only a full scan will do."""

    at_once: frozenset[Path]
    settling: frozenset[Path]
    is_everything: bool


class Watcher:
    """Watches the roots; a context manager."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._waiting: mailbox.Mailbox[Path, bool] = mailbox.Mailbox(_CAPACITY)
        self._observer = watchdog.observers.Observer()
        # A file is watched through its directory: editors replace the file itself.
        self._places = {root if root.is_dir() else root.parent: root.is_dir() for root in roots}
        self._identities: dict[Path, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        handler = _Handler(self._roots, self._waiting)
        wanted: list[type[watchdog.events.FileSystemEvent]] = [
            watchdog.events.FileClosedEvent,
            watchdog.events.FileCreatedEvent,
            watchdog.events.FileDeletedEvent,
            watchdog.events.FileModifiedEvent,
            watchdog.events.FileMovedEvent,
            watchdog.events.DirCreatedEvent,
            watchdog.events.DirDeletedEvent,
            watchdog.events.DirMovedEvent,
        ]
        try:
            for place, is_recursive in self._places.items():
                self._identities[place] = _identity(place)
                self._observer.schedule(
                    handler, str(place), recursive=is_recursive, event_filter=wanted
                )
            self._observer.start()
        except OSError as error:
            raise errors.SourceError(f"can't watch: {error}", is_retryable=True) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()

    def check(self) -> None:
        """Make sure that what is watched is still what the roots name.

        Raises:
            errors.SourceError: A root's directory went away, or another is in its place.
        """
        for place, identity in self._identities.items():
            try:
                is_same = _identity(place) == identity
            except OSError as error:
                raise errors.SourceError(f"{place} is gone", is_retryable=True) from error
            if not is_same:
                raise errors.SourceError(f"{place} is another directory now", is_retryable=True)

    def wait(self, timeout_seconds: float) -> Look:
        """Wait for events; an empty look where none came in time."""
        taken = dict(self._waiting.take(timeout_seconds))
        is_everything = taken.pop(_EVERYTHING, False)
        return Look(
            frozenset(path for path, is_settled in taken.items() if is_settled),
            frozenset(path for path, is_settled in taken.items() if not is_settled),
            is_everything,
        )


class Settling:
    """Files that are being written, each with the moment from which on it is read all the same."""

    def __init__(self) -> None:
        self._since: dict[Path, float] = {}
        self._due: dict[Path, float] = {}

    def note(self, look: Look, now: float) -> None:
        """Take in what was seen: a file that was closed no longer settles."""
        for path in look.at_once:
            self._forget(path)
        for path in look.settling:
            since = self._since.setdefault(path, now)
            self._due[path] = min(now + SETTLE_SECONDS, since + MAX_SETTLE_SECONDS)

    def dues(self) -> list[float]:
        """Return the moments at which files are to be read."""
        return list(self._due.values())

    def take_due(self, now: float) -> frozenset[Path]:
        """Give the files that have settled, and forget them."""
        due = frozenset(path for path, at in self._due.items() if at <= now)
        for path in due:
            self._forget(path)
        return due

    def _forget(self, path: Path) -> None:
        self._since.pop(path, None)
        self._due.pop(path, None)


class _Handler(watchdog.events.FileSystemEventHandler):
    """Sorts events; runs in the observer's thread."""

    def __init__(self, roots: Sequence[Path], waiting: mailbox.Mailbox[Path, bool]) -> None:
        self._roots = roots
        self._waiting = waiting

    def on_any_event(self, event: watchdog.events.FileSystemEvent) -> None:
        paths = [Path(os.fsdecode(p)) for p in (event.src_path, event.dest_path) if p]
        below = [(path, parts) for path in paths if (parts := self._below(path)) is not None]
        visible = [(path, parts) for path, parts in below if not _is_hidden(parts)]
        if any(
            event.is_directory or any(p.startswith("..") for p in parts) for _, parts in visible
        ):
            # `..data` is what a mounted ConfigMap moves: all its files change at once.
            self._waiting.put([(_EVERYTHING, True)])
            return
        is_settled = event.event_type not in ("created", "modified")
        looks = [(path, is_settled) for path, _ in visible if files.has_suffix(path)]
        if looks:
            self._waiting.put(looks)

    def _below(self, path: Path) -> tuple[str, ...] | None:
        """Return the path's parts below its root; None where it lies beside a root that is a file."""
        for root in self._roots:
            if path == root:
                return (path.name,)
            if path.is_relative_to(root):
                return path.relative_to(root).parts
        return None


def _identity(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_dev, status.st_ino


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") and not part.startswith("..") for part in parts)
