"""What every source owes (`sources.base`), tried on each source through its rig."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import pytest

from navarch import errors, records
from navarch.ingest import reader
from navarch.sources.file import source
from tests import fakes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from navarch.sources import base


class Rig(Protocol):
    """A platform under a test's hands."""

    def source(self) -> base.Source: ...
    def put(self, name: str, port: int) -> None: ...
    def delete(self, name: str) -> None: ...
    def take_away(self) -> None: ...
    def bring_back(self) -> None: ...


class FileRig:
    """Files of one Service each."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "mesh"
        self.root.mkdir()

    def source(self) -> base.Source:
        return source.FileSource([self.root], reader.catalog())

    def put(self, name: str, port: int) -> None:
        text = "apiVersion: v1\nkind: Service\n"
        text += f"metadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
        (self.root / f"{name}.yaml").write_text(text)

    def delete(self, name: str) -> None:
        (self.root / f"{name}.yaml").unlink()

    def take_away(self) -> None:
        self.root.rename(self.root.with_name("away"))

    def bring_back(self) -> None:
        self.root.with_name("away").rename(self.root)


class Run:
    """A source at work, run again when it fails as the supervisor does."""

    def __init__(self, each: base.Source) -> None:
        self.sink = fakes.Recorder()
        self.failures: list[errors.SourceError] = []
        self._source = each
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._source.run(self.sink, self._stop)
            except errors.SourceError as error:
                self.failures.append(error)
                self._stop.wait(0.05)

    def ports(self) -> dict[str, int]:
        return {k.name: o.body["spec"]["ports"][0]["port"] for k, o in self.sink.objects.items()}

    def expect(self, **ports: int) -> None:
        self.sink.wait_for(lambda: self.sink.n_lists > 0 and self.ports() == ports)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive(), "a source ends soon after it is told to"


@pytest.fixture(params=[FileRig])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    made: Rig = request.param(tmp_path)
    return made


@pytest.fixture
def run(rig: Rig) -> Iterator[Run]:
    rig.put("a", 1)
    rig.put("b", 2)
    running = Run(rig.source())
    running.expect(a=1, b=2)
    yield running
    running.close()


def test_a_run_lists_all_between_init_and_init_done(run: Run) -> None:
    types = [event.type for event in run.sink.events]
    apply = records.EventType.APPLY
    assert types == [records.EventType.INIT, apply, apply, records.EventType.INIT_DONE]
    assert all(event.object.origin.source for event in run.sink.events if event.object)


def test_changes_come_one_by_one(run: Run, rig: Rig) -> None:
    n_before = len(run.sink.events)
    rig.put("a", 10)
    run.expect(a=10, b=2)
    rig.put("c", 3)
    run.expect(a=10, b=2, c=3)
    rig.delete("b")
    run.expect(a=10, c=3)
    kinds = [(e.type, e.key and e.key.name) for e in run.sink.events[n_before:]]
    apply, delete = records.EventType.APPLY, records.EventType.DELETE
    assert kinds == [(apply, "a"), (apply, "c"), (delete, "b")], "nothing else is told again"


def test_what_vanished_while_the_platform_was_away_is_gone_after_the_next_list(
    run: Run, rig: Rig
) -> None:
    rig.take_away()
    run.sink.wait_for(lambda: "source-unavailable" in run.sink.codes(), 15)
    assert run.ports() == {"a": 1, "b": 2}, "what is known stays in force"
    assert all(failure.is_retryable for failure in run.failures)
    rig.bring_back()
    run.sink.wait_for(lambda: run.sink.n_lists == 2)
    run.expect(a=1, b=2)
    assert run.sink.faults() == []
    rig.delete("a")
    run.expect(b=2)


def test_an_object_that_comes_back_at_once_was_never_gone(run: Run, rig: Rig) -> None:
    rig.delete("a")
    rig.put("a", 7)
    run.expect(a=7, b=2)
    assert all(event.type is not records.EventType.DELETE for event in run.sink.events)
