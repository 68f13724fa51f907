"""Writes statuses into objects: each change once, by the replica that holds the object's Lease."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from typing import TYPE_CHECKING, Any, Final

from navarch import errors
from navarch.runtime import backoff, clock
from navarch.sources.kubernetes import client

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from navarch import records
    from navarch.runtime import mailbox
    from navarch.sources.kubernetes import lease, reader

_log = logging.getLogger(__name__)

WRITES_PER_SECOND: Final = 50.0
"""More would take the API server's attention from those who wait for it."""
_WAIT_SECONDS: Final = 0.5
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_FORBIDDEN: Final = 403
_BUSY: Final = 429
_SERVER_ERROR: Final = 500
_REVISION: Final = "istio.io/rev"
_CONTROLLER: Final = "istio.io/gateway-controller"
_OTHERS: Final = {"parents": "parentRef", "ancestors": "ancestorRef"}
"""Lists of which each controller has its own entries."""

Wanted = dict[str, Any]
"""A status without times and generations, and `observedGeneration` where it is known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holds:
    """Who writes where several revisions of the control plane are side by side.

    Attributes:
        revision: Of this control plane.
        own: Held by the replica that writes what is labelled with the revision: no other reads it.
        shared: Held by one replica of all revisions, which writes what all of them read.
    """

    revision: str
    own: lease.Lease
    shared: lease.Lease

    def of(self, found: Mapping[str, Any], *, has_revisions: bool) -> lease.Lease:
        """Return the Lease of an object, of a kind that is read by revision or by all."""
        label = (found["metadata"].get("labels") or {}).get(_REVISION)
        return self.own if has_revisions and label == self.revision else self.shared

    def is_any_held(self) -> bool:
        """Whether there is anything to write for this replica."""
        return self.own.is_held or self.shared.is_held


class Unshared:
    """Lets this replica write everything: for what it alone knows."""

    is_held = True

    def of(self, _: Mapping[str, Any], *, has_revisions: bool) -> Unshared:
        """Return itself, whatever the object."""
        del has_revisions
        return self

    def is_any_held(self) -> bool:
        """Return that there may always be something to write."""
        return True


class StatusWriter:
    """Takes wanted statuses from a mailbox, latest per object."""

    def __init__(
        self,
        place: reader.Place,
        kinds: Mapping[str, reader.Kind],
        holds: Holds | Unshared,
        wanted: mailbox.Mailbox[records.SourceKey, Wanted],
        time: clock.Clock | None = None,
    ) -> None:
        self._client = place.api
        self._resources = place.resources
        self._kinds = kinds
        self._holds = holds
        self._wanted = wanted
        self._clock = time or clock.SystemClock()
        self._schedule = backoff.Backoff()
        self._pending: dict[records.SourceKey, Wanted] = {}
        self._of_others: dict[lease.Lease | Unshared, dict[records.SourceKey, Wanted]] = {}
        """What another replica writes, by the Lease with which it would be this one's to write."""
        self.n_written = 0
        self.n_failed = 0
        self._refused: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Write until `stop` is set; without a Lease only remember what is wanted."""
        n_failures = 0
        while not stop.is_set():
            self._note_wanted()
            if not self._pending or not self._holds.is_any_held():
                continue
            try:
                self._write_pending(stop)
                n_failures = 0
            except errors.SourceError as error:
                n_failures += 1
                self.n_failed += 1
                if not stop.is_set():
                    _log.warning("statuses can't be written: %s", error)
                self._clock.wait(stop, self._schedule.delay_seconds(n_failures, 1.0))

    def _note_wanted(self) -> None:
        """Wait for what is wanted, and take over what was another's."""
        told = dict(self._wanted.take(_WAIT_SECONDS))
        for hold, waiting in self._of_others.items():
            for key in told:
                waiting.pop(key, None)
            if hold.is_held:
                self._pending.update(waiting)
                waiting.clear()
        self._pending.update(told)

    def _write_pending(self, stop: threading.Event) -> None:
        for key in sorted(self._pending):
            if stop.is_set() or not self._holds.is_any_held():
                return
            status = self._pending[key]
            if key.kind not in self._refused and self._write(key, status):
                self.n_written += 1
                self._clock.wait(stop, 1.0 / WRITES_PER_SECOND)
            del self._pending[key]

    def _write(self, key: records.SourceKey, status: Wanted) -> bool:
        """Write one status if it is ours to write and the object has another; return whether anything was written."""
        kind = self._kinds[key.kind]
        resource = self._resources.find(kind.wanted)
        if resource is None:
            return False
        path = resource.path_of(key.namespace, key.name)
        try:
            found = self._client.read(path)
            hold = self._holds.of(found, has_revisions=kind.has_revisions)
            if not hold.is_held:
                self._of_others.setdefault(hold, {})[key] = status
                return False
            body = merge_status(found, status, _now())
            if body is None:
                return False
            self._client.write(client.Request("PUT", f"{path}/status", body=body))
        except errors.ApiError as error:
            return self._take_refusal(key, error)
        return True

    def _take_refusal(self, key: records.SourceKey, error: errors.ApiError) -> bool:
        """Leave out what is gone or can't be written; all else is tried again."""
        if error.status == _NOT_FOUND:
            return False
        if error.status == _CONFLICT or error.status >= _SERVER_ERROR or error.status == _BUSY:
            raise error
        self.n_failed += 1
        _log.warning("%s: the status can't be written: %s", key, error)
        if error.status == _FORBIDDEN:
            self._refused.add(key.kind)
        return False


def merge_status(found: dict[str, Any], wanted: Wanted, now: str) -> dict[str, Any] | None:
    """Return the object with the wanted status, None where it has that already (pure).

    What others wrote stays: other fields, and other controllers' entries of a shared list.
    """
    before = found.get("status") or {}
    generation = wanted.get("observedGeneration") or found["metadata"].get("generation", 0)
    has_generation = "observedGeneration" in wanted
    after = dict(before)
    for field, value in wanted.items():
        if field == "conditions":
            after[field] = _merge_conditions(before.get(field), value, generation, now)
        elif field == "listeners":
            after[field] = _merge_entries(before.get(field), value, ("name",), generation, now)
        elif field in _OTHERS:
            mark = (_OTHERS[field], "controllerName")
            ours = {entry["controllerName"] for entry in value} | {_CONTROLLER}
            kept = [e for e in before.get(field) or () if e.get("controllerName") not in ours]
            merged = _merge_entries(before.get(field), value, mark, generation, now)
            after[field] = [*kept, *merged]
        else:
            after[field] = value
    if has_generation:
        after["observedGeneration"] = generation
    return None if after == before else {**found, "status": after}


def _merge_entries(
    before: list[dict[str, Any]] | None,
    wanted: list[dict[str, Any]],
    mark: tuple[str, ...],
    generation: int,
    now: str,
) -> list[dict[str, Any]]:
    made = []
    for entry in wanted:
        names = [entry.get(part) for part in mark]
        old = next((e for e in before or () if [e.get(part) for part in mark] == names), {})
        conditions = _merge_conditions(old.get("conditions"), entry["conditions"], generation, now)
        made.append({**entry, "conditions": conditions})
    return made


def _merge_conditions(
    before: list[dict[str, Any]] | None, wanted: list[dict[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """Give conditions a generation, and the time at which they turned; keep those of other types."""
    old = {condition.get("type"): condition for condition in before or ()}
    types = {condition["type"] for condition in wanted}
    made = [condition for condition in before or () if condition.get("type") not in types]
    for condition in wanted:
        known = old.get(condition["type"], {})
        is_same = known.get("status") == condition["status"]
        time = known.get("lastTransitionTime") if is_same else None
        dated = {**condition, "lastTransitionTime": time or now}
        made.append({**dated, "observedGeneration": generation})
    return made


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
