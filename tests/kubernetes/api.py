"""A client of the API server for tests, independent of navarch's: what kubectl's verbs do, on plain HTTP."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Object = dict[str, Any]

_OWNER: Final = "tests"
_TIMEOUT_SECONDS: Final = 30.0
_APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"


class ApiError(Exception):
    """The server's refusal: its status code and message."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        try:
            self.body: Object = json.loads(body)
        except ValueError:
            self.body = {"message": body.decode(errors="replace")}
        super().__init__(f"{status}: {self.body.get('message')}")


class Api:
    """Verbs of one user; each thread has a connection of its own."""

    def __init__(self, port: int, certificates: Path, token: str) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(certificates))
        self._token = token
        self._local = threading.local()
        self._opened: list[http.client.HTTPSConnection] = []
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Any:
        """Make one request; return the answer's JSON.

        Raises:
            ApiError: The server says no.
            OSError: It can't be reached.
        """
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        for is_last in (False, True):
            connection = self._connection()
            try:
                connection.request(method, path, payload, headers)
                # A connection that ends with its answer is the answer's to close, also where reading fails.
                with connection.getresponse() as answer:
                    text = answer.read()
            except (OSError, http.client.HTTPException):
                # A connection that was kept may have been closed by a server that was started anew.
                connection.close()
                self._local.connection = None
                if is_last:
                    raise
                continue
            if answer.status >= 400:
                raise ApiError(answer.status, text)
            return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
        raise AssertionError("not reached")

    def apply(self, objects: str | Object | Iterable[Object]) -> list[Object]:
        """Do what `kubectl apply --server-side` does with YAML or objects; return them as the server has them."""
        made = []
        for each in _objects(objects):
            path = self.path_of(each)
            made.append(
                self.request(
                    "PATCH", f"{path}?fieldManager={_OWNER}&force=true", each, content_type=_APPLY
                )
            )
        return made

    def create(self, each: Object) -> Object:
        """Create an object."""
        created: Object = self.request("POST", self.path_of(each).rpartition("/")[0], each)
        return created

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object:
        """Read an object; a namespace of "" for those that live in none."""
        found: Object = self.request("GET", self.path(api_version, kind, namespace, name))
        return found

    def list(self, api_version: str, kind: str, namespace: str = "") -> list[Object]:
        """List the objects of a kind, of every namespace if none is named."""
        base, is_namespaced = self._resource(api_version, kind)
        prefix, _, plural = base.rpartition("/")
        place = f"/namespaces/{namespace}" if is_namespaced and namespace else ""
        items: list[Object] = self.request("GET", f"{prefix}{place}/{plural}")["items"]
        return items

    def delete(self, each: Object) -> None:
        """Delete an object at once."""
        self.request("DELETE", f"{self.path_of(each)}?gracePeriodSeconds=0")

    def patch(self, each: Object, change: Object, subresource: str = "") -> Object:
        """Merge a change into an object, or into its `status`."""
        path = self.path_of(each) + (f"/{subresource}" if subresource else "")
        patched: Object = self.request("PATCH", path, change, content_type=MERGE)
        return patched

    def path_of(self, each: Object) -> str:
        """Return the path of an object by what it says of itself."""
        metadata = each["metadata"]
        namespace = metadata.get("namespace", "default")
        return self.path(each["apiVersion"], each["kind"], namespace, metadata["name"])

    def path(self, api_version: str, kind: str, namespace: str, name: str) -> str:
        """Return the path of an object."""
        base, is_namespaced = self._resource(api_version, kind)
        prefix, _, plural = base.rpartition("/")
        place = f"/namespaces/{namespace}" if is_namespaced else ""
        return f"{prefix}{place}/{plural}/{urllib.parse.quote(name)}"

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        if (api_version, kind) not in self._resources:
            prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            for told in self.request("GET", prefix)["resources"]:
                if "/" not in told["name"]:
                    known = (f"{prefix}/{told['name']}", told["namespaced"])
                    self._resources[api_version, told["kind"]] = known
        return self._resources[api_version, kind]

    def _connection(self) -> http.client.HTTPSConnection:
        connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS, context=self._tls
            )
            self._local.connection = connection
            self._opened.append(connection)
        return connection

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._opened:
            connection.close()


def _objects(given: str | Object | Iterable[Object]) -> Iterable[Object]:
    if isinstance(given, str):
        return [each for each in yaml.load_all(given, yaml.CSafeLoader) if each]
    if isinstance(given, dict):
        return [given]
    return given
