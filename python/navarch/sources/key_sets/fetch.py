"""One fetch of a key set, within limits of time and size.

The standard library's HTTP client does: one request an address in 20 minutes, with no pool, cookies or credentials.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Final

from navarch import errors
from navarch.runtime import clock

_PIECE_BYTES: Final = 64 * 1024

DISCOVERY_SUFFIX: Final = "/.well-known/openid-configuration"
MAX_BYTES: Final = 1024 * 1024
"""Far above any issuer's set, and little enough to be inlined into listeners."""


def fetch_key_set(address: str, timeout_seconds: float) -> str:
    """Return the text of the set; for an OpenID provider's discovery document, of the set that it names.

    Raises:
        errors.SourceError: The address can't be reached in time, refuses, or gives too much.
    """
    text = _fetch(address, timeout_seconds)
    if not address.endswith(DISCOVERY_SUFFIX):
        return text
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unavailable(f"{address} gives no JSON") from error
    where = document.get("jwks_uri") if isinstance(document, dict) else None
    if not isinstance(where, str) or not where:
        raise _unavailable(f"{address} names no jwks_uri")
    return _fetch(where, timeout_seconds)


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes | None:
    """Read at most a byte too much; None where it takes too long (the socket's timeout is for each piece alone)."""
    body = b""
    while len(body) <= MAX_BYTES:
        piece = answer.read1(min(_PIECE_BYTES, MAX_BYTES + 1 - len(body)))
        if not piece:
            break
        if clock.SystemClock().now() > deadline:
            return None
        body += piece
    return body


def _unavailable(message: str) -> errors.SourceError:
    return errors.SourceError(message, is_retryable=True)


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, never from HTTPS to HTTP."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


_OPENER: Final = urllib.request.build_opener(_WebOnly)


def _fetch(address: str, timeout_seconds: float) -> str:
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise _unavailable(f"{address} is no http:// or https:// address")
    request = urllib.request.Request(address, headers={"Accept": "application/json"})  # noqa: S310 - checked above
    try:
        with _OPENER.open(request, timeout=timeout_seconds) as answer:
            body = _read(answer, clock.SystemClock().now() + timeout_seconds)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unavailable(f"{address} can't be fetched: {error}") from error
    if body is None:
        raise _unavailable(f"{address} takes longer than {timeout_seconds:g} s")
    if len(body) > MAX_BYTES:
        raise _unavailable(f"{address} gives more than {MAX_BYTES} bytes")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise _unavailable(f"{address} gives no UTF-8") from error
