"""An xDS client on grpcio with messages of `xds-protos`: not the code generator nor the HTTP/2 of the server."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import json_format
from google.rpc import status_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

URL: Final = "type.googleapis.com/"
MESSAGES: Final[dict[str, Any]] = {
    "CDS": cluster_pb2.Cluster,
    "EDS": endpoint_pb2.ClusterLoadAssignment,
    "LDS": listener_pb2.Listener,
    "RDS": route_pb2.RouteConfiguration,
}
# Asked for by those alone who prove who they are.
SECRETS: Final[dict[str, Any]] = {"SDS": secret_pb2.Secret}
SOTW, DELTA = "sotw", "delta"
WAIT_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 0.25
_INVALID_ARGUMENT: Final = 3


def type_url(xds: str) -> str:
    """Return the type URL of `CDS` and the like."""
    return URL + str((MESSAGES | SECRETS)[xds].DESCRIPTOR.full_name)


def _short(url: str) -> str:
    return next((xds for xds in MESSAGES | SECRETS if type_url(xds) == url), url)


@dataclasses.dataclass(frozen=True)
class Response:
    """A response of either form.

    Attributes:
        xds: `CDS` and the like.
        resources: By name.
        raw: The bytes of each, as they came.
        versions: Of each resource, which only delta tells.
    """

    xds: str
    version: str
    nonce: str
    resources: Mapping[str, Any]
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    raw: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    removed: frozenset[str] = frozenset()


class StreamEnded(Exception):  # noqa: N818  it is no error where a test waits for it
    """The server ended the stream."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code
        self.words = words


class Stream:
    """One ADS stream; nothing is sent or acknowledged by itself."""

    def __init__(
        self,
        channel: grpc.Channel,
        form: str,
        node: Mapping[str, Any] | None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.form = form
        self._node = None if node is None else json_format.ParseDict(dict(node), base_pb2.Node())
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[Response | StreamEnded] = queue.SimpleQueue()
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        is_delta = form == DELTA
        method = stub.DeltaAggregatedResources if is_delta else stub.StreamAggregatedResources
        self._call = method(iter(self._requests.get, None), metadata=headers)
        threading.Thread(target=self._read, daemon=True).start()

    def send(
        self,
        xds: str,
        names: Iterable[str] = (),
        *,
        unsubscribe: Iterable[str] = (),
        nonce: str = "",
        version: str = "",
        error: str = "",
        initial: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request; what the stream's form lacks is left out. `xds` may be any other type URL as well."""
        url = type_url(xds) if xds in MESSAGES | SECRETS else xds
        made: dict[str, Any] = {"type_url": url, "response_nonce": nonce}
        if error:
            made["error_detail"] = status_pb2.Status(code=_INVALID_ARGUMENT, message=error)
        if self._node is not None:
            made["node"], self._node = self._node, None
        if self.form == SOTW:
            request = discovery_pb2.DiscoveryRequest(
                resource_names=names, version_info=version, **made
            )
        else:
            request = discovery_pb2.DeltaDiscoveryRequest(
                resource_names_subscribe=names,
                resource_names_unsubscribe=unsubscribe,
                initial_resource_versions=initial or {},
                **made,
            )
        self._requests.put(request)

    def ack(self, response: Response, names: Iterable[str] = (), error: str = "") -> None:
        """Accept a response, or reject it; the state of the world repeats the names."""
        names = names if self.form == SOTW else ()
        version = "" if error else response.version
        self.send(response.xds, names, nonce=response.nonce, version=version, error=error)

    def receive(self, seconds: float = WAIT_SECONDS) -> Response:
        """Return the next response.

        Raises:
            StreamEnded: The server ended the stream.
            AssertionError: Nothing came in time.
        """
        try:
            got = self._responses.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no response within {seconds:g} s") from None
        if isinstance(got, StreamEnded):
            raise got
        return got

    def expect(self, xds: str) -> Response:
        """Return the next response, which must be of that type."""
        got = self.receive()
        assert got.xds == xds, f"{got.xds} came: {sorted(got.resources)}"
        return got

    def expect_quiet(self, seconds: float = QUIET_SECONDS) -> None:
        """Make sure that nothing comes."""
        with contextlib.suppress(queue.Empty):
            got = self._responses.get(timeout=seconds)
            raise AssertionError(f"something came: {got}")

    def wait_read(self, unused: str) -> None:
        """Wait until the server has read all that was sent, by asking for a type that is not asked for yet."""
        self.send(unused, ["nothing"])
        self.ack(self.expect(unused), ["nothing"])

    def finish(self) -> None:
        """Say that no more requests come, and wait until the server has ended the stream."""
        self._requests.put(None)
        with contextlib.suppress(StreamEnded):
            while True:
                self.receive()

    def cancel(self) -> None:
        """Vanish."""
        self._call.cancel()

    def _read(self) -> None:
        try:
            for got in self._call:
                self._responses.put(_read_sotw(got) if self.form == SOTW else _read_delta(got))
            self._responses.put(StreamEnded(grpc.StatusCode.OK, ""))
        except grpc.RpcError as error:
            self._responses.put(StreamEnded(error.code(), error.details()))


def _read_sotw(got: Any) -> Response:
    unpacked = [(*_unpack(any_), bytes(any_.value)) for any_ in got.resources]
    resources = {name: message for name, message, _ in unpacked}
    assert len(resources) == len(got.resources), "a name came twice"
    return Response(
        xds=_short(got.type_url),
        version=got.version_info,
        nonce=got.nonce,
        resources=resources,
        raw={name: raw for name, _, raw in unpacked},
    )


def _read_delta(got: Any) -> Response:
    resources = {}
    for each in got.resources:
        name, resources[each.name] = _unpack(each.resource)
        assert name == each.name
    assert len(resources) == len(got.resources), "a name came twice"
    removed = frozenset(got.removed_resources)
    assert not removed & resources.keys()
    return Response(
        xds=_short(got.type_url),
        version=got.system_version_info,
        nonce=got.nonce,
        resources=resources,
        versions={each.name: each.version for each in got.resources},
        raw={each.name: bytes(each.resource.value) for each in got.resources},
        removed=removed,
    )


def _unpack(any_: Any) -> tuple[str, Any]:
    message = (MESSAGES | SECRETS)[_short(any_.type_url)].FromString(any_.value)
    return message.cluster_name if hasattr(message, "cluster_name") else message.name, message


class Subscriber:
    """A well-behaved subscription to one type on a stream: it acknowledges all, and keeps what it has.

    Attributes:
        state: What it has, by name.
        names: What it asked for.
    """

    def __init__(self, stream: Stream, xds: str) -> None:
        self.state: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self.raw: dict[str, bytes] = {}
        self.names: tuple[str, ...] = ()
        self._told: set[str] = set()
        self.last: Response | None = None
        self.stream = stream
        self._xds = xds

    @property
    def is_delta(self) -> bool:
        return self.stream.form == DELTA

    def want(self, *names: str) -> None:
        """Ask for exactly these names from now on; "*" asks for all."""
        gone, self.names = [n for n in self.names if n not in names], names
        if self.is_delta:
            new = [n for n in names if n not in self._told]
            self.stream.send(self._xds, new, unsubscribe=gone)
            self._told = set(names)
        else:
            last = self.last or Response(self._xds, "", "", {})
            self.stream.send(self._xds, names, nonce=last.nonce, version=last.version)

    def want_all(self) -> None:
        """Ask for all as older clients do: by no names."""
        self.stream.send(self._xds)

    def wait_read(self) -> None:
        """Wait until the server has read what was asked for; once for each stream."""
        self.stream.wait_read("LDS" if self._xds == "RDS" else "RDS")

    def take(self) -> Response:
        """Receive the next response, which must be of this type, apply and acknowledge it."""
        got = self.stream.expect(self._xds)
        self.apply(got)
        self.stream.ack(got, self.names)
        return got

    def take_until(self, is_there: Callable[[Subscriber], bool]) -> Response:
        """Take responses until something holds; return the last of them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            got = self.take()
            if is_there(self):
                return got
        raise AssertionError("responses came, but not what was waited for")

    def apply(self, got: Response) -> None:
        """Apply a response as Envoy does."""
        if not self.is_delta and self._xds in ("CDS", "LDS"):
            self.state.clear()
            self.raw.clear()
        self.state.update(got.resources)
        self.raw.update(got.raw)
        self.versions.update(got.versions)
        for name in got.removed:
            self.state.pop(name, None)
            self.versions.pop(name, None)
            self.raw.pop(name, None)
        self.last = got


@contextlib.contextmanager
def open_stream(
    address: str, form: str, node: Mapping[str, Any] | None, **options: Any
) -> Iterator[Stream]:
    """Connect with a connection of its own, and open a stream."""
    arguments = [("grpc.max_receive_message_length", -1), *options.items()]
    # Channels with equal arguments share connections unless they say that they do not.
    arguments.append(("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(address, options=arguments) as channel:
        stream = Stream(channel, form, node)
        try:
            yield stream
        finally:
            stream.cancel()
