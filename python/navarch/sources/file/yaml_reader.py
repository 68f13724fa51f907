"""One YAML or JSON document → plain Python values, as Kubernetes reads it, within limits (pure).

PyYAML's parser in C gives the events; the values are built here, for PyYAML's constructor differs from Kubernetes:
it makes dates of timestamps and numbers of `12:30:45`, lets a repeated key pass, and follows aliases without limit.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NODES: Final = 500_000
"""Values in one document with every alias written out; more is an alias bomb or no configuration."""
MAX_DEPTH: Final = 128

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)?(?:\.[0-9]+|(?<=[0-9])\.)?(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: Final[dict[str, bool | None]] = (
    dict.fromkeys(("", "~", "null", "Null", "NULL"))
    | dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True)
    | dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False)
)
_MAX_NUMBER_CHARACTERS: Final = 100
_MAX_EXACT: Final = 2**53
_NUMBER_STARTS: Final = frozenset("0123456789+-.")
_TAG = "tag:yaml.org,2002:"


class UnreadableError(Exception):
    """A document that is no YAML, or over a limit.

    Attributes:
        line: 0-based line within the document, where one is known.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def read_document(text: str) -> Any:  # noqa: ANN401  any JSON value
    """Return the value of the one document in `text`, None where it is empty.

    Raises:
        UnreadableError: The text is not valid, or over a limit.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_json_object)
        except (ValueError, RecursionError):
            # Not JSON: perhaps YAML in flow style; its parser also gives the better message.
            pass
    try:
        return _Builder(iter(yaml.parse(text, yaml.CSafeLoader))).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise UnreadableError(f"not valid YAML: {message}", mark.line if mark else 0) from error
    except yaml.YAMLError as error:
        raise UnreadableError(f"not valid YAML: {error}", 0) from error


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # ValueError sends the text to the YAML parser, which names the line of the repeated key.
        raise ValueError("a key is given twice")
    return made


@dataclasses.dataclass(slots=True)
class _Frame:
    """A list or mapping that is being filled; `container` is a list or dict."""

    container: Any
    anchor: str | None
    key: str | None = None
    has_key: bool = False
    merges: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    n_nodes: int = 1


class _Builder:
    """Builds one document's value from the parser's events, without recursion."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._frames: list[_Frame] = []
        self._n_nodes = 0
        self._root: Any = None

    def build(self) -> Any:  # noqa: ANN401  any JSON value
        for event in self._events:
            if isinstance(event, yaml.ScalarEvent):
                self._add(_scalar(event), 1, event.anchor, event)
            elif isinstance(event, yaml.MappingStartEvent):
                self._open({}, event)
            elif isinstance(event, yaml.SequenceStartEvent):
                self._open([], event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._close(event)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self._anchors:
                    raise _fault(
                        f"alias *{event.anchor} has no anchor before it, or is inside it", event
                    )
                value, n_nodes = self._anchors[event.anchor]
                self._add(value, n_nodes, None, event)
        return self._root

    def _open(self, container: Any, event: Any) -> None:  # noqa: ANN401
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise _fault(f"tag {event.tag} is not allowed", event)
        if len(self._frames) >= MAX_DEPTH:
            raise _fault(f"nested more than {MAX_DEPTH} levels deep", event)
        if (
            self._frames
            and isinstance(self._frames[-1].container, dict)
            and not self._frames[-1].has_key
        ):
            raise _fault("a key must be a plain value", event)
        self._frames.append(_Frame(container, event.anchor))

    def _close(self, event: yaml.Event) -> None:
        frame = self._frames.pop()
        for merged in frame.merges:
            for key, value in merged.items():
                frame.container.setdefault(key, value)
        self._add(frame.container, frame.n_nodes, frame.anchor, event)

    def _add(self, value: Any, n_nodes: int, anchor: str | None, event: yaml.Event) -> None:  # noqa: ANN401
        if anchor is not None:
            self._anchors[anchor] = (value, n_nodes)
        self._n_nodes += 1
        if not self._frames:
            self._root = value
            return
        frame = self._frames[-1]
        frame.n_nodes += n_nodes
        if frame.n_nodes > MAX_NODES or self._n_nodes > MAX_NODES:
            raise _fault(
                f"more than {MAX_NODES} values in one document, aliases written out", event
            )
        if isinstance(frame.container, list):
            frame.container.append(value)
        elif frame.has_key:
            self._set(frame, value, event)
        else:
            frame.key = _key(value, event)
            frame.has_key = True
            if frame.key in frame.container:
                raise _fault(f"key {frame.key!r} is given twice", event)

    @staticmethod
    def _set(frame: _Frame, value: Any, event: yaml.Event) -> None:  # noqa: ANN401
        if frame.key == "<<":
            merges = value if isinstance(value, list) else [value]
            if not all(isinstance(merged, dict) for merged in merges):
                raise _fault("<< takes a mapping or a list of mappings", event)
            frame.merges += merges
        else:
            frame.container[frame.key] = value
        frame.has_key = False


def _key(value: Any, event: yaml.Event) -> str:  # noqa: ANN401
    """Write a key as JSON does: `1` and `true` become strings, as Kubernetes' reader makes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise _fault("a key must be a plain value", event)


def _scalar(event: yaml.ScalarEvent) -> Any:  # noqa: ANN401
    text: str = event.value
    if event.tag in (f"{_TAG}str", "!"):
        return text
    if event.tag not in (None, f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"):
        raise _fault(f"tag {event.tag} is not allowed", event)
    if not event.implicit[0] and event.tag is None:
        return text
    return _plain(text)


def _plain(text: str) -> Any:  # noqa: ANN401
    """Resolve an unquoted scalar as Kubernetes does: words, whole numbers, floats, else a string."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _MAX_NUMBER_CHARACTERS:
        return text
    if _INT.match(text):
        return _int(text.replace("_", ""))
    if not _FLOAT.match(text) or not any(c.isdigit() for c in text):
        return text
    number = float(text.replace("_", ""))
    if abs(number) == float("inf"):
        # JSON has no infinity; the text then fails as a wrong type, with its field named.
        return text
    # JSON has one kind of number: Kubernetes writes 1e3 as 1000.
    return int(number) if number.is_integer() and abs(number) < _MAX_EXACT else number


def _int(text: str) -> int:
    body = text.lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if body.startswith("0") and len(body) > 1 and body[1].isdigit():
        return sign * int(body, 8)
    return sign * int(body, 0)


def _fault(message: str, event: yaml.Event) -> UnreadableError:
    mark = event.start_mark
    return UnreadableError(message, mark.line if mark else 0)
