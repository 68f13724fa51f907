"""The text of one file → its documents: split, read, named, each with its line (pure).

A file is split at its `---` lines before anything is parsed (YAML allows none inside a document), so that one broken
document spoils no other, and one that did not change need not be parsed again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from navarch import records
from navarch.sources import base
from navarch.sources.file import yaml_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_DOCUMENT_CHARACTERS: Final = 4 * 1024 * 1024
"""A little above the 3 MiB that Kubernetes takes in one request: no real object is larger."""

_SEPARATOR = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)[ \t]*", re.MULTILINE)
_DIRECTIVE = re.compile(r"\A(?:[ \t]*(?:#[^\n]*)?\n|%[^\n]*\n)+\Z")
_SPACE = re.compile(r"\s*")
_GUESS_CHARACTERS: Final = 4096
_GUESS_KIND = re.compile(r"^kind:[ \t]*[\"']?([A-Za-z0-9]+)", re.MULTILINE)
_GUESS_API = re.compile(r"^apiVersion:[ \t]*[\"']?([\w./-]+)", re.MULTILINE)
_GUESS_META = re.compile(r"^metadata:[ \t]*(\{[^}\n]*\}?|(?:\n[ \t]+[^\n]*)+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one document, unparsed.

    Attributes:
        line: 1-based line of its first character in the file.
        first_line: 1-based line of its first content.
        digest: Hash of the text; equal digests are equal documents.
    """

    text: str
    line: int
    first_line: int
    digest: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """An object in a file, by its key; `age` is its index among the mesh's objects of the file, -1 for others."""

    key: records.SourceKey
    line: int
    body: Mapping[str, Any]
    age: int


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """What one chunk holds; `n_mesh` counts all objects of the mesh's groups in it, for the ages of the next ones.

    `lost` are the keys of objects that are there but can't be read, as far as they can be made out;
    `is_blind` says that there may be more of them.
    """

    found: tuple[Found, ...] = ()
    diagnostics: tuple[records.Diagnostic, ...] = ()
    lost: tuple[records.SourceKey, ...] = ()
    is_blind: bool = False
    n_mesh: int = 0


def split(text: str, *, is_json: bool) -> Iterator[Chunk]:
    """Give the documents of a file that hold anything, in order."""
    return _split_json(text) if is_json else _split_yaml(text)


def _split_json(text: str) -> Iterator[Chunk]:
    """Give each of the JSON values that stand in a row; the rest of the file as one where a value is broken."""
    decoder, line, at = json.JSONDecoder(), 1, 0
    while (start := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # matches "" at least
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = len(text)
        line += text.count("\n", at, start)
        yield Chunk(text[start:end], line, line, _digest(text[start:end]))
        line += text.count("\n", start, end)
        at = end


def _split_yaml(text: str) -> Iterator[Chunk]:
    start, line = 0, 1
    while start <= len(text):
        match = _SEPARATOR.search(text, start)
        # A prologue of comments and directives belongs to the document after it.
        while (
            match
            and (prologue := text[start : match.start()])
            and "%" in prologue
            and _DIRECTIVE.match(prologue)
        ):
            match = _SEPARATOR.search(text, match.end())
        end = match.start() if match else len(text)
        body = text[start:end]
        first = _first_content(body)
        if first >= 0:
            yield Chunk(body, line, line + first, _digest(body))
        if match is None:
            return
        line += text.count("\n", start, match.end())
        start = match.end()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _first_content(text: str) -> int:
    """Return the 0-based line of the first line that is neither blank nor comment, -1 where there is none."""
    for i, line in enumerate(text.split("\n")):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            return i
    return -1


def parse(chunk: Chunk, path: str, catalog: base.Catalog, age: int) -> Parsed:
    """Read one document, a `List` as the objects in it.

    Args:
        chunk: The document.
        path: The file's path as diagnostics name it.
        catalog: The kinds to look for.
        age: How many objects of the mesh's groups stand before it in the file.
    """
    origin = records.Origin("file", path, chunk.first_line)
    if len(chunk.text) > MAX_DOCUMENT_CHARACTERS:
        size = f"{len(chunk.text)} characters"
        message = f"the document has {size}, the limit is {MAX_DOCUMENT_CHARACTERS}; split it"
        return _unreadable(chunk, catalog, records.Diagnostic("too-large", message, origin=origin))
    try:
        value = yaml_reader.read_document(chunk.text)
    except yaml_reader.UnreadableError as error:
        # What is missing is missed at the end of the text, after the last line that is there.
        line = min(error.line, chunk.text.rstrip().count("\n"))
        where = dataclasses.replace(origin, line=chunk.line + line)
        return _unreadable(
            chunk, catalog, records.Diagnostic("invalid-yaml", error.message, origin=where)
        )
    except RecursionError:
        fault = records.Diagnostic("invalid-yaml", "nested too deeply", origin=origin)
        return _unreadable(chunk, catalog, fault)
    if value is None:
        return Parsed()
    return _collect(value, origin, catalog, age)


def _unreadable(chunk: Chunk, catalog: base.Catalog, fault: records.Diagnostic) -> Parsed:
    guess = guess_key(chunk.text, catalog)
    if guess is None:
        return Parsed(diagnostics=(fault,), is_blind=True)
    key, is_ordered_by_age = guess
    named = dataclasses.replace(fault, key=key)
    # It counts among the ages all the same: the objects after it stay as old as they were.
    return Parsed(diagnostics=(named,), lost=(key,), n_mesh=int(is_ordered_by_age))


def guess_key(text: str, catalog: base.Catalog) -> tuple[records.SourceKey, bool] | None:
    """Name the object of a document that can't be parsed, from the look of its first lines.

    Returns:
        The key, and whether its kind is ordered by age; None where the look is not clear.
    """
    head = text[:_GUESS_CHARACTERS]
    kind, api = _GUESS_KIND.search(head), _GUESS_API.search(head)
    metadata = _GUESS_META.search(head)
    if not (kind and api and metadata):
        return None
    name = re.search(r"(?:^[ \t]+|[{,][ \t]*)name:[ \t]*[\"']?([\w.-]+)", metadata[1], re.MULTILINE)
    namespace = re.search(
        r"(?:^[ \t]+|[{,][ \t]*)namespace:[ \t]*[\"']?([\w.-]+)", metadata[1], re.MULTILINE
    )
    entry = catalog.find(group_of(api[1]), kind[1])
    if entry is None or name is None:
        return None
    space = (namespace[1] if namespace else base.DEFAULT_NAMESPACE) if entry.is_namespaced else ""
    return records.SourceKey(entry.key_kind, space, name[1]), entry.is_ordered_by_age


def group_of(api_version: str) -> str:
    """Return the API group of an apiVersion, "" for Kubernetes' core."""
    return api_version.rpartition("/")[0]


def _collect(value: object, origin: records.Origin, catalog: base.Catalog, age: int) -> Parsed:
    """Name the object, or the objects of a List."""
    found: list[Found] = []
    diagnostics: list[records.Diagnostic] = []
    n_mesh = 0
    for path, item in _items(value):
        outcome = _identify(item, catalog)
        if isinstance(outcome, records.Diagnostic):
            field = f"{path}.{outcome.field_path}".strip(".")
            diagnostics.append(dataclasses.replace(outcome, origin=origin, field_path=field))
            continue
        age_of_item = -1
        if outcome.is_ordered_by_age:
            age_of_item = age + n_mesh
            n_mesh += 1
        found.append(Found(outcome.key, origin.line, outcome.body, age_of_item))
    return Parsed(tuple(found), tuple(diagnostics), n_mesh=n_mesh)


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Open a `List` (kubectl's, or `ServiceList` and the like), which has items in place of a name."""
    if (
        isinstance(value, dict)
        and str(value.get("kind", "")).endswith("List")
        and isinstance(value.get("items"), list)
    ):
        for i, item in enumerate(value["items"]):
            yield f"items[{i}]", item
    else:
        yield "", value


@dataclasses.dataclass(frozen=True, slots=True)
class _Identity:
    key: records.SourceKey
    body: Mapping[str, Any]
    is_ordered_by_age: bool


def _identify(item: object, catalog: base.Catalog) -> _Identity | records.Diagnostic:
    """Tell which object this is, or why it is none."""
    if not isinstance(item, dict):
        return records.Diagnostic("not-an-object", f"expected an object, found {_type_name(item)}")
    for field in ("apiVersion", "kind"):
        if not isinstance(item.get(field), str) or not item[field]:
            fault = "every object needs it, as a string"
            return records.Diagnostic("missing-field", fault, field_path=field)
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        fault = "every object needs a name, as a string"
        return records.Diagnostic("missing-field", fault, field_path="metadata.name")
    namespace = metadata.get("namespace") or ""
    if not isinstance(namespace, str):
        fault = "a namespace is a string"
        return records.Diagnostic("wrong-type", fault, field_path="metadata.namespace")
    group, kind = group_of(item["apiVersion"]), item["kind"]
    entry = catalog.find(group, kind)
    if entry is None:
        return _unknown(group, records.SourceKey(kind, namespace, name), catalog)
    space = (namespace or base.DEFAULT_NAMESPACE) if entry.is_namespaced else ""
    key = records.SourceKey(entry.key_kind, space, name)
    return _Identity(key, item, entry.is_ordered_by_age)


def _unknown(group: str, key: records.SourceKey, catalog: base.Catalog) -> records.Diagnostic:
    if group in base.MESH_GROUPS:
        known = ", ".join(sorted(k for g, k in catalog.kinds if g == group))
        message = f"{group} has no kind {key.kind}; navarch reads {known or 'none of this group'}"
        return records.Diagnostic("unknown-kind", message, key=key, field_path="kind")
    message = f"{key.kind} of {group or 'the core group'} is not a kind of the mesh and is ignored"
    severity = records.Severity.INFO
    return records.Diagnostic("unknown-kind", message, severity, key, "kind")


def _type_name(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
