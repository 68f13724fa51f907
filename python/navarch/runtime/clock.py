"""Time as a parameter: what waits or dates takes a `Clock`, so that tests decide how late it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading


class Clock(Protocol):
    """Monotonic seconds, and the one way to wait."""

    def now(self) -> float:
        """Return seconds since an arbitrary moment; never goes back."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; return whether it is set."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the machine's monotonic time in seconds."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait on `event` for at most `seconds`."""
        return event.wait(seconds)
