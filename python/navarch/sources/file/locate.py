"""From a field path to its line: reads the file again, and only for faults that are told to someone."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import yaml

from navarch.sources.file import documents, files

if TYPE_CHECKING:
    from navarch import records

_MAX_CHARACTERS: Final = 1024 * 1024
_PART = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def locate(told: records.Diagnostic) -> records.Diagnostic:
    """Return a diagnostic whose line is that of its field, or of the part of the way to it that exists.

    It comes back as it is where it has no file, where its file has changed, or where no line can be made out.
    """
    if told.origin is None or not told.origin.line or not told.field_path or told.key is None:
        return told
    path = Path(told.origin.path)
    try:
        text = files.read_text(path)
    except files.UnreadableFileError:
        return told
    for chunk in documents.split(text, is_json=path.suffix == ".json"):
        if chunk.first_line == told.origin.line and len(chunk.text) <= _MAX_CHARACTERS:
            line = _find_line(chunk, told.key, told.field_path)
            origin = dataclasses.replace(told.origin, line=line)
            return dataclasses.replace(told, origin=origin)
    return told


def _find_line(chunk: documents.Chunk, key: records.SourceKey, field_path: str) -> int:
    try:
        root = yaml.compose(chunk.text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return chunk.first_line
    line = chunk.first_line
    node = _find_item(root, key) if not field_path.startswith("items[") else root
    if node is not root and node is not None:
        line = chunk.line + node.start_mark.line
    for match in _PART.finditer(field_path):
        step = _step(node, match[1] if match[1] is not None else match[2])
        if step is None:
            break
        at, node = step
        line = chunk.line + at.start_mark.line
    return line


def _step(node: yaml.Node | None, part: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Go one part down; return the node that shows where it is, and the node that it leads to."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    elif isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item, item
    return None


def _find_item(root: yaml.Node | None, key: records.SourceKey) -> yaml.Node | None:
    """Return the object itself where the document is a List of several."""
    step = _step(root, "items")
    if step is None or not isinstance(step[1], yaml.SequenceNode):
        return root
    for item in step[1].value:
        metadata = _step(item, "metadata")
        name = _step(metadata[1], "name") if metadata else None
        namespace = _step(metadata[1], "namespace") if metadata else None
        is_there = namespace is None or namespace[1].value == key.namespace
        if name is not None and name[1].value == key.name and is_there:
            return cast("yaml.Node", item)
    return root
