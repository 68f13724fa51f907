"""Wires a running navarch: settings → sources → ingest → core → feedback and ops."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from navarch import core, errors, home, platforms, settings
from navarch.feedback import blame, board, reporter
from navarch.identity import keeper, reviews
from navarch.ingest import barrier, batcher, merger, pipeline, reader
from navarch.ops import http, metrics
from navarch.runtime import supervisor
from navarch.sources.file import locate, mesh_settings
from navarch.sources.key_sets import fetch
from navarch.sources.key_sets import source as key_sets
from navarch.webhooks import certificates, door

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from navarch import records
    from navarch.runtime import histogram
    from navarch.sources import base

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_JOIN_SECONDS = 3.0
# A change and an admission review pass through several threads: each waits this long for one that is at work, where
# Python's own 5 ms would add up to more than the work itself.
_SWITCH_SECONDS = 0.0005
# How many callers' tokens the platform is asked about at once.
_N_REVIEWERS = 8
# What Istio's agents call (their discoveryAddress), and navarch's own.
_SERVER_NAMES = ("navarch.navarch.svc", "istiod.istio-system.svc", "localhost")


class App:
    """One running navarch; `run` blocks until it is told to stop."""

    def __init__(
        self,
        told: settings.Settings,
        make_core: Callable[[core.Options], core.Core] = core.Core,
        reviewer: reviews.Reviewer | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Wire all parts; waits for the authority's Secret where that is asked for, until `stop` is set.

        Raises:
            errors.NavarchError: What was told can't be used.
        """
        self._told = told
        self._core = make_core(
            core.Options(told.domain_suffix, told.cluster_id, told.max_connection_age_seconds)
        )
        self._platforms = platforms.Platforms(told)
        cluster = self._platforms.cluster
        # Before the keeper: it reads the directory that the authority's Secret fills.
        self._home = home.Home(cluster.api, told) if cluster is not None else None
        if self._home is not None:
            self._home.fetch_authority(told, stop or threading.Event())
        self._reviewer = reviewer or self._platforms.reviewer
        self._keeper = (
            keeper.Keeper(told.identity, self._core.revoke) if told.identity is not None else None
        )
        if self._keeper is not None:
            self._platforms.add_roots(self._keeper.authority.root_bundle)
        self._sources: list[base.Source] = list(self._platforms.sources)
        for subject, path in (
            (mesh_settings.MESH_CONFIG, told.mesh_config),
            (mesh_settings.MESH_NETWORKS, told.mesh_networks),
        ):
            if path is not None:
                self._sources.append(mesh_settings.MeshSettingsSource(subject, path))
        fetch_key_set = fetch.Fetcher(told.blocked_key_networks).fetch_key_set
        wanted = self._core.wanted_key_sets
        self._sources.append(key_sets.KeySetSource(wanted, fetch_key_set=fetch_key_set))
        names = [each.name for each in (*self._sources, *self._platforms.growing)]
        merged = merger.Merger(
            reader.read_object, names, [reader.default_mesh_config()], reader.WITHOUT_EFFECT
        )
        self._gate = barrier.Barrier(names)
        self._webhooks = self._make_webhooks()
        applier = _Applier(self._core, self._webhooks)
        self._pipeline = pipeline.Pipeline(applier, merged, self._gate, batcher.Batcher())
        self._pipeline.watch(self._platforms.note)
        self._blame = blame.Blame(self._core.config_dump)
        self._reporter = reporter.Reporter(
            [self._pipeline.diagnostics, self._core_diagnostics], locate.locate
        )
        self._board = board.StatusBoard(
            self._core.statuses,
            self._reporter.current,
            self._mesh_generations,
            self._platforms.statuses,
        )
        self._health = board.HealthBoard(self._core.workload_health, self._platforms.health)
        self._workers = supervisor.Supervisor()
        self._is_serving = threading.Event()
        self._is_stopping = threading.Event()

    def _make_webhooks(self) -> door.Webhooks | None:
        told = self._told
        if told.https_address is None:
            return None
        issuer: certificates.Issuer
        if told.webhook_certificates is not None:
            issuer = certificates.FileIssuer(told.webhook_certificates)
        elif self._keeper is not None:
            issuer = self._keeper.authority
        else:
            message = "--https-address needs --webhook-certificates, or --secure-grpc-address with its authority"
            raise errors.SettingsError(message)
        publisher = self._home.publisher if self._home is not None else None
        plan = door.Plan(told.https_address, told.injection_settings, issuer, publisher)
        return door.Webhooks(plan)

    def run(self, stop: threading.Event, started: Callable[[str, str], None] | None = None) -> None:
        """Serve until `stop` is set, then drain.

        Args:
            stop: Ends the run.
            started: Called with the addresses of ADS and HTTP once proxies are served.

        Raises:
            errors.SettingsError: An address can't be listened on.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        web = http.HttpServer(self._told.http_address, self._questions())
        try:
            self._workers.start("ingest", self._pipeline.run)
            self._workers.start("reporter", self._reporter.run)
            for name, work in self._home.workers if self._home is not None else ():
                self._workers.start(name, work)
            if self._webhooks is not None:
                self._workers.start("webhooks", self._webhooks.run)
                _log.info("webhooks on %s", self._webhooks.address)
            for each in self._sources:
                self._workers.start(f"source-{each.name}", _bound(each, self._pipeline))
            for growing in self._platforms.growing:
                self._workers.start(f"source-{growing.name}", _bound(growing, self._pipeline))
            while not self._pipeline.wait_applied(_POLL_SECONDS):
                if stop.is_set():
                    return
            # Proxies are let in when the whole mesh is known: half of one would take the rest from them.
            wanted = self._told.grpc_address.resolve("--grpc-address")
            grpc_address = self._core.serve(str(wanted))
            self._serve_secure()
            self._is_serving.set()
            self._start_writers()
            _log.info("ADS on %s, HTTP on %s", grpc_address, web.address)
            if started is not None:
                started(grpc_address, str(web.address))
            stop.wait()
        finally:
            self._stop()
            if self._webhooks is not None:
                self._webhooks.close()
            web.close()

    def _serve_secure(self) -> None:
        """Open the authenticated port, if there is to be one."""
        told = self._told.identity
        if told is None or self._keeper is None:
            return
        options = core.SecureOptions(
            server_names=list(told.server_names) or [*_SERVER_NAMES, told.address.host],
            has_reviewer=self._reviewer is not None,
            join_directory=told.join_token_dir,
            requests_per_second=told.requests_per_second,
            issuers=[keeper.read_issuer(each) for each in told.issuers],
            revocations=self._keeper.revoked(),
        )
        wanted = told.address.resolve("--secure-grpc-address")
        address = self._core.serve_secure(str(wanted), self._keeper.authority, options)
        _log.info("ADS and certificates over TLS on %s", address)
        self._workers.start("authority", self._keeper.run)
        if self._reviewer is not None:
            desk = reviews.Desk(self._core, self._reviewer)
            for number in range(_N_REVIEWERS):
                self._workers.start(f"reviews-{number}", desk.run)

    def _stop(self) -> None:
        self._is_stopping.set()
        if self._is_serving.is_set():
            _log.info("draining for at most %g s", self._told.drain_seconds)
            self._core.drain(self._told.drain_seconds)
        self._pipeline.close()
        late = self._workers.stop(_JOIN_SECONDS)
        if late:
            _log.warning("workers that did not end in time: %s", ", ".join(late))
        _log.info("stopped")

    def _start_writers(self) -> None:
        """Begin to write back; not before the whole mesh is known, of which half would look broken."""
        for name, write in self._platforms.writers:
            self._workers.start(name, write)
        if self._platforms.writers:
            self._workers.start("statuses", self._board.run)
            self._workers.start("workload-health", self._health.run)

    def _mesh_generations(self) -> dict[records.SourceKey, int]:
        return self._pipeline.generations(reader.MESH_KINDS)

    def _core_diagnostics(self) -> Sequence[records.Diagnostic]:
        find = self._pipeline.find_origin
        told = self._core.diagnostics()
        return [
            dataclasses.replace(each, origin=find(each.key)) if each.key else each
            for each in (*told, *self._blame.collect(told))
        ]

    def _questions(self) -> http.Questions:
        return http.Questions(
            why_unready=self._why_unready,
            readiness_notes=self._platforms.notes,
            why_dead=self._why_dead,
            metrics=lambda: self._core.metrics() + metrics.render(self._figures()),
            sync_status=self._core.sync_status,
            config_dump=self._core.config_dump,
            diagnostics=self._reporter.current,
            workers=self._worker_rows,
        )

    def _why_unready(self) -> str:
        if self._is_stopping.is_set():
            return "stopping"
        if self._is_serving.is_set():
            return ""
        awaited = ", ".join(self._gate.awaited())
        return f"waiting for the first full list of: {awaited}" if awaited else "starting"

    def _why_dead(self) -> str:
        failed = [w for w in self._workers.statuses() if w.state is supervisor.State.FAILED]
        return "; ".join(f"{w.name} failed: {w.last_error}" for w in failed)

    def _worker_rows(self) -> Sequence[dict[str, Any]]:
        return [dataclasses.asdict(status) for status in self._workers.statuses()]

    def _figures(self) -> list[metrics.Metric]:
        progress = self._pipeline.progress
        by_severity: dict[tuple[tuple[str, str], ...], float] = {}
        for told in self._reporter.current():
            mark = (("severity", str(told.severity)),)
            by_severity[mark] = by_severity.get(mark, 0) + 1
        plain = {
            ("navarch_ingest_batches_total", "counter", "Batches applied."): progress.n_batches,
            ("navarch_ingest_changes_total", "counter", "Changes applied."): progress.n_changes,
            (
                "navarch_ingest_failed_batches_total",
                "counter",
                "Batches that the core refused whole.",
            ): progress.n_failed_batches,
            ("navarch_objects", "gauge", "Objects in force."): self._pipeline.n_in_force(),
            (
                "navarch_ingest_last_apply_seconds",
                "gauge",
                "How long the last batch took.",
            ): progress.last_apply_seconds,
        }
        made = [metrics.Metric(*named, values={(): value}) for named, value in plain.items()]
        stages: dict[metrics.Labels, histogram.Reading] = {}
        for name, each in self._pipeline.stages.items():
            stages[(("stage", name),)] = each.read()
        about = "How long the oldest change of a batch waited, and how long the core took for it."
        made.append(metrics.Metric("navarch_ingest_seconds", "histogram", about, stages))
        about = "Diagnostics of now, by severity."
        made.append(metrics.Metric("navarch_diagnostics", "gauge", about, by_severity))
        made += self._platforms.figures()
        return made + (self._webhooks.figures() if self._webhooks is not None else [])


def _bound(
    each: base.Source | base.GrowingSource, sink: base.GrowingSink
) -> Callable[[threading.Event], None]:
    return lambda stop: each.run(sink, stop)


class _Applier:
    """Gives each batch to the core, and what injection reads of it to the webhooks."""

    def __init__(self, to: core.Core, webhooks: door.Webhooks | None) -> None:
        self._core = to
        self._webhooks = webhooks

    def apply(
        self, changes: Sequence[records.Change], age_seconds: float = 0.0
    ) -> list[records.Diagnostic]:
        if self._webhooks is not None:
            self._webhooks.note_changes(changes)
        return self._core.apply(changes, age_seconds)
