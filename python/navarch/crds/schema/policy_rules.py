"""Checks of values in AuthorizationPolicies that Envoy would refuse, with the listener they are in.

Source: Istio's pkg/config/security/security.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from navarch.crds.schema import faults

ONE_SEGMENT: Final = "{*}"
ANY_SEGMENTS: Final = "{**}"
_LITERAL: Final = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")
_MAX_ACCOUNT: Final = 320


def check_path_templates(paths: Iterable[str], at: faults.Path, found: faults.Faults) -> None:
    """Braces stand for whole segments, `{**}` for the last ones alone."""
    for index, path in enumerate(paths):
        if fault := _path_fault(path):
            found.add((*at, index), "invalid-value", fault)


def _path_fault(path: str) -> str:
    segments = path.strip("/").split("/")
    operators = [each for each in segments if each in (ONE_SEGMENT, ANY_SEGMENTS)]
    if ANY_SEGMENTS in operators[:-1]:
        return f"has {ANY_SEGMENTS} before another operator; it must be the last"
    literals = [each for each in segments if each not in (ONE_SEGMENT, ANY_SEGMENTS)]
    if any("{" in each or "}" in each for each in literals):
        return f"has braces that are no whole segment; write {ONE_SEGMENT} or {ANY_SEGMENTS} between slashes"
    is_template = ONE_SEGMENT in path or ANY_SEGMENTS in path
    bad = next((each for each in literals if is_template and not _LITERAL.fullmatch(each)), None)
    if bad is not None:
        return f"has the segment {bad!r} beside {ONE_SEGMENT} or {ANY_SEGMENTS}; give it plain characters, and no *"
    return ""


def check_service_accounts(accounts: Iterable[str], at: faults.Path, found: faults.Faults) -> None:
    """An account is `account` or `namespace/account`, without a wildcard."""
    for index, account in enumerate(accounts):
        parts = account.split("/")
        is_whole = len(parts) <= 2 and all(parts) and len(account) <= _MAX_ACCOUNT  # noqa: PLR2004  as written above
        if account and (not is_whole or "*" in account):
            text = f"must be ACCOUNT or NAMESPACE/ACCOUNT without *, not {account!r}"
            found.add((*at, index), "invalid-value", text)


def check_trust_domains(domains: Iterable[str], at: faults.Path, found: faults.Faults) -> None:
    """A trust domain has no path."""
    for index, domain in enumerate(domains):
        if "/" in domain:
            found.add((*at, index), "invalid-value", f"must be a domain without /, not {domain!r}")


def is_bracketed(key: str) -> bool:
    """Whether a key of `when` that ends in brackets names something in each of them."""
    _, bracket, names = key.partition("[")
    return not bracket or (names.endswith("]") and all(names[:-1].split("][")))
