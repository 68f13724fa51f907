"""The same laws at the client: what streams of either form are led to, and which bytes they get."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

import hypothesis
import pytest
from hypothesis import strategies as st

from navarch import core, records
from tests.properties import histories
from tests.xds import stream

pytestmark = [pytest.mark.extension, pytest.mark.timeout(300)]

TYPES: Final = tuple(stream.MESSAGES)
MARKER: Final = "marker"


@contextlib.contextmanager
def served(history: list[records.Change]) -> Iterator[tuple[core.Core, str]]:
    mesh = core.Core()
    mesh.apply(history)
    try:
        yield mesh, mesh.serve("127.0.0.1:0")
    finally:
        mesh.drain(0.0)


class Client:
    """Subscribes to all of every type, and acknowledges all."""

    def __init__(self, opened: stream.Stream) -> None:
        self.stream = opened
        self.types = {xds: stream.Subscriber(opened, xds) for xds in TYPES}
        for subscriber in self.types.values():
            subscriber.want("*")
            subscriber.take()

    @property
    def state(self) -> dict[str, dict[str, bytes]]:
        return {
            xds: {name: bytes(raw) for name, raw in subscriber.raw.items()}
            for xds, subscriber in self.types.items()
        }

    def take(self) -> stream.Response:
        got = self.stream.receive()
        self.types[got.xds].apply(got)
        self.stream.ack(got, ("*",))
        return got


@contextlib.contextmanager
def connect(address: str, form: str, node: dict[str, Any] = histories.NODES[0]) -> Iterator[Client]:
    with stream.open_stream(address, form, node) as opened:
        yield Client(opened)


def marker() -> records.Change:
    """Return a service that no history has; all four types tell of it."""
    ip = "10.97.0.1"
    ports = [{"name": "http", "port": 7777, "protocol": "TCP"}]
    spec = {"clusterIP": ip, "clusterIPs": [ip], "ports": ports}
    metadata = {"name": MARKER, "namespace": "shop"}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    return records.Change(records.SourceKey("Service", "shop", MARKER), json.dumps(body).encode())


@histories.share(10)
@hypothesis.given(histories.HISTORIES, st.lists(st.integers(0, 100), max_size=3))
def test_deltas_add_up_to_the_state_of_the_world(
    history: list[records.Change], places: list[int]
) -> None:
    first, *batches = histories.cut(history, places)
    with served(first) as (mesh, address), connect(address, stream.DELTA) as delta:
        for batch in batches:
            mesh.apply(batch)
        with connect(address, stream.SOTW) as sotw:
            expected = sotw.state
        while delta.state != expected:
            delta.take()


@histories.share(10)
@hypothesis.given(histories.HISTORIES, st.data())
def test_equal_meshes_give_equal_versions_and_bytes(
    history: list[records.Change], data: st.DataObject
) -> None:
    """A proxy that reconnects to another replica gets nothing anew."""
    other = data.draw(histories.reordered(history))
    told = []
    for replica in (history, other):
        with served(replica) as (_, address), connect(address, stream.DELTA) as client:
            versions = {xds: subscriber.versions for xds, subscriber in client.types.items()}
            of_types = {
                xds: subscriber.last and subscriber.last.version
                for xds, subscriber in client.types.items()
            }
            told.append((versions, of_types, client.state))
    assert told[0] == told[1]


@histories.share(10)
@hypothesis.given(histories.HISTORIES)
def test_the_same_again_pushes_nothing(history: list[records.Change]) -> None:
    with served(history) as (mesh, address), connect(address, stream.DELTA) as client:
        again = [change for change in history if change is _last(history, change.key)]
        mesh.apply(again)
        mesh.apply([marker()])
        seen: set[str] = set()
        while not seen.issuperset(TYPES):
            got = client.take()
            seen.add(got.xds)
            other = [name for name in got.resources if MARKER not in name and "7777" not in name]
            assert other == []


def _last(history: list[records.Change], key: records.SourceKey) -> records.Change | None:
    return next((change for change in reversed(history) if change.key == key), None)
