"""What runs in a pod: a small server that says who it is and does what a request asks of it.

    workloads.py http NAME PORT...
    workloads.py https NAME PEM PORT...      PEM holds certificate and key
    workloads.py tcp NAME PORT...
    workloads.py dns NAME PORT HOST=IP...

HTTP requests may carry `x-sleep` (seconds to wait before the answer), `x-fail-first` (how many requests with the same
`x-key` are answered with 503) and `x-fail-pods` (which pods answer 503, between commas). `GET /seen/KEY` tells how many
requests with that key came.
"""

from __future__ import annotations

import collections
import http.server
import json
import socket
import socketserver
import ssl
import struct
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
        is_failing = n_seen <= int(self.headers.get("x-fail-first", 0))
        is_failing |= self.name in self.headers.get("x-fail-pods", "").split(",")
        told = {
            "pod": self.name,
            "path": self.path,
            "method": self.command,
            "headers": {
                name.lower(): ",".join(self.headers.get_all(name, ())) for name in self.headers
            },
            "n_seen": n_seen,
            "peer": self.client_address[0],
            "port": self.connection.getsockname()[1],
            "is_tls": isinstance(self.connection, ssl.SSLSocket),
            "server_name": getattr(self.connection, "server_name_shown", ""),
        }
        self._answer(503 if is_failing else 200, told)

    do_POST = do_PUT = do_DELETE = do_OPTIONS = do_GET  # noqa: N815  the base class names them so

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
    request_queue_size = 128
    allow_reuse_address = True


class DnsHandler(socketserver.BaseRequestHandler):
    """Answers questions for IPv4 addresses from a table; all else does not exist."""

    addresses: ClassVar[dict[str, str]] = {}

    def handle(self) -> None:
        question, peer = self.request
        name, end = _read_name(question, 12)
        (kind,) = struct.unpack_from("!H", question, end)
        address = self.addresses.get(name)
        has_answer = address is not None and kind == 1
        flags = 0x8580 if address else 0x8583
        head = struct.pack("!2s5H", question[:2], flags, 1, int(has_answer), 0, 0)
        answer = b""
        if address and has_answer:
            answer = struct.pack("!3HIH4s", 0xC00C, 1, 1, 1, 4, socket.inet_aton(address))
        peer.sendto(head + question[12 : end + 4] + answer, self.client_address)


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    """Return the name at a place of a DNS message, and where it ends."""
    labels = []
    while (length := message[at]) != 0:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def _serve_dns(port: str, *table: str) -> socketserver.BaseServer:
    DnsHandler.addresses = dict(line.split("=", 1) for line in table)
    return socketserver.ThreadingUDPServer(("0.0.0.0", int(port)), DnsHandler)


def _note_server_name(peer: Any, name: str | None, _: ssl.SSLContext) -> None:
    peer.server_name_shown = name or ""


def _serve_tls(pem: str, port: str) -> socketserver.BaseServer:
    server = _HttpServer(("0.0.0.0", int(port)), HttpHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = _note_server_name
    # The handshake belongs to the connection's thread, not to the one that accepts.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    return server


def _serve(kind: str, words: list[str]) -> list[socketserver.BaseServer]:
    if kind == "dns":
        return [_serve_dns(*words)]
    if kind == "https":
        return [_serve_tls(words[0], port) for port in words[1:]]
    if kind == "tcp":
        return [_TcpServer(("0.0.0.0", int(port)), TcpHandler) for port in words]
    return [_HttpServer(("0.0.0.0", int(port)), HttpHandler) for port in words]


def main() -> None:
    """Serve on all ports until killed."""
    kind, name, *words = sys.argv[1:]
    HttpHandler.name = TcpHandler.name = name
    for server in _serve(kind, words):
        threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    main()
