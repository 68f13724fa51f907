"""What is measured: all connect; one endpoint, one VirtualService changes; one Service is added."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from typing import TYPE_CHECKING, Final

from benches import load, processes, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYNC_SECONDS: Final = 300.0
_REACH_SECONDS: Final = 60.0
# Longer than the server coalesces changes (1 s at most), so that each round is a change on its own.
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
    """

    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    before_mb: float
    peak_mb: float
    resident_mb: float
    sent_mb: float
    n_resources: float


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One change of a file.

    Attributes:
        median_ms: From before the write until half of the sidecars had it.
        last_ms: From before the write until the last had it.
        cpu_seconds: Of the server, from the write until it was quiet.
        client_cpu_seconds: Of the load client, in the same time.
        sent_kb: To all sidecars.
    """

    median_ms: float
    last_ms: float
    cpu_seconds: float
    client_cpu_seconds: float
    sent_kb: float


@dataclasses.dataclass(frozen=True, slots=True)
class Rounds:
    """Several changes of one sort, in figures of `Round`."""

    n_rounds: int
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
            median_ms=statistics.median(each.median_ms for each in rounds),
            last_ms=statistics.median(lasts),
            worst_ms=max(lasts),
            cpu_seconds=statistics.mean(each.cpu_seconds for each in rounds),
            client_cpu_seconds=statistics.mean(each.client_cpu_seconds for each in rounds),
            sent_kb=statistics.median(each.sent_kb for each in rounds),
        )


def connect_all(server: processes.Server, sidecars: load.Sidecars, settle: float) -> Connected:
    """Wait until all sidecars have all, then until the server is quiet.

    Args:
        server: Just ready, its peak and CPU time read from 0 on.
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
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Churn:
    """Writes at a steady rate.

    Attributes:
        cpu_percent: Of the server, of one core.
        p99_ms_below: The bucket's bound below which 99 in 100 acknowledgements came, counted from the source's event
            by the server (`navarch_convergence_seconds`); 0 where nothing was to be told.
    """

    n_writes: int
    seconds: float
    cpu_percent: float
    client_cpu_percent: float
    sent_mb: float
    p99_ms_below: float


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """A server and its sidecars on a world that can be changed."""

    mesh: world.World
    directory: Path
    server: processes.Server
    sidecars: load.Sidecars

    def change_endpoints(self, n_rounds: int) -> Rounds:
        """Give one service another endpoint, each round another."""

        def changes() -> Iterator[tuple[list[load.Marker], world.Service]]:
            for i in itertools.count():
                address = f"10.250.{100 + i // 100}.{100 + i % 100}"
                number = self.mesh.n_services - 1
                yield [("eds", address)], world.Service(number, addresses=(address,))

        return self._run(changes(), n_rounds)

    def change_rules(self, n_rounds: int) -> Rounds:
        """Let one VirtualService match another header value."""

        def changes() -> Iterator[tuple[list[load.Marker], world.Service]]:
            for i in itertools.count():
                user = f"canary-{i:04}-"
                yield [("rds", user)], world.Service(self.mesh.n_rules // 2, user=user)

        return self._run(changes(), n_rounds)

    def add_services(self, n_rounds: int) -> Rounds:
        """Add a service with one endpoint, each round another; they stay."""

        def changes() -> Iterator[tuple[list[load.Marker], world.Service]]:
            for number in itertools.count(self.mesh.n_services):
                host, ip = self.mesh.host(number), world.cluster_ip(number)
                markers = [("cds", host), ("eds", host), ("rds", host), ("lds", f"{ip}_9000")]
                yield markers, world.Service(number, addresses=(f"10.251.0.{number % 250}",))

        return self._run(changes(), n_rounds)

    def churn(self, seconds: float, per_second: int) -> Churn:
        """Give one service after the other another endpoint, at a rate."""

        def services() -> Iterator[world.Service]:
            for i in itertools.count():
                address = f"10.{252 + (i >> 16)}.{i >> 8 & 255}.{i & 255}"
                number = self.mesh.n_rules + i % (self.mesh.n_services - self.mesh.n_rules)
                yield world.Service(number, addresses=(address,))

        return self._write_steadily(services(), seconds, per_second)

    def write_nothing_new(self, seconds: float, per_second: int) -> Churn:
        """Write files as they are, at a rate."""
        numbers = itertools.cycle(range(self.mesh.n_rules // 2))
        return self._write_steadily(
            (world.Service(number) for number in numbers), seconds, per_second
        )

    def _write_steadily(
        self, services: Iterator[world.Service], seconds: float, per_second: int
    ) -> Churn:
        time.sleep(_QUIET_SECONDS)
        lane = ("navarch_convergence_seconds", 'lane="endpoint"')
        before = self.server.histogram(*lane)
        server, client = self.server.measured, self.sidecars.measured
        cpu, client_cpu = server.cpu_seconds(), client.cpu_seconds()
        sent = self.sidecars.status()["bytes"]
        began = time.monotonic()
        n_writes = int(seconds * per_second)
        for i, service in enumerate(itertools.islice(services, n_writes)):
            time.sleep(max(0.0, began + i / per_second - time.monotonic()))
            self.mesh.write_service(self.directory, service)
        time.sleep(0.5)
        took = time.monotonic() - began
        after = self.server.histogram(*lane)
        counts = {bound: count - before[bound] for bound, count in after.items()}
        total = max(counts.values())
        bounds = (bound for bound, count in sorted(counts.items()) if count >= 0.99 * total)
        return Churn(
            n_writes=n_writes,
            seconds=took,
            cpu_percent=100 * (server.cpu_seconds() - cpu) / took,
            client_cpu_percent=100 * (client.cpu_seconds() - client_cpu) / took,
            sent_mb=(self.sidecars.status()["bytes"] - sent) / 1e6,
            p99_ms_below=1e3 * next(bounds) if total else 0.0,
        )

    def _run(
        self, changes: Iterator[tuple[list[load.Marker], world.Service]], n_rounds: int
    ) -> Rounds:
        rounds = []
        for markers, service in itertools.islice(changes, n_rounds):
            time.sleep(_QUIET_SECONDS)
            self.sidecars.watch_for(markers)
            rounds.append(self._measure(service))
        return Rounds.sum_up(rounds)

    def _measure(self, service: world.Service) -> Round:
        server, client = self.server.measured, self.sidecars.measured
        cpu, client_cpu = server.cpu_seconds(), client.cpu_seconds()
        sent = self.sidecars.status()["bytes"]
        began = time.time()
        self.mesh.write_service(self.directory, service)
        told = self.sidecars.wait_reached(_REACH_SECONDS)
        # What a change costs after the last has it (acknowledgements) counts as well.
        time.sleep(0.3)
        return Round(
            median_ms=(told["median"] - began) * 1e3,
            last_ms=(told["last"] - began) * 1e3,
            cpu_seconds=server.cpu_seconds() - cpu,
            client_cpu_seconds=client.cpu_seconds() - client_cpu,
            sent_kb=(self.sidecars.status()["bytes"] - sent) / 1e3,
        )
