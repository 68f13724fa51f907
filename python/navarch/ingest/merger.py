"""Many sources → one state: each key has one owner, and its last valid version is in force (no I/O, no clock)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from navarch import errors, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Read = Callable[[records.RawObject], records.Record]


@dataclasses.dataclass(slots=True)
class _Offer:
    """What one source gives for a key: the last version of it that was valid, if there was one."""

    record: records.Record | None
    faults: tuple[records.Diagnostic, ...] = ()
    generation: int = 0


class Merger:
    """Takes events in any order of sources; gives the changes of what is in force.

    Where several sources give an object, the source that was named first owns it, and the next one takes over when
    that source gives it up, or has never given a valid version.
    """

    def __init__(
        self,
        read: Read,
        sources: Sequence[str],
        defaults: Iterable[records.Record] = (),
        without_effect: frozenset[str] = frozenset(),
    ) -> None:
        """Begin with nothing but the defaults, which `start` gives.

        Args:
            read: Checks an object; raises `errors.CrdError`.
            sources: All sources by name, the one that owns first.
            defaults: What is in force for a key that no source gives.
            without_effect: Kinds whose objects do nothing, of which their owners are warned.
        """
        self._read = read
        self._rank = {source: rank for rank, source in enumerate(sources)}
        self._defaults = {record.key: record for record in defaults}
        self._offers: dict[records.SourceKey, dict[str, _Offer]] = {}
        self._in_force: dict[records.SourceKey, records.Record] = {}
        self._of_source: dict[str, set[records.SourceKey]] = {name: set() for name in sources}
        self._unconfirmed: dict[str, set[records.SourceKey]] = {}
        self._without_effect = without_effect
        self._faulty: set[records.SourceKey] = set()

    def add_source(self, name: str) -> None:
        """Add a source that came later; all that were there before own what they give."""
        if name not in self._rank:
            self._rank[name] = len(self._rank)
            self._of_source[name] = set()

    def start(self) -> list[records.Change]:
        """Put the defaults in force."""
        return [change for key in self._defaults for change in self._settle(key)]

    def take(self, source: str, event: records.SourceEvent) -> list[records.Change]:
        """Take in one event; return what changes by it, mostly one key or none."""
        if event.type is records.EventType.INIT:
            self._unconfirmed[source] = set(self._of_source[source])
            return []
        if event.type is records.EventType.INIT_DONE:
            gone = sorted(self._unconfirmed.pop(source, ()))
            return [change for key in gone for change in self._withdraw(source, key)]
        if event.type is records.EventType.APPLY and event.object is not None:
            self._unconfirmed.get(source, set()).discard(event.object.key)
            return self._offer(source, event.object)
        if event.key is not None:
            return self._withdraw(source, event.key)
        return []

    def diagnostics(self) -> list[records.Diagnostic]:
        """Return what is wrong with the objects that sources give now."""
        told = []
        for key in sorted(self._faulty):
            offers = self._offers[key]
            told += [fault for offer in offers.values() for fault in offer.faults]
            told += self._describe_owners(key)
            told += self._describe_effect(key)
        return told

    def find_origin(self, key: records.SourceKey) -> records.Origin | None:
        """Return where the version in force was read, None where the key is not in force."""
        record = self._in_force.get(key)
        return record.origin if record else None

    def generations(self, kinds: frozenset[str]) -> dict[records.SourceKey, int]:
        """Return which version of its specification each object of these kinds was last given in."""
        return {
            key: max(offer.generation for offer in offers.values())
            for key, offers in self._offers.items()
            if key.kind in kinds and offers
        }

    def n_in_force(self) -> int:
        """Count the objects in force."""
        return len(self._in_force)

    def keys(self) -> list[records.SourceKey]:
        """Return the keys of all objects in force, sorted."""
        return sorted(self._in_force)

    def _offer(self, source: str, raw: records.RawObject) -> list[records.Change]:
        offers = self._offers.setdefault(raw.key, {})
        self._of_source[source].add(raw.key)
        try:
            record = self._read(raw)
            offers[source] = _Offer(record, record.warnings, raw.generation)
        except errors.CrdError as error:
            before = offers.get(source)
            kept = before.record if before else None
            offers[source] = _Offer(kept, error.diagnostics, raw.generation)
        return self._settle(raw.key)

    def _withdraw(self, source: str, key: records.SourceKey) -> list[records.Change]:
        offers = self._offers.get(key, {})
        offers.pop(source, None)
        self._of_source[source].discard(key)
        if not offers:
            self._offers.pop(key, None)
        return self._settle(key)

    def _settle(self, key: records.SourceKey) -> list[records.Change]:
        """Put the best offer in force; return the change, if there is one."""
        offers = self._offers.get(key, {})
        is_idle = bool(offers) and key.kind in self._without_effect
        if is_idle or len(offers) > 1 or any(offer.faults for offer in offers.values()):
            self._faulty.add(key)
        else:
            self._faulty.discard(key)
        best = self._defaults.get(key)
        for source in sorted(offers, key=self._rank.__getitem__, reverse=True):
            best = offers[source].record or best
        before = self._in_force.get(key)
        if best is None:
            if before is None:
                return []
            del self._in_force[key]
            return [records.Change(key, None)]
        self._in_force[key] = best
        if before is not None and before.payload == best.payload:
            return []
        return [records.Change(key, best.payload)]

    def _describe_effect(self, key: records.SourceKey) -> list[records.Diagnostic]:
        """Warn of an object that is valid and does nothing: a policy that denies nobody must not go unnoticed."""
        in_force = self._in_force.get(key)
        if in_force is None or key.kind not in self._without_effect:
            return []
        message = f"navarch does not act on {key.kind} yet: the object has no effect"
        severity = records.Severity.WARNING
        return [
            records.Diagnostic("unsupported-kind", message, severity, key, "kind", in_force.origin)
        ]

    def _describe_owners(self, key: records.SourceKey) -> list[records.Diagnostic]:
        """Tell of every source that gives an object which another source owns."""
        in_force = self._in_force.get(key)
        if in_force is None:
            return []
        message = f"the object is given at {in_force.origin} too, which is in force; remove one"
        return [
            records.Diagnostic("duplicate-object", message, key=key, origin=offer.record.origin)
            for offer in self._offers[key].values()
            if offer.record is not None and offer.record is not in_force
        ]
