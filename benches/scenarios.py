"""What is measured: all connect; something changes; writes go on and on; the server is lost and comes back."""

from __future__ import annotations

import dataclasses
import itertools
import queue
import statistics
import threading
import time
from typing import TYPE_CHECKING, Final

from benches import load, places, processes, world

if TYPE_CHECKING:
    from collections.abc import Callable

SYNC_SECONDS: Final = 300.0
_REACH_SECONDS: Final = 120.0
# Longer than navarch coalesces changes (1 s at most) and than Istio waits for quiet (0.1 s), so that each round is a
# change on its own.
_QUIET_SECONDS: Final = 1.2


@dataclasses.dataclass(frozen=True, slots=True)
class Connected:
    """All sidecars connected at once.

    Attributes:
        seconds: Until the last had all.
        cpu_seconds: Of the server, until then.
        peak_mb: Of the server, until it was quiet again.
        resident_mb: Of the server, quiet again.
        sent_mb: To all sidecars.
        n_resources: To one sidecar.
        n_refused: How often the server let nobody in; who was refused came again as Envoy does.
    """

    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    before_mb: float
    peak_mb: float
    resident_mb: float
    sent_mb: float
    n_resources: float
    n_refused: int


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One change.

    Attributes:
        median_ms: Until half of the sidecars that see it had it, since the server could know (`places.Place.write`).
        last_ms: Until the last had it.
        n_told: How many sidecars had it.
        cpu_seconds: Of the server, from the write until it was quiet.
        client_cpu_seconds: Of the load client, in the same time.
        sent_kb: To all sidecars.
    """

    median_ms: float
    last_ms: float
    n_told: int
    cpu_seconds: float
    client_cpu_seconds: float
    sent_kb: float


@dataclasses.dataclass(frozen=True, slots=True)
class Rounds:
    """Several changes of one sort, in figures of `Round`."""

    n_rounds: int
    n_told: int
    median_ms: float
    last_ms: float
    worst_ms: float
    cpu_seconds: float
    client_cpu_seconds: float
    sent_kb: float

    @classmethod
    def sum_up(cls, rounds: list[Round]) -> Rounds:
        """Return medians over the rounds, and the worst of the last sidecars."""
        lasts = [each.last_ms for each in rounds]
        return cls(
            n_rounds=len(rounds),
            n_told=rounds[0].n_told,
            median_ms=statistics.median(each.median_ms for each in rounds),
            last_ms=statistics.median(lasts),
            worst_ms=max(lasts),
            cpu_seconds=statistics.median(each.cpu_seconds for each in rounds),
            client_cpu_seconds=statistics.median(each.client_cpu_seconds for each in rounds),
            sent_kb=statistics.median(each.sent_kb for each in rounds),
        )


def connect_all(server: processes.Server, sidecars: load.Sidecars, settle: float) -> Connected:
    """Wait until all sidecars have all, then until the server is quiet.

    Args:
        server: Just ready, its peak read from then on.
        sidecars: Just started.
        settle: How long the server is left alone before its resident memory is read, in seconds.
    """
    before_mb, before_cpu = server.measured.resident_mb(), server.measured.cpu_seconds()
    told = sidecars.wait_in_sync(SYNC_SECONDS)
    cpu_seconds = server.measured.cpu_seconds() - before_cpu
    client_cpu_seconds = sidecars.measured.cpu_seconds()
    time.sleep(settle)
    return Connected(
        seconds=told["last"] - told["started"],
        cpu_seconds=cpu_seconds,
        client_cpu_seconds=client_cpu_seconds,
        before_mb=before_mb,
        peak_mb=server.measured.peak_mb(),
        resident_mb=server.measured.resident_mb(),
        sent_mb=told["bytes"] / 1e6,
        n_resources=told["resources"] / told["n"],
        n_refused=told["n_refused"],
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Churn:
    """Writes at a steady rate.

    Attributes:
        cpu_percent: Of the server, of one core.
        n_probes: One after the other, a write was followed until the last sidecar had it.
        median_ms: That the last sidecar waited, of the probes; 0 without any.
    """

    n_writes: int
    seconds: float
    cpu_percent: float
    client_cpu_percent: float
    sent_mb: float
    n_probes: int
    median_ms: float
    p99_ms: float
    worst_ms: float


@dataclasses.dataclass(frozen=True, slots=True)
class Restarted:
    """The server was lost under its sidecars and came back on the same address, one endpoint having changed meanwhile.

    Attributes:
        ready_seconds: From its start until it was ready.
        seconds: From ready until the last sidecar had the change and all that it asks for.
        cpu_seconds: Of the new server, after it was ready.
    """

    ready_seconds: float
    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    peak_mb: float
    sent_mb: float


class _Prober(threading.Thread):
    """Follows one write after the other until the last sidecar has it; the writer asks it for the address to write.

    Attributes:
        held: The service that is followed, which must stay as it is meanwhile.
        waited_ms: How long the last sidecar waited, by probe.
    """

    def __init__(self, place: places.Place, sidecars: load.Sidecars) -> None:
        super().__init__(daemon=True)
        self._place = place
        self._sidecars = sidecars
        self._addresses: queue.Queue[str] = queue.Queue(1)
        self._written: queue.Queue[float | None] = queue.Queue()
        self.held: int | None = None
        self.waited_ms: list[float] = []
        self.error: Exception | None = None

    def find_address(self) -> str | None:
        """Return the address that sidecars watch for by now, once."""
        try:
            return self._addresses.get_nowait()
        except queue.Empty:
            return None

    def note_written(self, at: float, number: int) -> None:
        """Tell when the address that was asked for was written, and to which service."""
        self.held = number
        self._written.put(at)

    def finish(self) -> None:
        """End after the write at hand."""
        self._written.put(None)
        self.join(_REACH_SECONDS)
        if self.error:
            raise self.error

    def run(self) -> None:
        """Probe until `finish`."""
        try:
            while True:
                address = places.address(next(self._place.serials))
                self._sidecars.watch_for([("eds", address)])
                self._addresses.put(address)
                began = self._written.get()
                if began is None:
                    return
                told = self._sidecars.wait_reached(_REACH_SECONDS)
                self.waited_ms.append((told["last"] - began) * 1e3)
                self.held = None
        except load.LoadError as error:
            self.error = error


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """A server and its sidecars on a world that can be changed."""

    place: places.Place
    server: processes.Server
    sidecars: load.Sidecars
    n_sidecars: int

    def change_endpoints(self, n_rounds: int) -> Rounds:
        """Give one service another endpoint, each round another."""

        def make(serial: int) -> tuple[list[load.Marker], world.Service]:
            new = places.address(serial)
            return [("eds", new)], self._with_endpoint(new)

        return self._run(make, n_rounds)

    def change_rules(self, n_rounds: int) -> Rounds:
        """Let one VirtualService match another header value."""

        def make(serial: int) -> tuple[list[load.Marker], world.Service]:
            user = f"canary-{serial:06}-"
            number = self.place.mesh.find_ruled()
            return [(self._route_type(), user)], world.Service(number, user=user)

        return self._run(make, n_rounds)

    def _route_type(self) -> str:
        return "vhds" if self.place.mesh.is_in_pieces else "rds"

    def add_services(self, n_rounds: int) -> Rounds:
        """Add a service with one endpoint, each round another; they stay."""

        def make(serial: int) -> tuple[list[load.Marker], world.Service]:
            service = self.place.make_service(serial)
            host = self.place.mesh.host(service.number)
            ip = service.cluster_ip or world.cluster_ip(service.number)
            routes = self._route_type()
            markers = [("cds", host), ("eds", host), (routes, host), ("lds", f"{ip}_9000")]
            return [*markers, ("eds", service.addresses[0])], service

        return self._run(make, n_rounds)

    def churn(self, seconds: float, per_second: int) -> Churn:
        """Give one service after the other another endpoint, at a rate; all sidecars see all services."""
        mesh = self.place.mesh
        prober = _Prober(self.place, self.sidecars)

        def write(i: int) -> None:
            n_plain = mesh.n_services - mesh.n_rules
            number = mesh.n_rules + i % n_plain
            if number == prober.held:
                number = mesh.n_rules + (i + 1) % n_plain
            probe = prober.find_address()
            new = probe or places.address(next(self.place.serials))
            began = self.place.write(world.Service(number, addresses=(new,)))
            if probe:
                prober.note_written(began, number)

        return self._write_steadily(write, seconds, per_second, prober)

    def write_nothing_new(self, seconds: float, per_second: int) -> Churn:
        """Write what is there as it is, at a rate."""
        n_rules = max(1, self.place.mesh.n_rules // 2)
        return self._write_steadily(
            lambda i: self.place.write_as_it_is(i % n_rules), seconds, per_second
        )

    def restart(self) -> Restarted:
        """Lose the server, change an endpoint, start it again."""
        serial = next(self.place.serials)
        new = places.address(serial)
        time.sleep(_QUIET_SECONDS)
        service = self._with_endpoint(new)
        viewers = self.place.mesh.n_viewers(service.number, self.n_sidecars)
        client_cpu, sent = self.sidecars.measured.cpu_seconds(), self.sidecars.status()["bytes"]
        with self.sidecars.may_close():
            self.sidecars.watch_for([("eds", new)], viewers)
            self.server.kill()
            self.place.write(service)
            self.server.restart()
            ready_seconds = self.server.wait_ready()
            ready, cpu = time.time(), self.server.measured.cpu_seconds()
            told = self.sidecars.wait_reached(SYNC_SECONDS)
            time.sleep(_QUIET_SECONDS)
        return Restarted(
            ready_seconds=ready_seconds,
            seconds=max(0.0, told["last"] - ready),
            cpu_seconds=self.server.measured.cpu_seconds() - cpu,
            client_cpu_seconds=self.sidecars.measured.cpu_seconds() - client_cpu,
            peak_mb=self.server.measured.peak_mb(),
            sent_mb=(self.sidecars.status()["bytes"] - sent) / 1e6,
        )

    def _with_endpoint(self, new: str) -> world.Service:
        return world.Service(self.place.mesh.find_plain(), addresses=(new,))

    def _write_steadily(
        self,
        write: Callable[[int], None],
        seconds: float,
        per_second: int,
        prober: _Prober | None = None,
    ) -> Churn:
        time.sleep(_QUIET_SECONDS)
        server, client = self.server.measured, self.sidecars.measured
        cpu, client_cpu = server.cpu_seconds(), client.cpu_seconds()
        sent = self.sidecars.status()["bytes"]
        if prober:
            # From here on it alone talks with the client, until it has finished.
            prober.start()
        began = time.monotonic()
        n_writes = int(seconds * per_second)
        for i in range(n_writes):
            time.sleep(max(0.0, began + i / per_second - time.monotonic()))
            write(i)
        if prober:
            prober.finish()
        time.sleep(0.5)
        took = time.monotonic() - began
        waited = sorted(prober.waited_ms) if prober else []
        return Churn(
            n_writes=n_writes,
            seconds=took,
            cpu_percent=100 * (server.cpu_seconds() - cpu) / took,
            client_cpu_percent=100 * (client.cpu_seconds() - client_cpu) / took,
            sent_mb=(self.sidecars.status()["bytes"] - sent) / 1e6,
            n_probes=len(waited),
            median_ms=statistics.median(waited) if waited else 0.0,
            p99_ms=waited[round(0.99 * (len(waited) - 1))] if waited else 0.0,
            worst_ms=waited[-1] if waited else 0.0,
        )

    def _run(
        self, make: Callable[[int], tuple[list[load.Marker], world.Service]], n_rounds: int
    ) -> Rounds:
        rounds = []
        for serial in itertools.islice(self.place.serials, n_rounds):
            markers, service = make(serial)
            time.sleep(_QUIET_SECONDS)
            viewers = self.place.mesh.n_viewers(service.number, self.n_sidecars)
            self.sidecars.watch_for(markers, viewers)
            rounds.append(self._measure(service))
        return Rounds.sum_up(rounds)

    def _measure(self, service: world.Service) -> Round:
        server, client = self.server.measured, self.sidecars.measured
        cpu, client_cpu = server.cpu_seconds(), client.cpu_seconds()
        sent = self.sidecars.status()["bytes"]
        began = self.place.write(service)
        told = self.sidecars.wait_reached(_REACH_SECONDS)
        # What a change costs after the last has it (acknowledgements) counts as well.
        time.sleep(0.3)
        status = self.sidecars.status()
        return Round(
            median_ms=max(0.0, told["median"] - began) * 1e3,
            last_ms=max(0.0, told["last"] - began) * 1e3,
            n_told=status["n_reached"],
            cpu_seconds=server.cpu_seconds() - cpu,
            client_cpu_seconds=client.cpu_seconds() - client_cpu,
            sent_kb=(status["bytes"] - sent) / 1e3,
        )
