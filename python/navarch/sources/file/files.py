"""Which files there are, whether they changed, and their text; all of the file source's reading is here."""

from __future__ import annotations

import dataclasses
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
_MAX_DEPTH: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What tells that a file was written or replaced: a symlink's target counts, not the link."""

    inode: int
    modified_ns: int
    changed_ns: int
    size: int


class UnreadableFileError(Exception):
    """A file whose text can't be had; the message says why."""


def scan(roots: Sequence[Path]) -> dict[Path, Signature]:
    """Find all files of the roots, a root that is a file as itself.

    Entries whose names begin with a dot are passed over: editors' leavings, and the directories behind the symlinks of
    a mounted ConfigMap (`..data`), whose files are seen through the links.

    Raises:
        OSError: A root is gone or can't be listed.
    """
    found: dict[Path, Signature] = {}
    for root in roots:
        status = root.stat()
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(root):
                # Opened for its error: a root that can't be listed must not look like an empty one.
                pass
            found.update(_walk(root, 0, set()))
        else:
            found[root] = _signature(status)
    return found


def _walk(
    directory: Path, depth: int, seen: set[tuple[int, int]]
) -> Iterator[tuple[Path, Signature]]:
    """Give the files below a directory; a loop of symlinks ends where it meets itself."""
    try:
        own = directory.stat()
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        # Gone, or closed to us, since its parent was listed.
        return
    if depth > _MAX_DEPTH or (own.st_dev, own.st_ino) in seen:
        return
    below = seen | {(own.st_dev, own.st_ino)}
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir():
                yield from _walk(directory / entry.name, depth + 1, below)
            elif entry.name.endswith(SUFFIXES):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield directory / entry.name, _signature(status)
        except OSError:
            # A dangling symlink, or an entry that went away.
            continue


def has_suffix(path: Path) -> bool:
    """Tell whether a path is named as a file of objects."""
    return path.name.endswith(SUFFIXES)


def find_signature(path: Path) -> Signature | None:
    """Return the signature of one file, None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _signature(status) if stat.S_ISREG(status.st_mode) else None


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        UnreadableFileError: It can't be opened, is too large, or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFileError("the file is no regular file")
        with path.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableFileError(f"the file can't be read: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableFileError(
            f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB; split it"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFileError(
            f"the file is not UTF-8 (byte {error.start}, line {line})"
        ) from error
