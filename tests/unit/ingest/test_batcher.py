from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from navarch import records
from navarch.ingest import barrier, batcher

LIMITS = batcher.Limits(quiet_seconds=0.1, hold_seconds=1.0, n_changes=5)


def config(name: str, payload: bytes = b"1") -> records.Change:
    return records.Change(records.SourceKey("VirtualService", "x", name), payload)


def endpoint(name: str, payload: bytes = b"1") -> records.Change:
    return records.Change(records.SourceKey("EndpointSlice", "x", name), payload)


def test_the_first_change_after_a_quiet_time_goes_at_once() -> None:
    held = batcher.Batcher(LIMITS)
    held.add([config("a")], 10.0)
    assert held.due_seconds(10.0) == 0
    assert held.take(10.0) == [config("a")]
    assert held.due_seconds(10.0) is None


def test_changes_close_behind_wait_until_it_is_quiet() -> None:
    held = batcher.Batcher(LIMITS)
    held.add([config("a")], 10.0)
    held.take(10.0)
    held.add([config("b")], 10.05)
    held.add([config("c")], 10.10)
    assert held.take(10.15) == []
    assert held.due_seconds(10.15) == 10.20 - 10.15
    assert held.take(10.21) == [config("b"), config("c")]


def test_a_source_that_never_rests_is_heard_once_a_second() -> None:
    held = batcher.Batcher(LIMITS)
    taken_at = []
    for i in range(300):
        now = 10 + i * 0.01
        held.add([config("a", str(i).encode())], now)
        if held.take(now):
            taken_at.append(now)
    assert len(taken_at) == 3
    assert max(b - a for a, b in itertools.pairwise(taken_at)) < 1.05


def test_endpoints_never_wait_and_take_no_configuration_with_them() -> None:
    held = batcher.Batcher(LIMITS)
    held.add([config("a")], 10.0)
    held.take(10.0)
    held.add([config("b"), endpoint("e")], 10.05)
    assert held.due_seconds(10.05) == 0
    assert held.take(10.05) == [endpoint("e")]
    assert held.take(10.16) == [config("b")]


def test_many_changes_do_not_wait() -> None:
    held = batcher.Batcher(LIMITS)
    held.add([config("z")], 10.0)
    held.take(10.0)
    held.add([config(str(i)) for i in range(5)], 10.01)
    assert len(held.take(10.01)) == 5


def test_the_latest_change_of_a_key_is_the_one_that_goes() -> None:
    held = batcher.Batcher(LIMITS)
    held.add([config("a", b"1"), config("a", b"2"), endpoint("e", b"1"), endpoint("e", b"2")], 10.0)
    assert held.take(10.0) == [config("a", b"2"), endpoint("e", b"2")]


STEP = st.tuples(
    st.floats(0, 0.5), st.sampled_from(["c1", "c2", "e1", "e2"]), st.binary(max_size=2)
)


@given(st.lists(STEP, max_size=40))
def test_no_change_is_lost_or_older_than_a_second(steps: list[tuple[float, str, bytes]]) -> None:
    held = batcher.Batcher(batcher.Limits())
    now, seen, want = 0.0, {}, {}
    pending_since: dict[records.SourceKey, float] = {}
    for pause, name, payload in steps:
        for _ in range(10):
            now += pause / 10
            for change in held.take(now):
                seen[change.key] = change.payload
                assert now - pending_since.pop(change.key) <= 1.0 + 0.06
        change = endpoint(name, payload) if name.startswith("e") else config(name, payload)
        held.add([change], now)
        want[change.key] = payload
        pending_since.setdefault(change.key, now)
    for change in held.take(now + 1):
        seen[change.key] = change.payload
    assert seen == want


def test_the_barrier_opens_when_the_last_source_has_told_all() -> None:
    done = records.SourceEvent(records.EventType.INIT_DONE)
    gate = barrier.Barrier(["a", "b"])
    gate.note("a", records.SourceEvent(records.EventType.INIT))
    assert gate.awaited() == ("a", "b")
    gate.note("a", done)
    gate.note("a", done)
    assert not gate.is_open
    gate.note("b", done)
    assert gate.is_open
    gate.note("b", records.SourceEvent(records.EventType.INIT))
    assert gate.is_open, "a later list takes nothing away"


def test_the_oldest_change_that_is_given_tells_the_age_of_a_batch() -> None:
    held = batcher.Batcher()
    held.add([config("a")], 10.0)
    assert held.oldest_at(10.01) == 10.0
    held.take(10.01)
    held.add([config("b")], 10.05)
    held.add([endpoint("e")], 10.06)
    held.add([endpoint("f")], 10.07)
    assert held.oldest_at(10.08) == 10.06, "configuration waits"
    held.take(10.08)
    assert held.oldest_at(10.09) == 10.09
    assert held.oldest_at(10.2) == 10.05
