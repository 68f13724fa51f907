"""The HTTP port: readiness, liveness, metrics and debugging, for machines and people."""

from __future__ import annotations

import dataclasses
import http.server
import json
import logging
import socket
import threading
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from navarch import records

_log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 10.0
"""A client that is silent for this long is cut off: each holds a thread."""
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclasses.dataclass(frozen=True, slots=True)
class Questions:
    """The functions that answer; each returns the state of now.

    Attributes:
        why_unready: Why no proxy should be sent here yet, "" where all is well.
        why_dead: Why this process should be started anew, "" where all is well.
        metrics: Prometheus' text.
        sync_status: JSON of what each proxy has acknowledged.
        config_dump: JSON of what the proxy of this id was sent; raises `errors.UnknownProxyError`.
        diagnostics: What is wrong now.
        workers: How each worker thread stands.
        readiness_notes: What is not as it should be, though proxies may be sent here.
    """

    why_unready: Callable[[], str]
    why_dead: Callable[[], str]
    metrics: Callable[[], str]
    sync_status: Callable[[], bytes]
    config_dump: Callable[[str], bytes]
    diagnostics: Callable[[], Sequence[records.Diagnostic]]
    workers: Callable[[], Sequence[Mapping[str, Any]]]
    readiness_notes: Callable[[], Sequence[str]] = tuple


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: HTTPStatus
    content_type: str
    body: bytes

    @classmethod
    def text(cls, status: HTTPStatus, message: str) -> Answer:
        """Make an answer of one line."""
        return cls(status, _TEXT, f"{message}\n".encode())


def answer(questions: Questions, target: str) -> Answer:
    """Answer a GET of `target` (path and query)."""
    parts = urllib.parse.urlsplit(target)
    routes: dict[str, Callable[[], Answer]] = {
        "/ready": lambda: _health(questions.why_unready(), questions.readiness_notes()),
        "/healthz": lambda: _health(questions.why_dead()),
        "/metrics": lambda: Answer(HTTPStatus.OK, _PROMETHEUS, questions.metrics().encode()),
        "/debug/syncz": lambda: Answer(HTTPStatus.OK, _JSON, questions.sync_status()),
        "/debug/config_dump": lambda: _config_dump(questions, parts.query),
        "/debug/diagnosticsz": lambda: _as_json([_shown(d) for d in questions.diagnostics()]),
        "/debug/workersz": lambda: _as_json(list(questions.workers())),
    }
    route = routes.get(parts.path)
    if route is None:
        known = "\n".join(routes)
        return Answer.text(HTTPStatus.NOT_FOUND, f"no such page; there are:\n{known}")
    try:
        return route()
    except errors.CoreError as error:
        return Answer.text(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _health(why_not: str, notes: Sequence[str] = ()) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if why_not else HTTPStatus.OK
    return Answer.text(status, "\n".join([why_not or "ok", *notes]))


def _config_dump(questions: Questions, query: str) -> Answer:
    proxy_ids = urllib.parse.parse_qs(query).get("proxyID", [])
    if not proxy_ids:
        hint = "give ?proxyID=, one of those that /debug/syncz lists"
        return Answer.text(HTTPStatus.BAD_REQUEST, hint)
    try:
        return Answer(HTTPStatus.OK, _JSON, questions.config_dump(proxy_ids[0]))
    except errors.UnknownProxyError as error:
        return Answer.text(HTTPStatus.NOT_FOUND, str(error))


def _as_json(value: object) -> Answer:
    return Answer(HTTPStatus.OK, _JSON, json.dumps(value, indent=1).encode())


def _shown(told: records.Diagnostic) -> dict[str, Any]:
    return {
        "severity": str(told.severity),
        "code": told.code,
        "istioCode": told.istio_code,
        "kind": told.key.kind if told.key else "",
        "namespace": told.key.namespace if told.key else "",
        "name": told.key.name if told.key else "",
        "field": told.field_path,
        "path": told.origin.path if told.origin else "",
        "line": told.origin.line if told.origin else 0,
        "message": told.message,
    }


class HttpServer:
    """Serves `answer` on threads of its own until `close`."""

    def __init__(self, address: settings.Address, questions: Questions) -> None:
        """Listen at once.

        Raises:
            errors.SettingsError: The address can't be listened on.
        """
        try:
            self._server = _Server(address, questions)
        except OSError as error:
            why = error.strerror or str(error)
            message = f"can't serve HTTP on {address} (--http-address): {why}"
            raise errors.SettingsError(message) from error
        self.address = settings.Address(address.host, self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="http",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Requests under way are not waited for at the end: they have no effect.
    block_on_close = False

    def __init__(self, address: settings.Address, questions: Questions) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.questions = questions
        super().__init__((address.host, address.port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        # Most are clients that went away; the traceback is for those who ask for it.
        _log.debug("HTTP request of %s failed", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "navarch"
    sys_version = ""
    timeout = REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        made = answer(self.server.questions, self.path)
        self.send_response(made.status)
        self.send_header("Content-Type", made.content_type)
        self.send_header("Content-Length", str(len(made.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(made.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401  the base class names it so
        _log.debug("HTTP %s", format % args)
