"""Keeps the certificate authority: its files read, made, renewed and read again when they change."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

from navarch import core, errors

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from navarch import settings

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 1.0


class Keeper:
    """The authority of a directory.

    An operator replaces files there at any time: they are taken when they fit each other, and passed over until then.
    To replace a root, put both roots into `root-cert.pem` first and the new key in force when all proxies know both.
    """

    def __init__(
        self, told: settings.Identity, revoke: Callable[[list[tuple[str, str | None]]], None]
    ) -> None:
        """Read the directory, or make a root in it.

        Raises:
            errors.AuthorityError: What is there can't be used.
        """
        self._told = told
        self._revoke = revoke
        self._options = core.AuthorityOptions(
            root_key=told.root_key,
            default_lifetime_seconds=told.certificate_seconds,
            max_lifetime_seconds=told.max_certificate_seconds,
        )
        files = core.find_authority_files(told.authority_dir)
        if files is None:
            files = core.make_authority_files(self._options)
            core.write_authority_files(told.authority_dir, files)
            _log.info("made a root of the mesh in %s", told.authority_dir)
        self._files = files
        self._refused: dict[str, bytes] | None = None
        self._revocations = ""
        if told.revocations is not None:
            self._revocations = told.revocations.read_text()
        self.authority = core.Authority(files, self._options)

    def run(self, stop: threading.Event) -> None:
        """Keep until `stop` is set."""
        while not stop.wait(_POLL_SECONDS):
            self.check()
            self.check_revocations()

    def check(self) -> None:
        """Take the directory's files if they have changed."""
        try:
            files = core.find_authority_files(self._told.authority_dir)
        except errors.AuthorityError as error:
            _log.warning("the authority's files are passed over: %s", error)
            return
        if files is None or files in (self._files, self._refused):
            return
        try:
            self.authority.replace(files)
        except errors.AuthorityError as error:
            self._refused = files
            _log.warning("the authority's files are passed over, the former stay in use: %s", error)
        else:
            self._files, self._refused = files, None
            _log.info("the authority signs by the new files of %s", self._told.authority_dir)

    def revoked(self) -> list[tuple[str, str | None]]:
        """Return who gets nothing, as read last."""
        return read_revocations(self._revocations)

    def check_revocations(self) -> None:
        """Take the file of revocations if it has changed."""
        if self._told.revocations is None:
            return
        try:
            text = self._told.revocations.read_text()
        except OSError as error:
            _log.warning("%s: %s; who was revoked stays so", self._told.revocations, error.strerror)
            return
        if text != self._revocations:
            self._revocations = text
            self._revoke(self.revoked())


def read_revocations(text: str) -> list[tuple[str, str | None]]:
    """Read lines of `namespace` or `namespace/service-account`; `#` begins a comment."""
    found: list[tuple[str, str | None]] = []
    for line in text.splitlines():
        entry = line.partition("#")[0].strip()
        namespace, slash, account = entry.partition("/")
        if namespace:
            found.append((namespace, account if slash else None))
    return found


def read_issuer(told: settings.Issuer) -> core.Issuer:
    """Read the keys of an issuer.

    Raises:
        errors.SettingsError: The file is no JSON.
    """
    try:
        keys = json.loads(told.jwks_file.read_text())
    except (OSError, ValueError) as error:
        raise errors.SettingsError(
            f"--oidc-issuer {told.issuer}: {told.jwks_file} is no JSON Web Key Set: {error}"
        ) from error
    return core.Issuer(told.issuer, [told.audience], keys)
