"""The bookshop's workloads: `web`, which asks `reviews`, and `reviews`, which says its version.

workload.py reviews --listen 127.77.0.12:18080 --version v1
workload.py web --listen 127.77.0.11:18000 --reviews 127.77.0.11:19080
"""

from __future__ import annotations

import abc
import argparse
import http.client
import http.server
import json
import threading
from typing import Any

RULE_HEADER = "x-canary-rule"
_TIMEOUT_SECONDS = 10.0


class Handler(http.server.BaseHTTPRequestHandler, abc.ABC):
    """Answers each GET with JSON, over connections that are kept."""

    protocol_version = "HTTP/1.1"
    # Head and body leave as one segment.
    wbufsize = 16_384
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        status, headers, body = self.page()
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    @abc.abstractmethod
    def page(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Return status, headers and body of the answer."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401  the base class names it so
        """Say nothing: thousands of requests are made."""


class Server(http.server.ThreadingHTTPServer):
    """Listens with a queue that bears a burst of connections."""

    daemon_threads = True
    request_queue_size = 128


def reviews(version: str) -> type[Handler]:
    """Return the workload `reviews` of one version."""

    class Reviews(Handler):
        def page(self) -> tuple[int, dict[str, str], dict[str, Any]]:
            stars = {"v1": None, "v2": 5}.get(version)
            return (
                200,
                {},
                {"version": version, "review": "An extremely good book.", "stars": stars},
            )

    return Reviews


def web(address: str) -> type[Handler]:
    """Return the workload `web`, which finds reviews at its sidecar's address."""
    kept = threading.local()

    def ask() -> tuple[int, str, dict[str, Any]]:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)
        kept.connection.request("GET", "/", headers={"Host": "reviews"})
        answer = kept.connection.getresponse()
        body = answer.read()
        told = json.loads(body) if answer.status == 200 else {"error": body.decode()}
        return answer.status, answer.headers.get(RULE_HEADER, ""), told

    class Web(Handler):
        def page(self) -> tuple[int, dict[str, str], dict[str, Any]]:
            try:
                status, rule, told = ask()
            except (OSError, http.client.HTTPException) as error:
                del kept.connection
                return 502, {}, {"error": f"reviews: {error}"}
            return status, {RULE_HEADER: rule}, {"book": "The Comedy of Errors", "reviews": told}

    return Web


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("reviews", "web"))
    parser.add_argument("--listen", required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--reviews", default="127.77.0.11:19080")
    told = parser.parse_args()
    host, _, port = told.listen.rpartition(":")
    handler = reviews(told.version) if told.role == "reviews" else web(told.reviews)
    Server((host, int(port)), handler).serve_forever()


if __name__ == "__main__":
    main()
