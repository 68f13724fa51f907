"""Counts how long things took, in buckets; safe for many threads."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import threading
from typing import Final

BOUNDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper ends of the buckets, in seconds; what took longer is in none but the last, which has no end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What was counted.

    Attributes:
        n_within: By the bounds of `BOUNDS`, how many took at most so long.
        n: How many there were.
        seconds: How long they took together.
    """

    n_within: tuple[int, ...]
    n: int
    seconds: float


class Histogram:
    """Counts durations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        place = bisect.bisect_left(BOUNDS, seconds)
        with self._lock:
            self._counts[place] += 1
            self._seconds += seconds

    def read(self) -> Reading:
        """Return what was counted so far."""
        with self._lock:
            sums = list(itertools.accumulate(self._counts))
            return Reading(tuple(sums[:-1]), sums[-1], self._seconds)
