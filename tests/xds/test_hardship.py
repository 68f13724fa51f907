"""Clients that are slow, broken, many, or gone: each costs little, and none disturbs another."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.xds.mesh import NODE, Mesh, name
from tests.xds.stream import DELTA, SOTW, Stream, StreamEnded, Subscriber, open_stream

Connect = Callable[..., Stream]
pytestmark = pytest.mark.extension

SERVICE: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
METHODS: Final = {SOTW: "StreamAggregatedResources", DELTA: "DeltaAggregatedResources"}
N_MANY: Final = 150


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def check_serving(mesh: Mesh, form: str, turn: int) -> None:
    """A well-behaved client connects and hears of a change."""
    with open_stream(mesh.address, form, NODE) as stream:
        clusters = Subscriber(stream, "CDS")
        clusters.want("*")
        clusters.take()
        mesh.change("CDS", "a", turn)
        clusters.take()


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class TestNode:
    @pytest.mark.parametrize(
        ("node", "words"),
        [
            (None, "no node"),
            ({}, "no metadata"),
            ({"metadata": {"NAMESPACE": "shop"}}, "no id"),
            ({"id": NODE["id"]}, "no metadata"),
            ({"id": "web", "metadata": {"NAMESPACE": "shop"}}, "web"),
            ({"id": "sidecar~no-address~a.b~c", "metadata": {}}, "no-address"),
            ({"id": NODE["id"], "metadata": {"LABELS": "a=b"}}, "expected a map"),
        ],
        ids=["no-node", "empty", "no-id", "no-metadata", "short-id", "no-ip", "bad-labels"],
    )
    def test_what_it_lacks_is_said(
        self, connect: Connect, mesh: Mesh, form: str, node: dict[str, Any] | None, words: str
    ) -> None:
        stream = connect(form, node)
        stream.send("CDS")
        with pytest.raises(StreamEnded, match=words) as ended:
            stream.receive()
        assert ended.value.code is grpc.StatusCode.INVALID_ARGUMENT
        check_serving(mesh, form, 1)

    def test_it_is_told_once(self, connect: Connect, form: str) -> None:
        stream = connect(form)
        for xds in ("CDS", "LDS"):
            stream.send(xds)
            assert stream.expect(xds).resources


class TestGarbage:
    @pytest.mark.parametrize(
        "payload", [b"\xff" * 20, b"\x0a\x7f", b"\x12\x03\x0a\x01\xff"], ids=repr
    )
    def test_what_is_no_protobuf_ends_its_stream_alone(
        self, mesh: Mesh, form: str, payload: bytes
    ) -> None:
        with grpc.insecure_channel(mesh.address) as channel:
            call = channel.stream_stream(SERVICE + METHODS[form])(iter([payload]))
            with pytest.raises(grpc.RpcError):
                next(call)
        check_serving(mesh, form, 1)

    def test_it_ends_a_stream_that_was_good(self, mesh: Mesh, form: str) -> None:
        with open_stream(mesh.address, form, NODE) as good:
            clusters = Subscriber(good, "CDS")
            clusters.want("*")
            clusters.take()
            with grpc.insecure_channel(mesh.address) as channel:
                call = channel.stream_stream(SERVICE + METHODS[form])(iter([b"\xff\xff\xff"]))
                with pytest.raises(grpc.RpcError):
                    next(call)
            mesh.change("CDS", "a", 1)
            clusters.take()

    def test_no_type_is_an_error(self, connect: Connect, form: str) -> None:
        stream = connect(form)
        stream.send("")
        with pytest.raises(StreamEnded, match="type URL"):
            stream.receive()

    def test_other_methods_are_told(self, mesh: Mesh) -> None:
        with grpc.insecure_channel(mesh.address) as channel:
            call = channel.unary_unary("/envoy.service.discovery.v3.Nothing/Fetch")
            with pytest.raises(grpc.RpcError) as ended:
                call(b"")
        assert ended.value.code() is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize(
        "opening",
        [
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
        ],
        ids=["nothing", "http1", "preface", "tls"],
    )
    def test_connections_that_speak_something_else(
        self, mesh: Mesh, form: str, opening: bytes
    ) -> None:
        host, _, port = mesh.address.rpartition(":")
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(socket.create_connection((host, int(port))))
                connection.sendall(opening)
            check_serving(mesh, form, 1)


class TestVanishing:
    def test_a_stream_that_closes_takes_its_push_along(
        self, mesh: Mesh, connect: Connect, form: str
    ) -> None:
        """What was about to be sent to it goes; others get theirs."""
        other = Subscriber(connect(form), "CDS")
        other.want("*")
        other.take()
        for turn in range(1, 6):
            with open_stream(mesh.address, form, NODE) as stream:
                stream.send("CDS", ["*"])
                stream.expect("CDS")
                # It has not acknowledged: this waits for it.
                mesh.change("CDS", "a", turn)
                stream.cancel()
            other.take()
        wait_until(lambda: mesh.n_connected() == 1, "the vanished are forgotten")

    def test_a_client_that_ends_is_answered_with_the_end(self, connect: Connect, form: str) -> None:
        stream = connect(form)
        stream.send("CDS", ["*"])
        stream.expect("CDS")
        stream.finish()

    def test_connections_that_are_reset(self, mesh: Mesh, form: str) -> None:
        host, _, port = mesh.address.rpartition(":")
        for _ in range(50):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        check_serving(mesh, form, 1)
        wait_until(lambda: mesh.n_connected() == 0, "none is left")


class TestMany:
    def test_all_connect_at_once(self, mesh: Mesh, form: str) -> None:
        """All are answered, all hear of a change, all are forgotten when they go."""
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(open_stream(mesh.address, form, NODE)) for _ in range(N_MANY)
            ]
            all_clusters = [Subscriber(stream, "CDS") for stream in streams]
            for clusters in all_clusters:
                clusters.want("*")
            for clusters in all_clusters:
                clusters.take()
            assert mesh.n_connected() == N_MANY
            mesh.change("CDS", "a", 1)
            for clusters in all_clusters:
                clusters.take()
            versions = {c.last.version for c in all_clusters if c.last is not None}
            assert len(versions) == 1
        wait_until(lambda: mesh.n_connected() == 0, "none is left")


class TestSlowReader:
    N_SLOW = 20
    N_CHANGES = 100
    MAX_GROWTH_MB = 60.0

    def test_it_costs_one_response_and_skips_what_is_outdated(self, mesh: Mesh, form: str) -> None:
        """State of the world, each change is 1 MB for each reader: kept for them all, it would be 2 GB."""
        letters = [chr(ord("a") + i) for i in range(500)]
        mesh.add(*letters)
        before = resident_mb()
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(self._stall(mesh, form)) for _ in range(self.N_SLOW)]
            wait_until(lambda: mesh.n_connected() == self.N_SLOW, "all are connected")
            quick = Subscriber(stack.enter_context(open_stream(mesh.address, form, NODE)), "CDS")
            quick.want("*")
            quick.take()
            for turn in range(1, self.N_CHANGES + 1):
                mesh.change("CDS", "a", turn)
                quick.take()
            assert resident_mb() - before < self.MAX_GROWTH_MB
            newest = quick.state[name("CDS", "a")]
            assert newest.connect_timeout.seconds == 1 + self.N_CHANGES
            assert all(each.fileno() >= 0 for each in slow)

    @staticmethod
    @contextlib.contextmanager
    def _stall(mesh: Mesh, form: str) -> Any:
        """Ask for all clusters over a connection from which nothing is read."""
        host, _, port = mesh.address.rpartition(":")
        with socket.socket() as hidden, socket.socket() as connection:
            hidden.bind(("127.0.0.1", 0))
            hidden.listen(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, int(port)))
            ours = threading.Thread(target=_relay_one_way, args=[hidden, connection], daemon=True)
            ours.start()
            address = f"127.0.0.1:{hidden.getsockname()[1]}"
            with open_stream(address, form, NODE) as stream:
                stream.send("CDS", ["*"])
                yield connection


def _relay_one_way(hidden: socket.socket, connection: socket.socket) -> None:
    """Pass on what the client says, and of the server's words only the first."""
    with contextlib.suppress(OSError):
        client, _ = hidden.accept()
        with client:
            client.sendall(connection.recv(64))
            while said := client.recv(65536):
                connection.sendall(said)
