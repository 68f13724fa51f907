"""Which kinds an API server has, in which versions: asked once, and again as long as kinds are missing."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any, Final

from navarch import errors
from navarch.runtime import clock
from navarch.sources.kubernetes import client

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_FOUND: Final = 404
_NOT_SAID: Final = frozenset({401, 403, 404})


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A kind to look for; of its versions the first that is served is read."""

    group: str
    kind: str
    """As objects carry it."""
    versions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind is served."""

    api_version: str
    plural: str
    is_namespaced: bool

    @property
    def root(self) -> str:
        """The path of the API group's version."""
        return (
            f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        )

    @property
    def path(self) -> str:
        """The path of all objects, of every namespace."""
        return f"{self.root}/{self.plural}"

    def path_of(self, namespace: str, name: str) -> str:
        """Return the path of one object."""
        place = f"/namespaces/{namespace}" if self.is_namespaced else ""
        return f"{self.root}{place}/{self.plural}/{name}"


class UnknownVersionsError(errors.SourceError):
    """The group is served, in none of the versions that are read."""


class Discovery:
    """Answers for one API server; safe for many threads, and one at a time asks the server."""

    def __init__(self, api: client.Client, time: clock.Clock | None = None) -> None:
        self._client = api
        self._clock = time or clock.SystemClock()
        self._asked_at = 0.0
        self._lock = threading.Lock()
        self._groups: dict[str, list[str]] | None = None
        self._resources: dict[str, dict[str, Resource]] = {}

    def forget_older_than(self, seconds: float) -> None:
        """Ask anew at the next question, if the last answer is so old: a kind may have come or gone."""
        with self._lock:
            if self._clock.now() - self._asked_at >= seconds:
                self._groups = None
                self._resources.clear()

    def find(self, wanted: Wanted) -> Resource | None:
        """Return where a kind is served, None where it is not installed.

        Raises:
            UnknownVersionsError: It is there in other versions only.
            errors.SourceError: The server can't be asked.
        """
        if not wanted.group:
            # The core group is there as long as there is an API server.
            return self._find_in("v1", wanted.kind)
        with self._lock:
            if self._groups is None:
                self._require_ready()
                self._groups = _read_groups(self._client.read("/apis"))
                self._asked_at = self._clock.now()
            served = self._groups.get(wanted.group, [])
        for version in wanted.versions:
            if version in served:
                found = self._find_in(f"{wanted.group}/{version}", wanted.kind)
                if found is not None:
                    return found
        others = [each for each in served if each not in wanted.versions]
        has_kind = [v for v in others if self._find_in(f"{wanted.group}/{v}", wanted.kind)]
        if has_kind:
            raise UnknownVersionsError(_describe(wanted, has_kind), is_retryable=True)
        return None

    def is_ready(self) -> bool:
        """Whether the server says that it is ready, all rights known among what that takes."""
        try:
            self._client.call(client.Request("GET", "/readyz"))
        except errors.SourceError:
            return False
        return True

    def _require_ready(self) -> None:
        """Believe no server that is still starting: it serves kinds of definitions later than its own.

        Raises:
            errors.SourceError: It says that it is not ready; one that does not say is taken at its word.
        """
        try:
            self._client.call(client.Request("GET", "/readyz"))
        except errors.ApiError as error:
            if error.status not in _NOT_SAID:
                message = f"the API server is starting: {error}"
                raise errors.SourceError(message, is_retryable=True) from error

    def _find_in(self, api_version: str, kind: str) -> Resource | None:
        with self._lock:
            known = self._resources.get(api_version)
            if known is None:
                root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
                try:
                    told = self._client.read(root)
                except errors.ApiError as error:
                    if error.status != _NOT_FOUND:
                        raise
                    told = {}
                known = self._resources[api_version] = _read_resources(api_version, told)
            return known.get(kind)


def _describe(wanted: Wanted, served: Sequence[str]) -> str:
    return (
        f"{wanted.kind}.{wanted.group} is served as {', '.join(served)} only, "
        f"navarch reads {', '.join(wanted.versions)}: install CRDs that have one of these"
    )


def _read_groups(told: Any) -> dict[str, list[str]]:  # noqa: ANN401  any JSON value
    return {
        group["name"]: [each["version"] for each in group.get("versions", ())]
        for group in told.get("groups", ())
    }


def _read_resources(api_version: str, told: Any) -> dict[str, Resource]:  # noqa: ANN401  any JSON value
    return {
        each["kind"]: Resource(api_version, each["name"], each["namespaced"])
        for each in told.get("resources", ())
        if "/" not in each["name"]
    }
