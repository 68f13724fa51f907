"""What workloads tell of their health is handed on once each time that it turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from navarch import records
from navarch.feedback import board

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY = records.SourceKey("WorkloadEntry", "n", "vm")


class Box:
    """Keeps what is put."""

    def __init__(self) -> None:
        self.got: list[tuple[records.SourceKey, dict[str, Any]]] = []

    def put(self, items: Iterable[tuple[records.SourceKey, dict[str, Any]]]) -> bool:
        """Take it."""
        self.got.extend(items)
        return True


def row(value: str) -> dict[str, Any]:
    conditions = [{"type": "Healthy", "status": value}]
    return {
        "kind": KEY.kind,
        "namespace": KEY.namespace,
        "name": KEY.name,
        "status": {"conditions": conditions},
    }


def test_each_turn_is_handed_on_once() -> None:
    now = (1, [row("True")])
    box = Box()
    made = board.HealthBoard(lambda known: None if known == now[0] else now, box)
    made.poll()
    made.poll()
    assert box.got == [(KEY, row("True")["status"])]
    now = (2, [row("True")])
    made.poll()
    assert len(box.got) == 1, "another number with the same word is no news"
    now = (3, [row("False")])
    made.poll()
    assert box.got[1:] == [(KEY, row("False")["status"])]
    now = (4, [])
    made.poll()
    now = (5, [row("False")])
    made.poll()
    assert len(box.got) == 3, "who comes again is written again: others may have written meanwhile"
