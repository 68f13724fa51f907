"""Answers the core's questions about callers by asking the platform."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from navarch import errors

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from navarch import core

_log = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 0.5


class Reviewer(Protocol):
    """A platform that knows its callers. Calls may block, and come from several threads at once."""

    def review_token(self, token: str, audiences: Sequence[str]) -> tuple[str, str]:
        """Return the namespace and the service account whose token it is.

        Raises:
            errors.RefusedError: It is not good, or not meant for any of the audiences.
            errors.SourceError: The platform did not answer.
        """

    def may_read_secrets(self, namespace: str, service_account: str) -> bool:
        """Return whether the service account may read the Secrets of its namespace.

        Raises:
            errors.SourceError: The platform did not answer.
        """


class Desk:
    """Takes one question after the other; `run` may run in several threads, which bounds how many go on at once."""

    def __init__(self, served: core.Core, reviewer: Reviewer) -> None:
        self._core = served
        self._reviewer = reviewer

    def run(self, stop: threading.Event) -> None:
        """Answer until `stop` is set, or the server has ended."""
        while not stop.is_set():
            try:
                taken = self._core.next_review(_WAIT_SECONDS)
            except errors.CoreError:
                # It drains and ends before its workers are told to.
                return
            if taken is not None:
                review, question = taken
                self._core.answer_review(review, self._answer(question))

    def _answer(self, question: dict[str, Any]) -> dict[str, str]:
        try:
            return self._ask(question)
        except errors.RefusedError as refusal:
            return {"kind": "denied", "why": str(refusal)}
        except errors.NavarchError as error:
            _log.warning("the platform could not be asked about a caller: %s", error)
            return {"kind": "failed", "why": str(error)}

    def _ask(self, question: dict[str, Any]) -> dict[str, str]:
        if question["kind"] == "token":
            namespace, account = self._reviewer.review_token(
                question["token"], question["audiences"]
            )
            return {"kind": "token", "namespace": namespace, "service_account": account}
        namespace, account = question["namespace"], question["service_account"]
        if self._reviewer.may_read_secrets(namespace, account):
            return {"kind": "allowed"}
        return {
            "kind": "denied",
            "why": f"{namespace}/{account} may not list the Secrets of its namespace",
        }
