"""All of the webhooks as one thing that an app starts, asks for figures, and closes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from navarch.ops import metrics
from navarch.webhooks import certificates, injector, server, settings_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from navarch import records, settings

_LOCAL_NAMES = ("localhost", "127.0.0.1")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What webhooks are started from.

    Attributes:
        address: Where to listen.
        injection_settings: The file of the injection settings; None for the defaults.
        issuer: Who issues their certificate.
        publisher: Who tells the API server of the roots; None where somebody else does.
    """

    address: settings.Address
    injection_settings: Path | None
    issuer: certificates.Issuer
    publisher: certificates.Publisher | None = None


class Webhooks:
    """Serves from the beginning until `close`; `run` is the worker that keeps the certificate current."""

    def __init__(self, plan: Plan) -> None:
        """Issue the certificate and listen.

        Raises:
            errors.SettingsError: The address, the settings or the certificate can't be used.
            errors.CoreError: The authority can't issue the certificate.
        """
        held = settings_file.SettingsFile(plan.injection_settings)
        self._injector = injector.Injector(held)
        plane = held.current().control_plane
        services = dict.fromkeys((plane.service, f"{plane.service}-{plane.revision}"))
        names = [
            f"{service}.{plane.namespace}{suffix}"
            for service in services
            for suffix in (".svc", "")
        ]
        self._keeper = certificates.Keeper(plan.issuer, [*names, *_LOCAL_NAMES], plan.publisher)
        self._server = server.WebhookServer(
            plan.address, lambda: self._keeper.context, self._injector
        )
        self.address = self._server.address

    def note_changes(self, changes: Sequence[records.Change]) -> None:
        """Take in what changed in the mesh."""
        self._injector.note_changes(changes)

    def run(self, stop: threading.Event) -> None:
        """Keep the certificate current until `stop` is set."""
        self._keeper.run(stop)

    def close(self) -> None:
        """Stop answering."""
        self._server.close()

    def figures(self) -> list[metrics.Metric]:
        """Return what was answered so far, under Istio's names."""
        pods, counts = self._injector, self._server.counts
        n_asked = pods.n_injected + pods.n_skipped + pods.n_failed
        rows = (
            ("sidecar_injection_requests_total", "Pods asked about.", n_asked),
            ("sidecar_injection_success_total", "Pods given a proxy.", pods.n_injected),
            ("sidecar_injection_skip_total", "Pods left as they are.", pods.n_skipped),
            ("sidecar_injection_failure_total", "Pods refused.", pods.n_failed),
            ("sidecar_injection_time_seconds_total", "Time spent on pods.", pods.seconds),
            ("galley_validation_passed", "Objects allowed.", counts.n_passed),
            ("galley_validation_failed", "Objects refused.", counts.n_refused),
            ("galley_validation_http_error", "Requests that made no sense.", counts.n_unreadable),
            (
                "navarch_webhook_certificates_total",
                "Certificates issued for the webhooks.",
                self._keeper.n_issued,
            ),
        )
        return [metrics.Metric(name, "counter", about, {(): n}) for name, about, n in rows]
