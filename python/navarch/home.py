"""What an installed control plane keeps in its own cluster: its authority, and its webhooks' roots."""

from __future__ import annotations

import contextlib
import logging
import random
from typing import TYPE_CHECKING, Final

from navarch import core, errors
from navarch.ops import http
from navarch.runtime import backoff

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from navarch import settings
    from navarch.sources.kubernetes import authority_secret, client, webhook_roots

Worker = tuple[str, "Callable[[threading.Event], None]"]

_log = logging.getLogger(__name__)
_BACKOFF: Final = backoff.Backoff(initial_seconds=0.5, ceiling_seconds=5.0)


class Home:
    """The cluster of one API server.

    Attributes:
        publisher: Puts the roots into the webhook configurations; None where that is not asked for.
        workers: To be run, by name.
    """

    def __init__(self, api: client.Client, told: settings.Settings) -> None:
        # The official client, of which a mesh of files has no need, is spared it: see `platforms`.
        from navarch.sources.kubernetes import authority_secret, webhook_roots  # noqa: PLC0415

        self.publisher: webhook_roots.WebhookRoots | None = None
        self.workers: list[Worker] = []
        if told.patches_webhooks:
            place = told.system_namespace
            self.publisher = webhook_roots.WebhookRoots(api, place, told.revision)
        self._folder: authority_secret.AuthorityFolder | None = None
        if told.has_authority_secret and told.identity is not None:
            directory = told.identity.authority_dir
            options = core.AuthorityOptions(root_key=told.identity.root_key)
            self._folder = authority_secret.AuthorityFolder(
                authority_secret.AuthoritySecret(api, told.system_namespace),
                find=lambda: core.find_authority_files(directory),
                write=lambda files: core.write_authority_files(directory, files),
                make=lambda: core.make_authority_files(options),
            )
            self.workers.append(("authority-secret", self._folder.run))

    def fetch_authority(self, told: settings.Settings, stop: threading.Event) -> None:
        """Fill the authority's directory from its Secret, where that is asked for.

        While the API server does not give the Secret, `/ready` says why not, and it is asked again.

        Raises:
            errors.SettingsError: The HTTP address can't be listened on.
            errors.SourceError: `stop` was set while there was no answer.
        """
        if self._folder is None:
            return
        n_failures, why = 0, [self._try(self._folder)]
        with contextlib.ExitStack() as waiting:
            while why[0]:
                if not n_failures:
                    waiting.enter_context(_told(told.http_address, why))
                n_failures += 1
                _log.warning("%s", why[0])
                if stop.wait(_BACKOFF.delay_seconds(n_failures, random.random())):  # noqa: S311
                    raise errors.SourceError(f"stopped while {why[0]}", is_retryable=True)
                why[0] = self._try(self._folder)

    @staticmethod
    def _try(folder: authority_secret.AuthorityFolder) -> str:
        try:
            folder.fill()
        except errors.SourceError as error:
            return f"waiting for the Secret of the certificate authority: {error}"
        return ""


@contextlib.contextmanager
def _told(address: settings.Address, why: list[str]) -> Iterator[None]:
    """Answer readiness probes meanwhile: the process lives, and is not ready."""
    questions = http.Questions(
        why_unready=lambda: why[0],
        why_dead=str,
        metrics=str,
        sync_status=lambda: b"[]",
        config_dump=_no_proxy,
        diagnostics=tuple,
        workers=tuple,
    )
    web = http.HttpServer(address, questions)
    try:
        yield
    finally:
        web.close()


def _no_proxy(proxy_id: str) -> bytes:
    raise errors.UnknownProxyError(f"{proxy_id} is not connected: nothing is served yet")
