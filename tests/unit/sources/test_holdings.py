from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from navarch import records
from navarch.sources.file import holdings

PATHS = [Path(name) for name in ("a", "b", "c")]
KEYS = [records.SourceKey("Service", "x", name) for name in ("1", "2", "3")]


def holding(keys: list[records.SourceKey]) -> holdings.Holding:
    entries = tuple(holdings.Entry(key, i + 1, -1, b"") for i, key in enumerate(keys))
    return holdings.Holding(None, entries=entries)


HISTORY = st.lists(
    st.tuples(st.sampled_from(PATHS), st.none() | st.lists(st.sampled_from(KEYS), max_size=4))
)


@given(HISTORY)
def test_the_first_place_by_path_wins_whatever_came_before(
    history: list[tuple[Path, list[records.SourceKey] | None]],
) -> None:
    held = holdings.Holdings()
    files: dict[Path, list[records.SourceKey]] = {}
    for path, keys in history:
        touched = held.replace(path, None if keys is None else holding(keys))
        assert touched >= set(keys or [])
        files.pop(path, None)
        if keys is not None:
            files[path] = keys
    for key in KEYS:
        want = min((path for path, keys in files.items() if key in keys), default=None)
        winner = held.find_winner(key)
        assert (winner.path if winner else None) == want
        n_claims = sum(keys.count(key) for keys in files.values())
        assert len(held.describe_duplicates(key)) == max(0, n_claims - 1)
    assert held.keys() == {key for keys in files.values() for key in keys}


def test_a_duplicate_names_both_places() -> None:
    held = holdings.Holdings()
    held.replace(Path("b"), holding([KEYS[0]]))
    held.replace(Path("a"), holding([KEYS[1], KEYS[0]]))
    (told,) = held.describe_duplicates(KEYS[0])
    assert str(told.origin) == "b:1"
    assert "a:2" in told.message
