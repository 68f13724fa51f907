"""How long to wait before the next try: exponential, with full jitter on the upper half (pure)."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """A schedule of delays in seconds.

    The jitter keeps many workers that failed together from coming back together.
    """

    initial_seconds: float = 0.2
    ceiling_seconds: float = 30.0
    factor: float = 2.0

    def delay_seconds(self, n_failures: int, random_unit: float) -> float:
        """Return the wait before the next try.

        Args:
            n_failures: How often the work has failed in a row, at least 1.
            random_unit: A random number in [0, 1); 0 gives half of the full delay.
        """
        # The exponent is bounded, for a float overflows near 2**1024.
        exponent = min(n_failures - 1, 64)
        full = min(self.ceiling_seconds, self.initial_seconds * self.factor**exponent)
        return full * (0.5 + random_unit / 2)
