"""Who among several replicas writes: the holder of a Lease.

Source: Kubernetes API reference, coordination.k8s.io/v1; what client-go's leader election does. Written here because
the official client's election can be neither stopped nor run beside others.
"""

from __future__ import annotations

import datetime
import random
import threading
from typing import TYPE_CHECKING, Any, Final

from navarch import errors
from navarch.runtime import clock
from navarch.sources.kubernetes import client

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_SECONDS: Final = 15.0
"""How long a holder that is silent counts as alive."""
RENEW_SECONDS: Final = 3.0
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404


class Lease:
    """Strives for one Lease; `is_held` says whether it has it.

    How old another's hold is counts from when it was first seen here: clocks of machines need not agree.
    """

    def __init__(
        self,
        api: client.Client,
        namespace: str,
        name: str,
        identity: str,
        time: clock.Clock | None = None,
    ) -> None:
        self._client = api
        self._root = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._clock = time or clock.SystemClock()
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._renewed_at = float("-inf")
        self._is_held = threading.Event()

    @property
    def is_held(self) -> bool:
        """Whether this replica may write: it renewed its hold in time."""
        is_fresh = self._clock.now() - self._renewed_at < LEASE_SECONDS - RENEW_SECONDS
        return self._is_held.is_set() and is_fresh

    def run(self, stop: threading.Event) -> None:
        """Take and keep the Lease until `stop` is set, then give it up so that another need not wait."""
        try:
            while not stop.is_set():
                try:
                    self._step()
                except errors.SourceError:
                    # Whether the last renewal is fresh enough is asked at each use.
                    if self._clock.now() - self._renewed_at >= LEASE_SECONDS:
                        self._is_held.clear()
                # Jitter needs no secrecy.
                self._clock.wait(stop, RENEW_SECONDS * (0.8 + 0.4 * random.random()))  # noqa: S311
        finally:
            if self._is_held.is_set():
                self._give_up()

    def _step(self) -> None:
        """Look once, and take or renew the Lease if it is free or ours."""
        asked_at = self._clock.now()
        found = self._find()
        if found is None:
            self._hold(self._create, asked_at)
            return
        spec = found.get("spec") or {}
        mark = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if mark != self._seen:
            self._seen, self._seen_at = mark, asked_at
        holder = spec.get("holderIdentity") or ""
        lasts = float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)
        is_free = not holder or asked_at - self._seen_at >= lasts
        if holder == self._identity or is_free:
            self._hold(lambda: self._take(found), asked_at)
        else:
            self._is_held.clear()

    def _hold(self, write: Callable[[], None], asked_at: float) -> None:
        try:
            write()
        except errors.ApiError as error:
            if error.status == _CONFLICT:
                # Another replica was quicker.
                self._is_held.clear()
                return
            raise
        self._renewed_at = asked_at
        self._is_held.set()

    def _find(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.read(f"{self._root}/{self._name}")
        except errors.ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return found

    def _create(self) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {**self._spec(), "acquireTime": _now(), "leaseTransitions": 0},
        }
        self._client.write(client.Request("POST", self._root, body=body))

    def _take(self, found: dict[str, Any]) -> None:
        """Write our name; the version that was read makes another's write in between a conflict."""
        spec = dict(found.get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        body = {**found, "spec": {**spec, **self._spec()}}
        self._client.write(client.Request("PUT", f"{self._root}/{self._name}", body=body))

    def _give_up(self) -> None:
        self._is_held.clear()
        try:
            found = self._find()
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                body = {**found, "spec": {**found["spec"], "holderIdentity": ""}}
                self._client.write(client.Request("PUT", f"{self._root}/{self._name}", body=body))
        except errors.SourceError:
            # It runs out by itself.
            return

    def _spec(self) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "renewTime": _now(),
        }


def _now() -> str:
    """Return the time of day as a MicroTime, for people: nothing is decided by it."""
    moment = datetime.datetime.now(datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
