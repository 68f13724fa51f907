"""One API server through the official client: its configuration and connections, with answers left as bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import api_client, configuration

from navarch import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
"""The longest silence within an answer that is no watch."""
JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
_CHUNK_BYTES: Final = 1 << 20
_MAX_MESSAGE_CHARACTERS: Final = 300
_N_KEPT_CONNECTIONS: Final = 64
_UNAUTHORIZED: Final = 401
_FIRST_ERROR: Final = 400
_HTTP_FAULTS: Final = (urllib3.exceptions.HTTPError, OSError, ValueError)


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Where an API server is, and as whom to talk to it; with neither file nor document, the Pod's own account."""

    kubeconfig: Path | None = None
    context: str | None = None
    document: str = ""
    """A kubeconfig as text, of a remote cluster; it may name neither files nor programs of this machine."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request; a body is sent as JSON."""

    method: str
    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: object = None
    content_type: str = JSON


class Breaker:
    """Ends a stream from another thread; one that is opened while it is tripped ends at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: urllib3.BaseHTTPResponse | None = None
        self._is_tripped = False

    @property
    def is_tripped(self) -> bool:
        """Whether `trip` was called since the last `reset`."""
        return self._is_tripped

    def trip(self) -> None:
        """End the stream."""
        with self._lock:
            self._is_tripped = True
            _shut(self._answer)

    def reset(self) -> None:
        """Let streams live."""
        with self._lock:
            self._is_tripped = False

    def hold(self, answer: urllib3.BaseHTTPResponse | None) -> None:
        """Be what ends this stream, or no stream."""
        with self._lock:
            self._answer = answer
            if self._is_tripped:
                _shut(answer)


def _shut(answer: urllib3.BaseHTTPResponse | None) -> None:
    if answer is not None:
        # Its reader may be closing it at this moment.
        with contextlib.suppress(*_HTTP_FAULTS, RuntimeError):
            answer.shutdown()


class Client:
    """Makes requests; safe for many threads. After `close`, every request fails and streams end."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._made: api_client.ApiClient | None = None
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._is_closed = threading.Event()
        self._has_closer = False

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed.is_set()

    def close(self) -> None:
        """End all requests, also those that wait for an answer."""
        self._is_closed.set()
        with self._lock:
            answers = list(self._open)
        for answer in answers:
            _shut(answer)

    def close_at(self, stop: threading.Event) -> None:
        """Close when `stop` is set: a thread that reads a silent stream can't look at an event."""
        with self._lock:
            if self._has_closer:
                return
            self._has_closer = True

        def wait() -> None:
            stop.wait()
            self.close()

        threading.Thread(target=wait, name="kubernetes-closer", daemon=True).start()

    def call(self, request: Request) -> bytes:
        """Make a request and return the answer's bytes.

        Raises:
            errors.ApiError: The server says no.
            errors.SourceError: It can't be reached.
        """
        with self._answer(request, ANSWER_SECONDS) as answer:
            try:
                return answer.read()
            except _HTTP_FAULTS as error:
                raise _unreachable(error) from error

    def read(self, path: str, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  any JSON value
        """Get a small document."""
        try:
            return json.loads(self.call(Request("GET", path, query or {})))
        except ValueError as error:
            raise errors.SourceError(f"{path}: no JSON: {error}", is_retryable=True) from error

    def write(self, request: Request) -> Any:  # noqa: ANN401  any JSON value
        """Make a request that changes something; return the object as it is then."""
        return json.loads(self.call(request))

    def stream(
        self, path: str, query: Mapping[str, str], idle_seconds: float, breaker: Breaker
    ) -> Iterator[bytes]:
        """Get a watch; yield one or more whole lines at a time, until the server or the breaker ends it.

        Raises:
            errors.ApiError: The server says no.
            errors.SourceError: It can't be reached, went away, or was silent for `idle_seconds`.
        """
        with self._answer(Request("GET", path, query), idle_seconds) as answer:
            rest = bytearray()
            breaker.hold(answer)
            try:
                for chunk in answer.stream(_CHUNK_BYTES):
                    end = chunk.rfind(b"\n") + 1
                    if end:
                        yield bytes(rest) + chunk[:end]
                        rest = bytearray(chunk[end:])
                    else:
                        rest += chunk
            except _HTTP_FAULTS as error:
                if not breaker.is_tripped:
                    raise _unreachable(error) from error
            finally:
                breaker.hold(None)

    @contextlib.contextmanager
    def _answer(self, request: Request, read_seconds: float) -> Iterator[urllib3.BaseHTTPResponse]:
        if self.is_closed:
            raise errors.SourceError("the client is closed", is_retryable=True)
        answer = self._send(request, read_seconds)
        with self._lock:
            self._open.add(answer)
        is_read = False
        try:
            if answer.status >= _FIRST_ERROR:
                raise self._refusal(answer)
            yield answer
            is_read = True
        finally:
            with self._lock:
                self._open.discard(answer)
            if is_read:
                answer.release_conn()
            else:
                answer.close()

    def _send(self, request: Request, read_seconds: float) -> urllib3.BaseHTTPResponse:
        made = self._client()
        headers = {"Accept": JSON, "User-Agent": "navarch"}
        body = None
        if request.body is not None:
            body = json.dumps(request.body, separators=(",", ":")).encode()
            headers["Content-Type"] = request.content_type
        url = made.configuration.host.rstrip("/") + request.path
        if request.query:
            url = f"{url}?{urllib.parse.urlencode(request.query)}"
        try:
            # Tokens of files and of programs are made anew here when they have run out.
            for setting in made.configuration.auth_settings().values():
                headers[setting["key"]] = setting["value"] or ""
            return made.rest_client.pool_manager.request(
                request.method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                preload_content=False,
                retries=False,
                redirect=False,
            )
        except (*_HTTP_FAULTS, config.ConfigException) as error:
            raise _unreachable(error) from error

    def _client(self) -> api_client.ApiClient:
        with self._lock:
            if self._made is None:
                self._made = _make_client(self._access)
            return self._made

    def _refusal(self, answer: urllib3.BaseHTTPResponse) -> errors.ApiError:
        if answer.status == _UNAUTHORIZED:
            # What was read from the kubeconfig has run out: the next request reads it anew.
            with self._lock:
                self._made = None
        try:
            body = answer.read(decode_content=True)
        except _HTTP_FAULTS:
            body = b""
        return refusal(answer.status, body, answer.headers.get("Retry-After"))


def refusal(status: int, body: bytes, retry_after: str | None = None) -> errors.ApiError:
    """Make an error from the API server's Status."""
    try:
        told = json.loads(body)
        message, reason = str(told.get("message", "")), str(told.get("reason", ""))
        seconds = (told.get("details") or {}).get("retryAfterSeconds")
    except (ValueError, AttributeError):
        message, reason, seconds = body.decode(errors="replace").strip(), "", None
    if retry_after is not None and retry_after.isdecimal():
        seconds = int(retry_after)
    text = f"{status} {reason}: {message}" if reason else f"{status}: {message}"
    wait = float(seconds) if isinstance(seconds, int | float) else None
    return errors.ApiError(text[:_MAX_MESSAGE_CHARACTERS], status=status, retry_after_seconds=wait)


def _unreachable(error: Exception) -> errors.SourceError:
    text = str(error) or type(error).__name__
    return errors.SourceError(text[:_MAX_MESSAGE_CHARACTERS], is_retryable=True)


def _make_client(access: Access) -> api_client.ApiClient:
    """Read the configuration anew and make a client of it.

    Raises:
        errors.SourceError: It can't be used (now; a kubeconfig may be mended).
    """
    made = configuration.Configuration()
    try:
        if access.document:
            document = _read_remote(access.document)
            config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
                document, context=access.context, client_configuration=made, persist_config=False
            )
        elif access.kubeconfig is not None:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                str(access.kubeconfig),
                context=access.context,
                client_configuration=made,
                persist_config=False,
            )
        else:
            config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=made
            )
    except (config.ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        place = access.kubeconfig or ("the Secret" if access.document else "the Pod's account")
        message = f"the kubeconfig of {place} can't be used: {error}"
        raise errors.SourceError(message[:_MAX_MESSAGE_CHARACTERS], is_retryable=True) from error
    made.connection_pool_maxsize = _N_KEPT_CONNECTIONS
    # Dead peers are noticed by the kernel long before the next bookmark is late.
    made.keep_alive = True
    return api_client.ApiClient(made)


# Istio refuses the same (`pkg/kube/multicluster/secretcontroller.go` `sanitizeKubeConfig`).
_UNSAFE_USER: Final = frozenset(
    {"exec", "auth-provider", "client-certificate", "client-key", "tokenFile"}
)


def _read_remote(text: str) -> dict[str, Any]:
    """Read a kubeconfig that came over the network: it must not make this process read files or run programs."""
    document = yaml.safe_load(text)
    if not isinstance(document, dict):
        raise TypeError("it is no mapping")
    for entry in document.get("users") or ():
        if unsafe := sorted(_UNSAFE_USER & set(entry.get("user") or ())):
            raise ValueError(f"user {entry.get('name')}: {unsafe[0]} is not allowed here")
    for entry in document.get("clusters") or ():
        if "certificate-authority" in (entry.get("cluster") or ()):
            raise ValueError(
                f"cluster {entry.get('name')}: certificate-authority is not allowed here,"
                " put the certificates into certificate-authority-data"
            )
    return document
