"""Requests as an application in a pod makes them."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; status 0 is none at all, `body` then says why.

    Attributes:
        seconds: How long it took.
    """

    status: int
    headers: Mapping[str, str]
    body: str
    seconds: float

    @property
    def told(self) -> dict[str, Any]:
        """Return what the workload said of itself and the request."""
        made: dict[str, Any] = json.loads(self.body)
        return made

    @property
    def pod(self) -> str:
        """Return who answered."""
        return str(self.told["pod"])

    @property
    def rule(self) -> str:
        """Return the rule that marked the answer; "" if none did."""
        return self.headers.get("x-rule", "")


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """How a client speaks TLS.

    Attributes:
        server_name: What it sends as SNI, and wants to see in the certificate.
        ca_file: Whose certificates it trusts.
        own_file: Its own certificate and key; "" if it shows none.
    """

    server_name: str
    ca_file: str
    own_file: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to a host.

    Attributes:
        ip: Where to connect; "" for the address of the service that the host names.
        port: Where to connect; 0 for the first port of that service.
    """

    host: str
    path: str = "/"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    method: str = "GET"
    ip: str = ""
    port: int = 0
    tls: Tls | None = None


def get(ip: str, port: int, path: str, headers: Mapping[str, str]) -> Reply:
    """Make one HTTP request over a connection of its own."""
    return ask(Request("", path, headers, ip=ip, port=port))


def ask(request: Request) -> Reply:
    """Make one HTTP request over a connection of its own, which may be of TLS."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(request.ip, request.port, timeout=TIMEOUT_SECONDS)
    headers = dict(request.headers)
    if request.host:
        headers["Host"] = request.host
    try:
        if request.tls is not None:
            connection.sock = _connect_tls(request, request.tls)
        connection.request(request.method, request.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        status, got = answer.status, {k.lower(): v for k, v in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        status, got, body = 0, {}, repr(error)
    finally:
        connection.close()
    return Reply(status, got, body, time.monotonic() - began)


def ask_raw(ip: str, port: int, written: bytes) -> Reply:
    """Send bytes as they are, and read one HTTP answer; status 0 if none comes."""
    began = time.monotonic()
    try:
        with socket.create_connection((ip, port), TIMEOUT_SECONDS) as peer:
            peer.sendall(written)
            answer = http.client.HTTPResponse(peer)
            answer.begin()
            body = answer.read().decode(errors="replace")
            status, got = answer.status, {k.lower(): v for k, v in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        status, got, body = 0, {}, repr(error)
    return Reply(status, got, body, time.monotonic() - began)


def _connect_tls(request: Request, tls: Tls) -> ssl.SSLSocket:
    plain = socket.create_connection((request.ip, request.port), TIMEOUT_SECONDS)
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.own_file:
            context.load_cert_chain(tls.own_file)
        return context.wrap_socket(plain, server_hostname=tls.server_name)
    except BaseException:
        plain.close()
        raise


def talk(ip: str, port: int, line: str) -> tuple[str, str]:
    """Open a TCP connection; return the greeting and the echo of a line, "" for what did not come."""
    try:
        with (
            socket.create_connection((ip, port), TIMEOUT_SECONDS) as peer,
            peer.makefile("rw") as file,
        ):
            greeting = file.readline().strip()
            file.write(f"{line}\n")
            file.flush()
            return greeting, file.readline().strip()
    except OSError:
        return "", ""


def can_connect(ip: str, port: int) -> bool:
    """Whether a TCP connection is taken."""
    try:
        with socket.create_connection((ip, port), TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
