"""A bounded queue between threads where the latest value of a key replaces the one that waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Mailbox(Generic[K, V]):
    """Holds at most `capacity` keys; a writer waits while it is full, unless its keys wait here already.

    A key keeps its place in the order when its value is replaced, so that a marker put after the first value
    still comes after the replaced one. Items put in one call are taken in one call.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: dict[K, V] = {}
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, items: Iterable[tuple[K, V]], *, drop: Callable[[K], bool] | None = None) -> bool:
        """Add items as one; block while the mailbox is over its limit.

        Args:
            items: Keys and values, in order.
            drop: Names the waiting keys that these items make void; they are taken out first.

        Returns:
            False where the mailbox is closed and nothing was added.
        """
        batch = dict(items)
        with self._changed:
            while (
                not self._is_closed
                and len(self._items) >= self._capacity
                and not self._items.keys() >= batch.keys()
            ):
                self._changed.wait()
            if self._is_closed:
                return False
            if drop is not None:
                for key in [key for key in self._items if drop(key)]:
                    del self._items[key]
            self._items.update(batch)
            self._changed.notify_all()
            return True

    def take(self, timeout_seconds: float | None) -> list[tuple[K, V]]:
        """Take all that waits, in order; wait up to `timeout_seconds` (None: without end) while nothing does."""
        with self._changed:
            if not self._items and not self._is_closed:
                self._changed.wait(timeout_seconds)
            taken = list(self._items.items())
            self._items.clear()
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Refuse what comes from now on, and wake all who wait; what is in it can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
