"""Cuts changes into batches: at once when all was quiet, together while much changes (no I/O; time is handed in)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from navarch import records

ENDPOINT_KINDS: Final = frozenset({"EndpointSlice", "Pod"})
"""Their changes never wait: traffic goes to a pod that is gone until its proxies know."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How long changes are held.

    Attributes:
        quiet_seconds: The sources count as busy until nothing changed for this long.
        hold_seconds: The longest that a change waits while they are.
        n_changes: So many changes don't wait at all.
    """

    quiet_seconds: float = 0.1
    hold_seconds: float = 1.0
    n_changes: int = 5000


class Batcher:
    """Holds pending changes, the latest of each key."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._endpoints: dict[records.SourceKey, records.Change] = {}
        self._configs: dict[records.SourceKey, records.Change] = {}
        self._first_at = 0.0
        self._endpoint_at = 0.0
        self._last_at = float("-inf")
        self._is_leading = False

    def add(self, changes: Iterable[records.Change], now: float) -> None:
        """Add changes that were made at `now`."""
        for change in changes:
            if change.key.kind in ENDPOINT_KINDS:
                if not self._endpoints:
                    self._endpoint_at = now
                self._endpoints[change.key] = change
                continue
            is_quiet = now - self._last_at >= self._limits.quiet_seconds
            if not self._configs:
                self._first_at = now
                self._is_leading = is_quiet
            self._last_at = now
            self._configs[change.key] = change

    def due_seconds(self, now: float) -> float | None:
        """Return in how many seconds `take` will give something, 0 for now, None where nothing is pending."""
        return 0.0 if self._endpoints else self._config_due_seconds(now)

    def _config_due_seconds(self, now: float) -> float | None:
        if not self._configs:
            return None
        if self._is_leading or len(self._configs) >= self._limits.n_changes:
            return 0.0
        due = min(
            self._last_at + self._limits.quiet_seconds,
            self._first_at + self._limits.hold_seconds,
        )
        return max(0.0, due - now)

    def oldest_at(self, now: float) -> float:
        """Return when the oldest of the changes was made that `take` gives now; `now` if it gives none."""
        times = [now]
        if self._endpoints:
            times.append(self._endpoint_at)
        if self._config_due_seconds(now) == 0.0:
            times.append(self._first_at)
        return min(times)

    def take(self, now: float) -> list[records.Change]:
        """Give the changes whose time has come as one batch; endpoints go without configuration that waits."""
        held = self._configs
        endpoints, self._endpoints = self._endpoints, {}
        if self._config_due_seconds(now) == 0.0:
            self._configs = {}
            return [*held.values(), *endpoints.values()]
        return list(endpoints.values())
