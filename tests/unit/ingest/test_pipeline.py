"""The pipeline with its real thread and a fake core."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from navarch import records
from navarch.ingest import barrier, batcher, merger, pipeline
from tests import fakes

if TYPE_CHECKING:
    from collections.abc import Iterator

INIT = records.SourceEvent(records.EventType.INIT)
DONE = records.SourceEvent(records.EventType.INIT_DONE)


def key(name: str, kind: str = "Service") -> records.SourceKey:
    return records.SourceKey(kind, "x", name)


def apply(name: str, value: int = 1, kind: str = "Service") -> records.SourceEvent:
    made = records.RawObject(
        key(name, kind), {"v": value}, records.Origin("s", f"{name}.yaml", value)
    )
    return records.SourceEvent(records.EventType.APPLY, made.key, made)


def read(made: records.RawObject) -> records.Record:
    if made.body["v"] == 13:
        # A bug in a reader, not a fault of the object.
        raise ZeroDivisionError
    return records.Record(made.key, json.dumps(made.body).encode(), made.origin)


class Running:
    def __init__(self) -> None:
        self.core = fakes.FakeCore()
        self.stop = threading.Event()
        sources = ["s", "t"]
        self.pipeline = pipeline.Pipeline(
            self.core, merger.Merger(read, sources), barrier.Barrier(sources), batcher.Batcher()
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                self.pipeline.run(self.stop)
            except ZeroDivisionError:
                continue

    def names(self) -> list[str]:
        return sorted(k.name for k in self.core.state)

    def expect(self, *names: str) -> None:
        assert self.core.wait_for(lambda: self.names() == sorted(names)), self.names()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop.set()
    made.pipeline.close()
    made.thread.join(5)
    assert not made.thread.is_alive()


def open_gate(running: Running) -> None:
    running.pipeline.emit("s", [INIT, apply("a"), DONE])
    running.pipeline.emit("t", [INIT, DONE])
    running.expect("a")


def test_nothing_is_applied_before_every_source_has_told_all(running: Running) -> None:
    running.pipeline.emit("s", [INIT, apply("a"), apply("b"), DONE])
    running.pipeline.emit("t", [INIT, apply("c")])
    assert not running.pipeline.wait_applied(0.2)
    running.pipeline.emit("t", [apply("d"), DONE])
    assert running.pipeline.wait_applied(5)
    running.expect("a", "b", "c", "d")
    assert len(running.core.batches) == 1, "the first batch is whole"


def test_a_list_that_begins_anew_replaces_what_waits_of_the_one_before(running: Running) -> None:
    running.pipeline.emit("s", [INIT, apply("a"), apply("b")])
    running.pipeline.emit("s", [INIT, apply("b"), DONE])
    running.pipeline.emit("t", [INIT, DONE])
    running.expect("b")


def test_a_change_the_core_cannot_take_stops_no_other(running: Running) -> None:
    open_gate(running)
    running.core.poison.add(key("bad"))
    running.pipeline.emit("s", [apply("b"), apply("bad"), apply("c")])
    running.expect("a", "b", "c")
    assert running.core.wait_for(lambda: running.pipeline.diagnostics() != [])
    (told,) = running.pipeline.diagnostics()
    assert (told.code, told.key) == ("core-failed", key("bad"))
    assert running.pipeline.progress.n_failed_batches == 1


def test_a_bug_on_one_object_loses_no_other(running: Running) -> None:
    open_gate(running)
    running.pipeline.emit("s", [apply("b"), apply("bug", 13), apply("c")])
    running.expect("a", "b", "c")


def test_what_the_core_could_not_decode_is_told_until_the_object_changes(running: Running) -> None:
    open_gate(running)
    running.core.faults[key("b")] = records.Diagnostic("bad", "no", key=key("b"))
    running.pipeline.emit("s", [apply("b", 7)])
    running.expect("a", "b")
    assert running.core.wait_for(lambda: running.pipeline.diagnostics() != [])
    assert [str(d.origin) for d in running.pipeline.diagnostics()] == ["b.yaml:7"]
    running.core.faults.clear()
    running.pipeline.emit("s", [apply("b", 8)])
    assert running.core.wait_for(lambda: running.core.state[key("b")] == b'{"v": 8}')
    assert running.core.wait_for(lambda: running.pipeline.diagnostics() == [])


def test_reports_of_sources_are_replaced_by_subject(running: Running) -> None:
    one, two = records.Diagnostic("one", "1"), records.Diagnostic("two", "2")
    running.pipeline.report("s", "file", [one])
    running.pipeline.report("t", "file", [two])
    assert running.pipeline.diagnostics() == [one, two]
    running.pipeline.report("s", "file", [])
    assert running.pipeline.diagnostics() == [two]
