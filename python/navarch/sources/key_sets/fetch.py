"""One fetch of a key set, within limits of time and size.

The standard library's HTTP client does: one request an address in 20 minutes, with no pool, cookies or credentials.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from navarch import errors
from navarch.runtime import clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PIECE_BYTES: Final = 64 * 1024

DISCOVERY_SUFFIX: Final = "/.well-known/openid-configuration"
MAX_BYTES: Final = 1024 * 1024
"""Far above any issuer's set, and little enough to be inlined into listeners."""


class Fetcher:
    """Fetches key sets from wherever it may.

    Args:
        blocked: Networks that are not connected to, whatever a name resolves to and wherever an answer redirects.
    """

    def __init__(self, blocked: Iterable[Network] = ()) -> None:
        guard = _Guard(tuple(blocked))
        self._opener = urllib.request.build_opener(_WebOnly, _Http(guard), _Https(guard))

    def fetch_key_set(self, address: str, timeout_seconds: float) -> str:
        """Return the text of the set; for an OpenID provider's discovery document, of the set that it names.

        Raises:
            errors.SourceError: The address can't be reached in time, is blocked, refuses, or gives too much.
        """
        text = self._fetch(address, timeout_seconds)
        if not address.endswith(DISCOVERY_SUFFIX):
            return text
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unavailable(f"{address} gives no JSON") from error
        where = document.get("jwks_uri") if isinstance(document, dict) else None
        if not isinstance(where, str) or not where:
            raise _unavailable(f"{address} names no jwks_uri")
        return self._fetch(where, timeout_seconds)

    def _fetch(self, address: str, timeout_seconds: float) -> str:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise _unavailable(f"{address} is no http:// or https:// address")
        request = urllib.request.Request(address, headers={"Accept": "application/json"})  # noqa: S310 - checked above
        try:
            with self._opener.open(request, timeout=timeout_seconds) as answer:
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


class _Guard:
    """Connects to what is not blocked: the address that is checked is the one that is connected to."""

    def __init__(self, blocked: tuple[Network, ...]) -> None:
        self._blocked = blocked

    def connect(self, address: tuple[str, int], timeout: Any, *more: Any) -> socket.socket:  # noqa: ANN401 - as socket's
        """Connect as `socket.create_connection` does."""
        host, port = address
        fault: OSError | None = None
        for _, _, _, _, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            ip = str(found[0])
            try:
                self._check(ip)
                return socket.create_connection((ip, port), timeout, *more)
            except OSError as error:
                fault = error
        raise fault or OSError(f"{host} has no address")

    def _check(self, ip: str) -> None:
        parsed = ipaddress.ip_address(ip.partition("%")[0])
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        network = next((each for each in self._blocked if parsed in each), None)
        if network is not None:
            raise OSError(f"{ip} is in {network}, which --blocked-key-address excludes")


class _Http(urllib.request.HTTPHandler):
    """HTTP past the guard."""

    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:  # noqa: ANN401 - passed on
            return _guarded(http.client.HTTPConnection(host, **options), self._guard)

        return self.do_open(connection, req)


class _Https(urllib.request.HTTPSHandler):
    """HTTPS past the guard."""

    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:  # noqa: ANN401 - passed on
            return _guarded(http.client.HTTPSConnection(host, **options), self._guard)

        return self.do_open(connection, req)


def _guarded(connection: http.client.HTTPConnection, guard: _Guard) -> http.client.HTTPConnection:
    # The one place where the standard library's connection lets its caller connect.
    connection._create_connection = guard.connect  # type: ignore[attr-defined]  # noqa: SLF001
    return connection


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
