"""Customers of the bookshop: they ask its web page and note who answered."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import http.client
import json
from collections import Counter

import workload

_TIMEOUT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Who answered and which rule let it through; a fault has neither."""

    version: str = ""
    rule: str = ""
    fault: str = ""


class Shopper:
    """One customer, over one connection."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)

    def ask(self) -> Answer:
        """Ask for the page once."""
        try:
            self._connection.request("GET", "/", headers={"Host": "web"})
            got = self._connection.getresponse()
            body = got.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(fault=type(error).__name__)
        if got.status != 200:
            return Answer(fault=f"{got.status}: {body[:80].decode(errors='replace')}")
        version = json.loads(body)["reviews"].get("version", "")
        return Answer(version, got.headers.get(workload.RULE_HEADER, ""))


def measure(address: str, n_requests: int, n_shoppers: int) -> Counter[Answer]:
    """Count who answers `n_requests`."""

    def ask_all(n_each: int) -> Counter[Answer]:
        shopper = Shopper(address)
        return Counter(shopper.ask() for _ in range(n_each))

    with concurrent.futures.ThreadPoolExecutor(n_shoppers) as pool:
        parts = pool.map(ask_all, [n_requests // n_shoppers] * n_shoppers)
        return sum(parts, Counter[Answer]())
