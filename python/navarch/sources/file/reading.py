"""Reads one file, anew or as a change of what was read before."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from navarch import records
from navarch.sources.file import documents, files, holdings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from navarch.sources import base


@dataclasses.dataclass(frozen=True, slots=True)
class FileRead:
    """A file's state, and the bodies of those of its objects that had to be parsed."""

    holding: holdings.Holding
    bodies: Mapping[records.SourceKey, Mapping[str, Any]]


def read_file(path: Path, previous: holdings.Holding | None, catalog: base.Catalog) -> FileRead:
    """Read a file; what it held before stays in force where it can't be read now.

    Args:
        path: The file.
        previous: What was read before; None parses every document.
        catalog: The kinds to look for.
    """
    signature = files.find_signature(path)
    try:
        text = files.read_text(path)
    except files.UnreadableFileError as error:
        fault = records.Diagnostic(
            "unreadable-file", str(error), origin=records.Origin("file", str(path), 1)
        )
        before = previous or holdings.Holding(None)
        unread = dataclasses.replace(before, signature=signature, diagnostics=(fault,))
        return FileRead(unread, {})
    sections, bodies = _read_sections(text, path, previous, catalog)
    fresh = [entry for section in sections for entry in section.entries]
    holding = holdings.Holding(
        signature,
        tuple(sections),
        tuple(fresh + _kept(previous, sections, fresh)),
        tuple(fault for section in sections for fault in section.diagnostics),
    )
    return FileRead(holding, bodies)


def _read_sections(
    text: str, path: Path, previous: holdings.Holding | None, catalog: base.Catalog
) -> tuple[list[holdings.Section], dict[records.SourceKey, Mapping[str, Any]]]:
    known = {section.digest: section for section in previous.sections} if previous else {}
    sections: list[holdings.Section] = []
    bodies: dict[records.SourceKey, Mapping[str, Any]] = {}
    age = 0
    for chunk in documents.split(text, is_json=path.suffix == ".json"):
        section = known.get(chunk.digest)
        if section is not None and (section.age == age or section.n_mesh == 0):
            section = _moved(section, chunk.first_line, age)
        else:
            parsed = documents.parse(chunk, str(path), catalog, age)
            for found in parsed.found:
                # The first in the file speaks for its key.
                bodies.setdefault(found.key, found.body)
            section = _section(chunk, parsed, age)
        age += section.n_mesh
        sections.append(section)
    return sections, bodies


def _section(chunk: documents.Chunk, parsed: documents.Parsed, age: int) -> holdings.Section:
    entries = tuple(holdings.Entry(f.key, f.line, f.age, chunk.digest) for f in parsed.found)
    return holdings.Section(
        chunk.digest,
        chunk.first_line,
        age,
        parsed.n_mesh,
        entries,
        parsed.diagnostics,
        parsed.lost,
        parsed.is_blind,
    )


def _moved(section: holdings.Section, line: int, age: int) -> holdings.Section:
    """Return a section that stands unchanged at another line."""
    if section.line == line and section.age == age:
        return section
    by = line - section.line
    entries = tuple(dataclasses.replace(e, line=e.line + by) for e in section.entries)
    faults = tuple(
        dataclasses.replace(d, origin=dataclasses.replace(d.origin, line=d.origin.line + by))
        for d in section.diagnostics
        if d.origin is not None
    )
    return dataclasses.replace(section, line=line, age=age, entries=entries, diagnostics=faults)


def _kept(
    previous: holdings.Holding | None,
    sections: Sequence[holdings.Section],
    fresh: Sequence[holdings.Entry],
) -> list[holdings.Entry]:
    """Return the earlier entries that the file's broken documents may stand for.

    A document that can't be parsed but can be named keeps the entry of that name; one that can't
    be named keeps every entry of the file that is missing.
    """
    if previous is None:
        return []
    lost = {key for section in sections for key in section.lost}
    is_blind = any(section.is_blind for section in sections)
    present = {entry.key for entry in fresh}
    return [e for e in previous.entries if e.key not in present and (is_blind or e.key in lost)]
