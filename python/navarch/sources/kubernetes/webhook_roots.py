"""Tells the API server which roots the webhooks' certificate is verified by (`webhooks.certificates.Publisher`)."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any, Final

from navarch.sources.kubernetes import client

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_ROOT: Final = "/apis/admissionregistration.k8s.io/v1"
_RESOURCES: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
_JSON_PATCH: Final = "application/json-patch+json"


class WebhookRoots:
    """Keeps `caBundle` of this revision's webhook configurations current.

    Every replica may do so at once: they write the same, and nothing where it is written already.
    """

    def __init__(self, api: client.Client, namespace: str, revision: str) -> None:
        self._client = api
        self._namespace = namespace
        self._query = {
            "labelSelector": f"app.kubernetes.io/part-of=navarch,istio.io/rev={revision}"
        }

    def publish_roots(self, pem: str) -> None:
        """Put the roots where others are.

        Raises:
            errors.SourceError: The API server can't be reached, or says no.
        """
        bundle = base64.b64encode(pem.encode()).decode()
        for resource in _RESOURCES:
            for found in self._client.read(f"{_ROOT}/{resource}", self._query).get("items") or ():
                changes = self._changes(found, bundle)
                if changes:
                    name = found["metadata"]["name"]
                    path = f"{_ROOT}/{resource}/{name}"
                    self._client.write(
                        client.Request("PATCH", path, body=changes, content_type=_JSON_PATCH)
                    )
                    _log.info("the roots in %s %s are current", resource, name)

    def _changes(self, found: Mapping[str, Any], bundle: str) -> list[dict[str, Any]]:
        changes: list[dict[str, Any]] = []
        for index, webhook in enumerate(found.get("webhooks") or ()):
            asked = webhook["clientConfig"]
            service = asked.get("service") or {}
            is_ours = service.get("namespace", self._namespace) == self._namespace
            if not is_ours or asked.get("caBundle") == bundle:
                continue
            at = f"/webhooks/{index}"
            # Somebody may have changed the list since it was read.
            changes.append({"op": "test", "path": f"{at}/name", "value": webhook["name"]})
            changes.append({"op": "add", "path": f"{at}/clientConfig/caBundle", "value": bundle})
        return changes
