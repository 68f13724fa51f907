"""What runs in a pod: a small HTTP or TCP server that says who it is and does what a request asks of it.

    workloads.py http NAME PORT...
    workloads.py tcp NAME PORT...

HTTP requests may carry `x-sleep` (seconds to wait before the answer) and `x-fail-first` (how many requests with the
same `x-key` are answered with 503). `GET /seen/KEY` tells how many requests with that key came.
"""

from __future__ import annotations

import collections
import http.server
import json
import socketserver
import sys
import threading
import time
from typing import Any, ClassVar


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """Echoes what it got, as JSON."""

    protocol_version = "HTTP/1.1"
    # Head and body leave as one segment.
    wbufsize = 16_384
    disable_nagle_algorithm = True
    name = ""
    n_seen: ClassVar[collections.Counter[str]] = collections.Counter()
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path.startswith("/seen/"):
            self._answer(200, {"n_seen": self.n_seen[self.path.removeprefix("/seen/")]})
            return
        key = self.headers.get("x-key", "")
        with self.lock:
            self.n_seen[key] += 1
            n_seen = self.n_seen[key]
        time.sleep(float(self.headers.get("x-sleep", 0)))
        status = 503 if n_seen <= int(self.headers.get("x-fail-first", 0)) else 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"pod": self.name, "path": self.path, "headers": headers, "n_seen": n_seen}
        self._answer(status, told)

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Say nothing: thousands of requests are made."""


class TcpHandler(socketserver.StreamRequestHandler):
    """Speaks first, as many TCP protocols do: its name; then echoes lines."""

    name = ""

    def handle(self) -> None:
        self.wfile.write(f"{self.name}\n".encode())
        for line in self.rfile:
            self.wfile.write(line)


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def main() -> None:
    """Serve on all ports until killed."""
    kind, name, *ports = sys.argv[1:]
    HttpHandler.name = TcpHandler.name = name
    for port in ports:
        at = ("0.0.0.0", int(port))
        server: socketserver.BaseServer = (
            _HttpServer(at, HttpHandler) if kind == "http" else _TcpServer(at, TcpHandler)
        )
        threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    main()
