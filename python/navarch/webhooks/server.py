"""The HTTPS port of the webhooks."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import logging
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, settings
from navarch.webhooks import injector, review, validation

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from navarch.webhooks.injector import Injector

_log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""An object of at most 1.5 MB, twice, with room to spare: etcd takes no larger ones."""
MAX_CONNECTIONS: Final = 512
REQUEST_SECONDS: Final = 10.0
"""A client that is silent within a handshake or a body for this long is cut off: each holds a thread."""
IDLE_SECONDS: Final = 120.0
"""The API server keeps connections; one that is closed while it sends costs a user's request."""
VALIDATE_PATH: Final = "/validate"
_JSON: Final = "application/json"


@dataclasses.dataclass(slots=True)
class Counts:
    """What was answered so far."""

    n_passed: int = 0
    n_refused: int = 0
    n_unreadable: int = 0


class WebhookServer:
    """Answers on threads of its own until `close`."""

    def __init__(
        self,
        address: settings.Address,
        context: Callable[[], ssl.SSLContext],
        pods: Injector,
    ) -> None:
        """Listen at once.

        Args:
            address: Where.
            context: Gives the TLS settings of now, asked for each connection.
            pods: Answers for pods.

        Raises:
            errors.SettingsError: The address can't be listened on.
        """
        self.counts = Counts()
        try:
            self._server = _Server(address, context, pods, self.counts)
        except OSError as error:
            why = error.strerror or str(error)
            message = f"can't serve webhooks on {address} (--https-address): {why}"
            raise errors.SettingsError(message) from error
        self.address = settings.Address(address.host, self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="webhooks",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering; what was asked already is answered, and kept connections end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.end_connections()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: settings.Address,
        context: Callable[[], ssl.SSLContext],
        pods: Injector,
        counts: Counts,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.context = context
        self.pods = pods
        self.counts = counts
        self.places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        # Answers are made one after another: threads that take turns would all be late together.
        self.turn = threading.Lock()
        self.is_closing = False
        self._open: set[ssl.SSLSocket] = set()
        self._lock = threading.Lock()
        super().__init__((address.host, address.port), _Handler)

    def end_connections(self) -> None:
        """Let no connection bring another request."""
        self.is_closing = True
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    # Of the socket below TLS, which still has an answer to write, and only its reading half.
                    socket.socket.shutdown(each, socket.SHUT_RD)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002
        return self.places.acquire(blocking=False)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        # In the connection's own thread: a slow handshake holds up nobody else.
        try:
            request.settimeout(REQUEST_SECONDS)
            with self.context().wrap_socket(request, server_side=True) as tls:
                with self._lock:
                    self._open.add(tls)
                try:
                    super().finish_request(tls, client_address)
                finally:
                    with self._lock:
                        self._open.discard(tls)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        # Mostly clients that speak no TLS, do not trust the certificate, or went away.
        _log.debug("webhook request of %s failed", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "navarch"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: _Server

    def parse_request(self) -> bool:
        # A request may have come in just before the connection was ended; the API server asks another replica.
        if self.server.is_closing:
            self.close_connection = True
            return False
        return super().parse_request()

    def do_GET(self) -> None:
        if self.path == "/ready":
            self._send(HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n")
        else:
            self._fail(HTTPStatus.NOT_FOUND, f"POST to {injector.PATH} or {VALIDATE_PATH}")

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            return
        path = self.path.partition("?")[0]
        is_pod = path == injector.PATH or path.startswith(f"{injector.PATH}/")
        if not is_pod and path != VALIDATE_PATH and not path.startswith(f"{VALIDATE_PATH}/"):
            self._fail(HTTPStatus.NOT_FOUND, f"POST to {injector.PATH} or {VALIDATE_PATH}")
            return
        try:
            with self.server.turn:
                answer = self._answer(path, body, is_pod=is_pod)
        except review.UnreadableError as error:
            self.server.counts.n_unreadable += 1
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._send(HTTPStatus.OK, _JSON, answer)

    def _answer(self, path: str, body: bytes, *, is_pod: bool) -> bytes:
        request = review.read_request(body)
        if is_pod:
            return review.render_verdict(request.uid, self.server.pods.inject(request, path))
        verdict = validation.validate(request)
        if verdict.refusal:
            self.server.counts.n_refused += 1
        else:
            self.server.counts.n_passed += 1
        return review.render_verdict(request.uid, verdict)

    def _read_body(self) -> bytes | None:
        """Return the body; None if there was something wrong with it, which is answered already."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._fail(HTTPStatus.LENGTH_REQUIRED, "send Content-Length", is_last=True)
        elif int(length[:20]) > MAX_BODY_BYTES:
            text = f"the body has more than {MAX_BODY_BYTES} bytes"
            self._fail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text, is_last=True)
        elif self.headers.get_content_type() != _JSON:
            self._fail(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {_JSON}", is_last=True)
        else:
            self.connection.settimeout(REQUEST_SECONDS)
            body = self.rfile.read(int(length))
            self.connection.settimeout(IDLE_SECONDS)
            if len(body) == int(length):
                return body
            self._fail(HTTPStatus.BAD_REQUEST, "the body is cut off", is_last=True)
        return None

    def _fail(self, status: HTTPStatus, message: str, *, is_last: bool = False) -> None:
        if is_last:
            # The rest of the body, unread, would be taken for the next request.
            self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", f"{message}\n".encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401  the base class names it so
        _log.debug("webhook %s", format % args)
