"""Requests as an application in a pod makes them."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
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


def get(ip: str, port: int, path: str, headers: Mapping[str, str]) -> Reply:
    """Make one HTTP request over a connection of its own."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(ip, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        status, got = answer.status, {k.lower(): v for k, v in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        status, got, body = 0, {}, repr(error)
    finally:
        connection.close()
    return Reply(status, got, body, time.monotonic() - began)


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
