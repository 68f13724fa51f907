"""The certificate authority's files in a Secret, which all replicas share."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any, Final

from navarch import errors
from navarch.sources.kubernetes import client

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)

PLUGGED_IN: Final = "cacerts"
"""Where an operator puts an authority; Istio's name."""
OWN: Final = "istio-ca-secret"
"""Where the control plane keeps the one that it made; Istio's name, so that hers is taken over."""
_LOOK_SECONDS: Final = 30.0
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_FILES: Final = frozenset(
    {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "tls.crt", "tls.key", "ca.crt"}
)


class AuthoritySecret:
    """Finds the authority of a namespace, or makes one."""

    def __init__(self, api: client.Client, namespace: str) -> None:
        self._client = api
        self._root = f"/api/v1/namespaces/{namespace}/secrets"

    def find(self) -> dict[str, bytes] | None:
        """Return the authority's files by name; None if there is none.

        Raises:
            errors.SourceError: The API server can't be reached or says no, or a Secret can't be read.
        """
        for name in (PLUGGED_IN, OWN):
            try:
                found = self._client.read(f"{self._root}/{name}")
            except errors.ApiError as error:
                if error.status == _NOT_FOUND:
                    continue
                raise
            return _files_of(found, name)
        return None

    def find_or_make(self, make: Callable[[], Mapping[str, bytes]]) -> dict[str, bytes]:
        """Return the authority's files, made by `make` if there are none; of several replicas one makes them.

        Raises:
            errors.SourceError: As `find`.
        """
        found = self.find()
        if found is not None:
            return found
        data = {name: base64.b64encode(each).decode() for name, each in make().items()}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": OWN, "labels": {"app.kubernetes.io/part-of": "navarch"}},
            "type": "istio.io/ca-root",
            "data": data,
        }
        try:
            self._client.write(client.Request("POST", self._root, body=body))
            _log.info("the certificate authority is made, in the Secret %s", OWN)
        except errors.ApiError as error:
            if error.status != _CONFLICT:
                raise
        found = self.find()
        if found is None:
            raise errors.SourceError(f"the Secret {OWN} is gone again", is_retryable=True)
        return found


class AuthorityFolder:
    """Keeps a folder with the files of the authority's Secret; `run` is its worker.

    Args:
        secret: Where they are.
        find: Reads the folder's files; None if it has none.
        write: Writes them.
        make: Makes new ones, where there is no Secret.
    """

    def __init__(
        self,
        secret: AuthoritySecret,
        find: Callable[[], Mapping[str, bytes] | None],
        write: Callable[[Mapping[str, bytes]], None],
        make: Callable[[], Mapping[str, bytes]],
    ) -> None:
        self._secret = secret
        self._find = find
        self._write = write
        self._make = make

    def fill(self) -> None:
        """Write the Secret's files, made now if there are none.

        Raises:
            errors.SourceError: The API server can't be reached or says no, or the Secret can't be read.
        """
        self._take(self._secret.find_or_make(self._make))

    def run(self, stop: threading.Event) -> None:
        """Take the Secret's changes until `stop` is set; one that is gone changes nothing."""
        while not stop.wait(_LOOK_SECONDS):
            found = self._secret.find()
            if found is not None:
                self._take(found)

    def _take(self, files: Mapping[str, bytes]) -> None:
        present = self._find()
        if present is None or any(present.get(name) != text for name, text in files.items()):
            self._write(files)


def _files_of(secret: Mapping[str, Any], name: str) -> dict[str, bytes]:
    try:
        files = {
            key: base64.b64decode(text, validate=True)
            for key, text in (secret.get("data") or {}).items()
            if key in _FILES
        }
    except (binascii.Error, TypeError, ValueError) as error:
        message = f"the Secret {name} can't be read: {error}"
        raise errors.SourceError(message, is_retryable=True) from error
    made = {key: content for key, content in files.items() if content}
    # A root that Istio made for herself is its own bundle, which she leaves empty.
    if name == OWN and "root-cert.pem" not in made and "ca-cert.pem" in made:
        made["root-cert.pem"] = made["ca-cert.pem"]
    return made
