"""What one cluster's readers are up to: which fail and why, how old what they know is."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Final

from navarch import errors, records
from navarch.runtime import clock, histogram
from navarch.sources.kubernetes import discovery

if TYPE_CHECKING:
    from navarch.sources import base

_FORBIDDEN: Final = 403
_UNAUTHORIZED: Final = 401
_BUSY: Final = 429
_SERVER_ERROR: Final = 500
_N_FORGIVEN: Final = 3
_CONNECTION: Final = "connection"


@dataclasses.dataclass(slots=True)
class Figures:
    """What is counted of one kind; written by its reader's thread alone.

    Attributes:
        n_lists: Full lists that were read to their end.
        n_events: Batches of events, bookmarks among them.
        last_event_at: When the last one came, on the clock's scale; None before the first.
        lag_seconds: How long the last batch was held up by those who take it.
        reads: All batches of the cluster by how long they were held up.
    """

    reads: histogram.Histogram
    n_lists: int = 0
    n_events: int = 0
    last_event_at: float | None = None
    lag_seconds: float = 0.0

    def note_event(self, began: float, ended: float) -> None:
        """Note a batch that came at `began` and was handed over at `ended`."""
        self.n_events += 1
        self.last_event_at = began
        self.lag_seconds = ended - began
        self.reads.observe(self.lag_seconds)


class Health:
    """Collects; safe for many threads."""

    def __init__(self, cluster_name: str, time: clock.Clock | None = None) -> None:
        self.cluster_name = cluster_name
        self._source = f"kubernetes/{cluster_name}"
        self._origin = records.Origin(self._source)
        self._clock = time or clock.SystemClock()
        self._lock = threading.Lock()
        self._figures: dict[str, Figures] = {}
        self.reads = histogram.Histogram()
        self._unreachable: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._told = ""

    def figures(self, kind: str) -> Figures:
        """Return the figures of a kind, to be written by its reader."""
        with self._lock:
            return self._figures.setdefault(kind, Figures(self.reads))

    def all_figures(self) -> list[tuple[str, Figures, float]]:
        """Return each kind's figures, and the age of its last event in seconds (-1 before the first)."""
        now = self._clock.now()
        with self._lock:
            return [
                (kind, each, -1.0 if each.last_event_at is None else now - each.last_event_at)
                for kind, each in sorted(self._figures.items())
            ]

    def notes(self) -> list[str]:
        """Return why kinds are not read, a line each."""
        with self._lock:
            lines = [f"{self.cluster_name}: {text}" for _, text in sorted(self._refused.items())]
            if self._unreachable:
                lines.append(f"{self.cluster_name}: {self._told}")
            return lines

    def note_good(self, kind: str, sink: base.Sink) -> None:
        """A kind is read."""
        with self._lock:
            was_refused = self._refused.pop(kind, None)
            was_unreachable = self._unreachable.pop(kind, None)
            is_back = was_unreachable is not None and not self._unreachable
        if was_refused is not None:
            sink.report(self._source, kind, ())
        if is_back:
            sink.report(self._source, _CONNECTION, ())

    def note_failure(
        self, kind: str, error: errors.SourceError, n_in_row: int, sink: base.Sink
    ) -> None:
        """A kind can't be read just now; what is known of it stays in force."""
        status = error.status if isinstance(error, errors.ApiError) else 0
        if (status == _BUSY or status >= _SERVER_ERROR) and n_in_row < _N_FORGIVEN:
            # A server that starts, or has much to do, says so and is asked again.
            return
        if status == _FORBIDDEN:
            message = f"{kind} is not read, grant `list` and `watch` (docs/kubernetes.md): {error}"
            told = records.Diagnostic("forbidden-kind", message, origin=self._origin)
            self._refuse(kind, told, sink)
        elif isinstance(error, discovery.UnknownVersionsError):
            told = records.Diagnostic("unknown-version", str(error), origin=self._origin)
            self._refuse(kind, told, sink)
        else:
            self._miss(kind, error, status, sink)

    def _refuse(self, kind: str, told: records.Diagnostic, sink: base.Sink) -> None:
        with self._lock:
            if kind in self._refused:
                return
            self._refused[kind] = told.message
        sink.report(self._source, kind, [told])

    def _miss(self, kind: str, error: errors.SourceError, status: int, sink: base.Sink) -> None:
        """Tell once, and not of each kind: mostly all of them lose the same server."""
        with self._lock:
            is_first = not self._unreachable
            self._unreachable[kind] = str(error)
            if not is_first:
                return
            remedy = "; renew the credentials" if status == _UNAUTHORIZED else ""
            self._told = (
                f"the API server of cluster {self.cluster_name} can't be read: {error}{remedy}; "
                "what is known stays in force"
            )
        told = records.Diagnostic("source-unavailable", self._told, origin=self._origin)
        sink.report(self._source, _CONNECTION, [told])
