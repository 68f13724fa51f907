"""Reads kept figures."""

from __future__ import annotations

import statistics
from typing import Any


def find(case: dict[str, Any], server: str, scenario: str, figure: str) -> float | None:
    """Return the median of a figure over a server's turns; None where it was not measured."""
    of_server = [run["figures"] for run in case["runs"] if run["server"] == server]
    told = [each[scenario][figure] for each in of_server if scenario in each]
    return statistics.median(told) if told else None
