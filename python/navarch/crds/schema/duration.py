"""Durations as Istio's API accepts them: Go's syntax ("1m30s", "100ms"), which protobuf's ("1.5s") is a part of.

Source: golang/protobuf jsonpb, with which Istio reads its API, gives the text to Go's time.ParseDuration.
"""

from __future__ import annotations

import functools
import re

NANOSECONDS_PER_MILLISECOND = 1_000_000
# Go takes both characters that look like a micro sign.
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": NANOSECONDS_PER_MILLISECOND,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX_NANOSECONDS = 2**63 - 1
_PART = re.compile(r"([0-9]{0,25})(?:\.([0-9]{0,25}))?(ns|us|µs|μs|ms|s|m|h)")


@functools.lru_cache(maxsize=4096)
def parse_nanoseconds(text: str) -> int:
    """Return the length of a duration in nanoseconds.

    Raises:
        ValueError: The text is no duration, or longer than 292 years.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(text)
    total, position = 0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            raise ValueError(text)
        unit, fraction = _UNITS[part[3]], part[2] or ""
        total += int(part[1] or "0") * unit
        total += int(fraction or "0") * unit // 10 ** len(fraction)
        position = part.end()
    if total > _MAX_NANOSECONDS:
        raise ValueError(text)
    return sign * total


@functools.lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """Return the duration in protobuf's JSON form, with no more digits than it needs ("1.5s").

    Raises:
        ValueError: The text is no duration.
    """
    nanoseconds = parse_nanoseconds(text)
    sign = "-" if nanoseconds < 0 else ""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    decimals = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{sign}{seconds}{decimals}s"
