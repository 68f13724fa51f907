"""Rules for HTTP header names and values.

Source: Istio's pkg/config/validation/validation.go; Envoy's custom header formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import names, rules

if TYPE_CHECKING:
    from navarch.crds.schema.faults import Faults, Path

_AUTHORITY = frozenset({":authority", "host"})


def is_authority(name: str) -> bool:
    """Tell whether a header is the request's authority."""
    return name.lower() in _AUTHORITY


def is_claim(name: str) -> bool:
    """Tell whether a match's header name stands for a claim of the request's JWT."""
    return name.lower().startswith((rules.CLAIM_PREFIX + ".", rules.CLAIM_PREFIX + "["))


def check_name(name: str, at: Path, found: Faults) -> None:
    """A header's name has letters, digits, dashes and underscores."""
    if not names.is_header_name(name):
        message = f"must be a header name of letters, digits, dashes and underscores, not {name!r}"
        found.add(at, "invalid-header", message)


def check_matched_name(name: str, at: Path, found: Faults) -> None:
    """A match names a header, or a JWT claim."""
    if not is_claim(name):
        check_name(name, at, found)


def check_operated_name(name: str, at: Path, found: Faults, *, takes_authority: bool) -> None:
    """Pseudo headers can't be changed, save that a request's authority can be set and added."""
    if not name:
        found.add(at, "invalid-header", "has an empty header name; name the header")
    elif takes_authority and is_authority(name):
        return
    elif name.startswith(":") or name.lower() == "host":
        found.add(
            at,
            "invalid-header",
            f"must not be {name!r}: pseudo headers and host can't be changed here",
        )


def check_value(value: str, at: Path, found: Faults) -> None:
    """A header's value has no control characters, and its percent signs are doubled or form a command."""
    if not names.is_header_value(value):
        message = f"is no header value: {value!r}; write %% for a percent sign, or a command such as %START_TIME%"
        found.add(at, "invalid-header", message)
