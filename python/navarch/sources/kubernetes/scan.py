"""What takes answers of the API server apart; the wiring hands in the core's functions, which do it outside the GIL."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Row = tuple[str, str, str, str, str, int, bytes]


class Event(NamedTuple):
    """One object of a list, or one event of a watch."""

    type: str
    """`ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `LISTED` (the bookmark that ends a streaming list), `ERROR`."""
    namespace: str
    name: str
    resource_version: str
    revision: str
    """The label `istio.io/rev`."""
    generation: int
    payload: bytes
    """The object's JSON, of some kinds cut to what the mesh reads; the Status of an `ERROR`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; the token asks for the next one, "" on the last."""

    resource_version: str
    continue_token: str
    events: Sequence[Event]


@dataclasses.dataclass(frozen=True, slots=True)
class Scanner:
    """Reads bytes; raises `errors.CoreError` for what is no list or event.

    Attributes:
        watch_rows: Takes a kind and whole lines of a watch; returns the fields of `Event`s.
        page_rows: Takes a kind and a page of a list; returns its version, its token, and such fields.
    """

    watch_rows: Callable[[str, bytes], Sequence[_Row]]
    page_rows: Callable[[str, bytes], tuple[str, str, Sequence[_Row]]]

    def read_watch(self, kind: str, lines: bytes) -> list[Event]:
        """Read whole lines of a watch."""
        return [Event(*row) for row in self.watch_rows(kind, lines)]

    def read_page(self, kind: str, body: bytes) -> Page:
        """Read one page of a list."""
        version, token, rows = self.page_rows(kind, body)
        return Page(version, token, [Event(*row) for row in rows])
