from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from navarch import errors, records
from navarch.ingest import merger

if TYPE_CHECKING:
    from collections.abc import Iterable

A = records.SourceKey("Service", "x", "a")
B = records.SourceKey("Service", "x", "b")
KEYS = [A, B]
SOURCES = ["first", "second"]
INIT = records.SourceEvent(records.EventType.INIT)
DONE = records.SourceEvent(records.EventType.INIT_DONE)


def raw(key: records.SourceKey, value: int, source: str = "first") -> records.RawObject:
    return records.RawObject(key, {"value": value}, records.Origin(source, f"{source}.yaml", value))


def apply(key: records.SourceKey, value: int, source: str = "first") -> records.SourceEvent:
    return records.SourceEvent(records.EventType.APPLY, key, raw(key, value, source))


def delete(key: records.SourceKey) -> records.SourceEvent:
    return records.SourceEvent(records.EventType.DELETE, key)


def read(made: records.RawObject) -> records.Record:
    """Negative values are invalid."""
    if made.body["value"] < 0:
        fault = records.Diagnostic("bad", "is negative", key=made.key, origin=made.origin)
        raise errors.CrdError([fault])
    return records.Record(made.key, json.dumps(made.body["value"]).encode(), made.origin)


def take(
    merged: merger.Merger, *events: tuple[str, records.SourceEvent]
) -> list[tuple[str, str | None]]:
    changes = [change for source, event in events for change in merged.take(source, event)]
    return [(c.key.name, None if c.payload is None else c.payload.decode()) for c in changes]


def test_an_object_that_becomes_invalid_keeps_its_last_valid_version() -> None:
    merged = merger.Merger(read, SOURCES)
    assert take(merged, ("first", apply(A, 1)), ("first", apply(A, -1))) == [("a", "1")]
    assert [d.code for d in merged.diagnostics()] == ["bad"]
    assert take(merged, ("first", apply(A, 2))) == [("a", "2")]
    assert merged.diagnostics() == []


def test_an_object_that_was_never_valid_is_not_in_force() -> None:
    merged = merger.Merger(read, SOURCES)
    assert take(merged, ("first", apply(A, -1)), ("first", delete(A))) == []
    assert merged.diagnostics() == []


def test_the_first_source_owns_and_the_next_takes_over() -> None:
    merged = merger.Merger(read, SOURCES)
    assert take(merged, ("second", apply(A, 2, "second"))) == [("a", "2")]
    assert take(merged, ("first", apply(A, 1))) == [("a", "1")]
    (told,) = merged.diagnostics()
    assert told.code == "duplicate-object"
    assert str(told.origin) == "second.yaml:2"
    assert "first.yaml:1" in told.message
    assert take(merged, ("second", apply(A, 3, "second"))) == []
    assert take(merged, ("first", delete(A))) == [("a", "3")]
    assert merged.diagnostics() == []


def test_an_unchanged_payload_is_no_change() -> None:
    merged = merger.Merger(read, SOURCES)
    assert take(merged, ("first", apply(A, 1)), ("first", apply(A, 1))) == [("a", "1")]


def test_what_a_new_list_lacks_is_gone_when_the_list_is_done() -> None:
    merged = merger.Merger(read, SOURCES)
    take(merged, ("first", apply(A, 1)), ("first", apply(B, 1)), ("second", apply(B, 5, "second")))
    assert take(merged, ("first", INIT), ("first", apply(A, 2))) == [("a", "2")]
    assert take(merged, ("first", DONE)) == [("b", "5")]


def test_a_default_holds_while_no_source_gives_a_valid_one() -> None:
    default = records.Record(A, b"0", records.Origin("defaults"))
    merged = merger.Merger(read, SOURCES, [default])
    assert [c.payload for c in merged.start()] == [b"0"]
    assert take(merged, ("first", apply(A, -1))) == []
    assert take(merged, ("first", apply(A, 1)), ("first", delete(A))) == [("a", "1"), ("a", "0")]


def test_an_object_without_effect_is_warned_of_while_it_is_there() -> None:
    merged = merger.Merger(read, SOURCES, without_effect=frozenset({"Service"}))
    take(merged, ("first", apply(A, 1)))
    (told,) = merged.diagnostics()
    assert (told.code, told.severity, told.key) == ("unsupported-kind", "warning", A)
    take(merged, ("first", delete(A)))
    assert merged.diagnostics() == []


EVENTS = st.one_of(
    st.builds(apply, st.sampled_from(KEYS), st.integers(-2, 3)),
    st.builds(delete, st.sampled_from(KEYS)),
)


def state(changes: Iterable[records.Change]) -> dict[records.SourceKey, bytes]:
    made: dict[records.SourceKey, bytes] = {}
    for change in changes:
        if change.payload is None:
            del made[change.key]
        else:
            made[change.key] = change.payload
    return made


@given(st.lists(st.tuples(st.sampled_from(SOURCES), EVENTS), max_size=20), st.randoms())
def test_the_order_of_different_keys_and_sources_is_all_one(
    history: list[tuple[str, records.SourceEvent]], random: object
) -> None:
    """Only the order of one source's events on one key may count."""
    lanes: dict[tuple[str, records.SourceKey | None], list[tuple[str, records.SourceEvent]]] = {}
    for source, event in history:
        lanes.setdefault((source, event.key), []).append((source, event))
    shuffled = []
    while lanes:
        lane = random.choice(sorted(lanes, key=str))  # type: ignore[attr-defined]
        shuffled.append(lanes[lane].pop(0))
        if not lanes[lane]:
            del lanes[lane]
    one, two = merger.Merger(read, SOURCES), merger.Merger(read, SOURCES)
    told_one = [change for source, event in history for change in one.take(source, event)]
    told_two = [change for source, event in shuffled for change in two.take(source, event)]
    assert state(told_one) == state(told_two)
    assert one.keys() == two.keys() == sorted(state(told_one))
    assert {str(d) for d in one.diagnostics()} == {str(d) for d in two.diagnostics()}
