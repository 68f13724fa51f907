"""The source of key sets: keeps what the mesh wants fetched and fresh."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import random
from typing import TYPE_CHECKING, Final

from navarch import errors, records
from navarch.runtime import backoff, clock
from navarch.sources.key_sets import fetch

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from navarch.sources import base

NAME: Final = "key-sets"
KIND: Final = "JsonWebKeySet"

POLL_SECONDS: Final = 0.5
REFRESH_SECONDS: Final = 20 * 60.0
"""Pilot's PILOT_JWT_PUB_KEY_REFRESH_INTERVAL."""
DEFAULT_TIMEOUT_SECONDS: Final = 5.0
N_FETCHERS: Final = 8
"""Fetches at a time: an address that hangs keeps one of them busy for its timeout, no other issuer."""
_RETRY: Final = backoff.Backoff(initial_seconds=1.0, ceiling_seconds=60.0)


@dataclasses.dataclass(slots=True)
class _Address:
    """One address: what it gave last, and when it is asked again."""

    text: str | None = None
    due: float = 0.0
    n_failures: int = 0
    running: concurrent.futures.Future[str] | None = None


class KeySetSource:
    """Fetches the sets that the core wants; holds nobody up, for its list is done before the first fetch."""

    def __init__(
        self,
        wanted: Callable[[], Mapping[str, float]],
        *,
        time: clock.Clock | None = None,
        fetch_key_set: Callable[[str, float], str] | None = None,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        """Take what is wanted.

        Args:
            wanted: Returns the addresses, each with the seconds that a fetch may take, 0 for the default; polled.
            time: The clock.
            fetch_key_set: Fetches one set; by default from anywhere.
            random_unit: Gives the jitter, in [0, 1).
        """
        self._wanted = wanted
        self._clock = time or clock.SystemClock()
        self._fetch = fetch_key_set or fetch.Fetcher().fetch_key_set
        self._random = random_unit
        self._addresses: dict[str, _Address] = {}

    @property
    def name(self) -> str:
        """Return the source's name."""
        return NAME

    def run(self, sink: base.Sink, stop: threading.Event) -> None:
        """Tell what is known, then what is fetched, until `stop` is set."""
        known = {a: s.text for a, s in self._addresses.items() if s.text is not None}
        init = records.SourceEvent(records.EventType.INIT)
        done = records.SourceEvent(records.EventType.INIT_DONE)
        sink.emit(NAME, [init, *(_apply(a, text) for a, text in sorted(known.items())), done])
        fetchers = concurrent.futures.ThreadPoolExecutor(N_FETCHERS, thread_name_prefix=NAME)
        try:
            while not stop.is_set():
                self.step(sink, fetchers)
                self._clock.wait(stop, POLL_SECONDS)
        finally:
            for state in self._addresses.values():
                state.running = None
            fetchers.shutdown(wait=False, cancel_futures=True)

    def step(self, sink: base.Sink, fetchers: concurrent.futures.Executor) -> None:
        """Look once: forget what nobody wants, take what came, and begin what is due."""
        wanted = self._wanted()
        for address in self._addresses.keys() - wanted.keys():
            if self._addresses.pop(address).text is not None:
                sink.emit(NAME, [records.SourceEvent(records.EventType.DELETE, _key(address))])
            sink.report(NAME, address, ())
        for address, timeout_seconds in sorted(wanted.items()):
            state = self._addresses.setdefault(address, _Address())
            if state.running is not None and state.running.done():
                self._take(address, state, state.running, sink)
            if state.running is None and self._clock.now() >= state.due:
                seconds = timeout_seconds or DEFAULT_TIMEOUT_SECONDS
                state.running = fetchers.submit(self._fetch, address, seconds)

    def _take(
        self,
        address: str,
        state: _Address,
        fetched: concurrent.futures.Future[str],
        sink: base.Sink,
    ) -> None:
        state.running = None
        try:
            text = fetched.result()
        except errors.SourceError as error:
            state.n_failures += 1
            delay = _RETRY.delay_seconds(state.n_failures, self._random())
            state.due = self._clock.now() + delay
            sink.report(
                NAME, address, [_fault(address, str(error), is_known=state.text is not None)]
            )
            return
        state.n_failures = 0
        # Replicas that started together, and issuers of one provider, do not ask at one moment for ever.
        state.due = self._clock.now() + REFRESH_SECONDS * (0.9 + 0.2 * self._random())
        sink.report(NAME, address, ())
        if text != state.text:
            state.text = text
            sink.emit(NAME, [_apply(address, text)])


def _key(address: str) -> records.SourceKey:
    return records.SourceKey(KIND, "", address)


def _apply(address: str, text: str) -> records.SourceEvent:
    made = records.RawObject(_key(address), {"jwks": text}, records.Origin(NAME, address))
    return records.SourceEvent(records.EventType.APPLY, made.key, made)


def _fault(address: str, what: str, *, is_known: bool) -> records.Diagnostic:
    effect = (
        "the keys that were fetched before stay in force"
        if is_known
        else "until it is, tokens of its issuer are refused"
    )
    severity = records.Severity.WARNING if is_known else records.Severity.ERROR
    message = f"{what}; {effect}"
    return records.Diagnostic(
        "key-set-unavailable",
        message,
        severity,
        _key(address),
        origin=records.Origin(NAME, address),
    )
