"""What an installed control plane keeps in its own cluster: its authority, and its webhooks' roots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch import core
from navarch.sources.kubernetes import authority_secret, webhook_roots

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from navarch import settings
    from navarch.sources.kubernetes import client

Worker = tuple[str, "Callable[[threading.Event], None]"]


class Home:
    """The cluster of one API server.

    Attributes:
        publisher: Puts the roots into the webhook configurations; None where that is not asked for.
        workers: To be run, by name.
    """

    def __init__(self, api: client.Client, told: settings.Settings) -> None:
        """Fill the authority's directory from its Secret, where that is asked for.

        Raises:
            errors.SourceError: The API server can't be reached or says no.
        """
        self.publisher: webhook_roots.WebhookRoots | None = None
        self.workers: list[Worker] = []
        if told.patches_webhooks:
            place = told.system_namespace
            self.publisher = webhook_roots.WebhookRoots(api, place, told.revision)
        if told.has_authority_secret and told.identity is not None:
            directory = told.identity.authority_dir
            options = core.AuthorityOptions(root_key=told.identity.root_key)
            folder = authority_secret.AuthorityFolder(
                authority_secret.AuthoritySecret(api, told.system_namespace),
                find=lambda: core.find_authority_files(directory),
                write=lambda files: core.write_authority_files(directory, files),
                make=lambda: core.make_authority_files(options),
            )
            folder.fill()
            self.workers.append(("authority-secret", folder.run))
