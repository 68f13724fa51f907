"""Canonical JSON: one value has one sequence of bytes (sorted keys, no spaces, UTF-8)."""

from __future__ import annotations

import datetime
import json
from typing import Any


def encode(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the canonical bytes of a JSON value.

    Raises:
        ValueError: It has a number that JSON can't hold, or text that isn't Unicode.
        TypeError: It has something that is no JSON value.
        RecursionError: It is nested too deeply.
    """
    try:
        return _encode_sorted(value)
    except TypeError:
        # Keys of several types have no order.
        return _encode_sorted(with_text_keys(value))


def _encode_sorted(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=_encode_other,
    )
    return text.encode()


def with_text_keys(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Turn keys that YAML reads as numbers or booleans into text, as JSON has them."""
    if isinstance(value, dict):
        return {_key_text(key): with_text_keys(child) for key, child in value.items()}
    if isinstance(value, list):
        return [with_text_keys(child) for child in value]
    return value


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return key
    return json.dumps(key) if isinstance(key, bool | int | float | None) else str(key)


def _encode_other(value: object) -> str:
    """YAML parsers make times of what JSON has as text."""
    if isinstance(value, datetime.datetime):
        return to_timestamp(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def to_timestamp(moment: datetime.datetime) -> str:
    """Return a time as Kubernetes writes it: UTC (which a time without zone is taken for), whole seconds.

    Raises:
        OverflowError: In UTC the time lies before year 1 or after year 9999.
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC)
    return moment.replace(tzinfo=None, microsecond=0).isoformat() + "Z"
