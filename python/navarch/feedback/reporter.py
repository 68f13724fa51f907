"""Polls diagnostics and tells of each once, when it comes and when it has gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from navarch import records
from navarch.runtime import clock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    Collect = Callable[[], Sequence[records.Diagnostic]]
    Locate = Callable[[records.Diagnostic], records.Diagnostic]

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
MAX_TOLD: Final = 1000
"""Log lines in one round; the rest are counted, and are in /debug/diagnosticsz."""
_MAX_MESSAGE_CHARACTERS: Final = 500

_LEVELS: Final = {
    records.Severity.ERROR: logging.ERROR,
    records.Severity.WARNING: logging.WARNING,
    records.Severity.INFO: logging.INFO,
}


class Reporter:
    """Knows what is wrong now; `run` keeps it up to date."""

    def __init__(
        self,
        collectors: Sequence[Collect],
        locate: Locate | None = None,
        time: clock.Clock | None = None,
    ) -> None:
        """Take the functions to poll.

        Args:
            collectors: Each returns all current diagnostics of one part.
            locate: Finds the line of a diagnostic's field; asked once for each that is told.
            time: The clock.
        """
        self._collectors = collectors
        self._locate = locate or (lambda diagnostic: diagnostic)
        self._clock = time or clock.SystemClock()
        self._current: dict[tuple[object, ...], records.Diagnostic] = {}

    def current(self) -> tuple[records.Diagnostic, ...]:
        """Return what was wrong at the last poll."""
        return tuple(self._current.values())

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set, and once more then."""
        while not self._clock.wait(stop, POLL_SECONDS):
            self.poll()
        self.poll()

    def poll(self) -> None:
        """Look once: log what is new, and that what was told of is gone."""
        found = {_identity(d): d for collect in self._collectors for d in collect()}
        fresh = [identity for identity in found if identity not in self._current]
        gone = [told for identity, told in self._current.items() if identity not in found]
        kept = {identity: self._current.get(identity, found[identity]) for identity in found}
        for identity in fresh[:MAX_TOLD]:
            kept[identity] = self._locate(found[identity])
            _log.log(_LEVELS[kept[identity].severity], "%s", _cut(kept[identity]))
        if len(fresh) > MAX_TOLD:
            _log.warning("%d more diagnostics: see /debug/diagnosticsz", len(fresh) - MAX_TOLD)
        # What took another form (an edit that left a fault of the same object) is no recovery.
        faulty = {(d.key, d.origin.path if d.origin else "") for d in found.values()}
        for told in gone[:MAX_TOLD]:
            if (told.key, told.origin.path if told.origin else "") not in faulty:
                _log.info("resolved: %s", _cut(told))
        self._current = kept


def _identity(told: records.Diagnostic) -> tuple[object, ...]:
    """Return what makes a diagnostic the same as before; its line may move."""
    place = (told.origin.source, told.origin.path) if told.origin else None
    return (told.key, told.code, told.field_path, told.message, place)


def _cut(told: records.Diagnostic) -> str:
    text = str(told)
    if len(text) <= _MAX_MESSAGE_CHARACTERS:
        return text
    return f"{text[:_MAX_MESSAGE_CHARACTERS]}… {told.mark}"
