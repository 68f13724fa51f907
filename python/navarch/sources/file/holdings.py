"""What the files hold, and which file speaks for an object that several give (no I/O, no clock).

The first by path wins, then the first in the file. When the winner goes, the next one comes in force.
"""

from __future__ import annotations

import bisect
import dataclasses
from typing import TYPE_CHECKING

from navarch import records

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from navarch.sources.file import files


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One object of one file, without its body; equal entries need not be told again."""

    key: records.SourceKey
    line: int
    age: int
    digest: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One document as last read; one with the same digest and the same `age` need not be parsed again.

    Attributes:
        digest: Hash of its text.
        line: 1-based line of its first content.
        age: How many objects of the mesh's groups stand before it in the file.
        n_mesh: How many such objects are in it.
        entries: Its objects.
        diagnostics: What is wrong with it.
        lost: Objects in it that can't be read but can be named.
        is_blind: Whether there may be more that can't be read.
    """

    digest: bytes
    line: int
    age: int
    n_mesh: int
    entries: tuple[Entry, ...]
    diagnostics: tuple[records.Diagnostic, ...]
    lost: tuple[records.SourceKey, ...]
    is_blind: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """One file as last read.

    Attributes:
        signature: The state of the file that was read; None where it must be read again.
        sections: Its documents.
        entries: Its objects in order, earlier ones that broken documents may stand for at the end.
        diagnostics: What is wrong with it as a whole and with its documents.
    """

    signature: files.Signature | None
    sections: tuple[Section, ...] = ()
    entries: tuple[Entry, ...] = ()
    diagnostics: tuple[records.Diagnostic, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Winner:
    """The entry that speaks for its key, and its file."""

    path: Path
    entry: Entry


class Holdings:
    """All files, and for each key the places that claim it."""

    def __init__(self) -> None:
        self._files: dict[Path, Holding] = {}
        # Sorted, so that the first is the winner.
        self._claims: dict[records.SourceKey, list[tuple[Path, int]]] = {}

    def find(self, path: Path) -> Holding | None:
        """Return what is known of a file."""
        return self._files.get(path)

    def paths(self) -> Iterable[Path]:
        """Return the files that are known."""
        return self._files.keys()

    def replace(self, path: Path, holding: Holding | None) -> set[records.SourceKey]:
        """Put a file's new state (None: it is gone) in place; return the keys whose winner may be another now."""
        touched = set()
        old = self._files.pop(path, None)
        if old is not None:
            for i, entry in enumerate(old.entries):
                touched.add(entry.key)
                claims = self._claims[entry.key]
                claims.remove((path, i))
                if not claims:
                    del self._claims[entry.key]
        if holding is not None:
            self._files[path] = holding
            for i, entry in enumerate(holding.entries):
                touched.add(entry.key)
                bisect.insort(self._claims.setdefault(entry.key, []), (path, i))
        return touched

    def find_winner(self, key: records.SourceKey) -> Winner | None:
        """Return the place that speaks for a key, None where no file has it."""
        claims = self._claims.get(key)
        if not claims:
            return None
        path, i = claims[0]
        return Winner(path, self._files[path].entries[i])

    def keys(self) -> set[records.SourceKey]:
        """Return all keys that any file has."""
        return set(self._claims)

    def describe_duplicates(self, key: records.SourceKey) -> list[records.Diagnostic]:
        """Tell of each place that gives a key in vain, naming the place that wins."""
        claims = self._claims.get(key, [])
        if not claims:
            return []
        winner_path, winner_at = claims[0]
        winner = f"{winner_path}:{self._files[winner_path].entries[winner_at].line}"
        told = []
        for path, at in claims[1:]:
            origin = records.Origin("file", str(path), self._files[path].entries[at].line)
            message = (
                f"the object is given at {winner} too, which is in force; remove one of the two"
            )
            told.append(records.Diagnostic("duplicate-object", message, key=key, origin=origin))
        return told
