"""The webhooks' own certificate: issued, renewed in time, and the roots that the API server must trust."""

from __future__ import annotations

import dataclasses
import logging
import ssl
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from navarch import errors

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

LIFETIME_SECONDS: Final = 24 * 3600
_RENEW_AFTER: Final = 0.5
"""The share of its life after which a certificate is renewed."""
_LOOK_SECONDS: Final = 30.0
"""How often the roots are compared, and a renewal that failed is tried again."""


class Certificate(Protocol):
    """A certificate with its key, in PEM."""

    @property
    def chain_pem(self) -> str:
        """The certificate and its intermediates."""

    @property
    def key_pem(self) -> str:
        """The private key."""

    @property
    def expires_at(self) -> int:
        """The last second of its life, since 1970."""


class Issuer(Protocol):
    """Who issues certificates: the mesh's authority."""

    def issue_server(self, names: Sequence[str], lifetime_seconds: int) -> Certificate:
        """Make a key and a certificate for a server of these names."""

    def root_bundle(self) -> str:
        """Return the roots to trust, in PEM."""


class Publisher(Protocol):
    """Who tells the API server which roots to trust."""

    def publish_roots(self, pem: str) -> None:
        """Put the roots into the webhook configurations; do nothing where they are there already.

        Raises:
            errors.SourceError: They can't be written now.
        """


def make_context(certificate: Certificate) -> ssl.SSLContext:
    """Return a server's TLS settings with a certificate.

    Raises:
        errors.SettingsError: Certificate and key can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # OpenSSL takes them from files only; the folder is its owner's alone, and gone at once.
    with tempfile.TemporaryDirectory(prefix="navarch-") as folder:
        chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
        chain.write_text(certificate.chain_pem)
        key.touch(mode=0o600)
        key.write_text(certificate.key_pem)
        try:
            context.load_cert_chain(chain, key)
        except (ssl.SSLError, OSError) as error:
            raise errors.SettingsError(f"the webhooks' certificate: {error}") from error
    return context


class Keeper:
    """Keeps the certificate current; `run` is its worker."""

    def __init__(
        self,
        issuer: Issuer,
        names: Sequence[str],
        publisher: Publisher | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Issue the first certificate.

        Raises:
            errors.CoreError: The authority can't issue it.
        """
        self._issuer = issuer
        self._names = tuple(names)
        self._publisher = publisher
        self._wall_clock = wall_clock
        self._renew_at = 0.0
        self.n_issued = 0
        self.context = self._issue()

    def _issue(self) -> ssl.SSLContext:
        made = self._issuer.issue_server(self._names, LIFETIME_SECONDS)
        context = make_context(made)
        now = self._wall_clock()
        self._renew_at = now + (made.expires_at - now) * _RENEW_AFTER
        self.n_issued += 1
        return context

    def look(self) -> None:
        """Renew the certificate if it is time, and publish the roots if they changed.

        Raises:
            errors.NavarchError: Either failed; the certificate in use stays.
        """
        if self._wall_clock() >= self._renew_at:
            self.context = self._issue()
            _log.info("the webhooks' certificate is renewed")
        if self._publisher is not None:
            self._publisher.publish_roots(self._issuer.root_bundle())

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; what fails is told and tried again."""
        while True:
            try:
                self.look()
            except errors.NavarchError as error:
                _log.error("the webhooks' certificate: %s", error)
            if stop.wait(_LOOK_SECONDS):
                return


@dataclasses.dataclass(frozen=True, slots=True)
class FileCertificate:
    """A certificate from files, as cert-manager mounts them."""

    chain_pem: str
    key_pem: str = dataclasses.field(repr=False)
    expires_at: int


class FileIssuer:
    """Gives what lies in a folder: `tls.crt`, `tls.key`, and `ca.crt` for the roots."""

    def __init__(self, folder: Path, wall_clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._wall_clock = wall_clock

    def issue_server(self, names: Sequence[str], lifetime_seconds: int) -> FileCertificate:  # noqa: ARG002
        """Read the files; they are read again every few minutes, whatever their life."""
        return FileCertificate(
            self._read("tls.crt"), self._read("tls.key"), int(self._wall_clock()) + 600
        )

    def root_bundle(self) -> str:
        """Return the roots, "" where no file has them."""
        return self._read("ca.crt") if (self._folder / "ca.crt").exists() else ""

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except OSError as error:
            message = f"--webhook-certificates {self._folder}: {name}: {error.strerror or error}"
            raise errors.SettingsError(message) from error
