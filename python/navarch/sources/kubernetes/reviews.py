"""Asks the API server who a token's bearer is, and what an account may do (is an `identity.reviews.Reviewer`).

Source: Kubernetes API reference, authentication.k8s.io/v1 TokenReview, authorization.k8s.io/v1 SubjectAccessReview;
istio `security/pkg/k8s/tokenreview/k8sauthn.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from navarch import errors
from navarch.sources.kubernetes import client

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_ACCOUNTS: Final = "system:serviceaccount:"


class KubernetesReviewer:
    """Safe for many threads; every call asks the API server."""

    def __init__(self, api: client.Client) -> None:
        self._client = api

    def review_token(self, token: str, audiences: Sequence[str]) -> tuple[str, str]:
        """Return the namespace and the service account whose token it is.

        Raises:
            errors.RefusedError: It is not good, not meant for any of the audiences, or of no service account.
            errors.SourceError: The API server did not answer.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        status = self._client.write(client.Request("POST", _TOKENS, body=body)).get("status") or {}
        if not status.get("authenticated"):
            why = status.get("error") or "it is not known"
            raise errors.RefusedError(f"the API server refuses the token: {why}"[:300])
        if audiences and not set(status.get("audiences") or ()) & set(audiences):
            raise errors.RefusedError(f"the token is not for any of: {', '.join(audiences)}")
        name = str((status.get("user") or {}).get("username", ""))
        namespace, colon, account = name.removeprefix(_ACCOUNTS).partition(":")
        if not name.startswith(_ACCOUNTS) or not colon:
            raise errors.RefusedError(f"the token is of {name!r}, which is no service account")
        return namespace, account

    def may_read_secrets(self, namespace: str, service_account: str) -> bool:
        """Return whether the service account may list the Secrets of its namespace.

        Raises:
            errors.SourceError: The API server did not answer.
        """
        wanted = {"namespace": namespace, "verb": "list", "resource": "secrets"}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"{_ACCOUNTS}{namespace}:{service_account}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
                "resourceAttributes": wanted,
            },
        }
        status = self._client.write(client.Request("POST", _ACCESS, body=body)).get("status") or {}
        return bool(status.get("allowed"))
