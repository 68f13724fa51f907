"""What one caller can do to others at the authenticated port: nothing, however it floods."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.xds import identity, stream
from tests.xds.test_identity import ended, refused, serve  # noqa: F401  a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.extension

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 1, 3, 4, 7
_END_STREAM_AND_HEADERS = 5
_CANCEL = (8).to_bytes(4)
_ATTACKER = "127.0.0.66"


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """Write a frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + payload


def literal(name: str, value: str) -> bytes:
    """Write a header that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def connect(port: identity.Port, source: str = _ATTACKER) -> socket.socket:
    """Connect by TCP alone."""
    return socket.create_connection(("127.0.0.1", port.number), 10, (source, 0))


def shake(port: identity.Port) -> ssl.SSLSocket:
    """Connect by TLS alone."""
    context = ssl.create_default_context(cadata=port.authority.root_bundle())
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connect(port), server_hostname="localhost")


def is_closed_within(seconds: float, opened: socket.socket) -> bool:
    """Return whether the other end closes the connection in time."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        opened.settimeout(left)
        try:
            if not opened.recv(65536):
                return True
        except (ConnectionError, ssl.SSLError):
            return True
        except TimeoutError:
            return False
    return False


def test_half_open_connections_are_bounded_and_closed(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    """Thousands of connections that never shake hands: others are served, of the same address too, and these end."""
    port = serve()
    # The address from which the test's own clients come: a whole fleet may stand behind one.
    flood = [connect(port, source) for source in (_ATTACKER, "127.0.0.1") for _ in range(1000)]
    port.enrol(port.platform.add())
    with port.open(stream.DELTA, port.platform.add()) as opened:
        opened.send("CDS", ["*"])
        assert opened.expect("CDS").resources
    assert all(is_closed_within(10, each) for each in flood)
    for each in flood:
        each.close()


def test_a_connection_that_says_nothing_after_tls_is_closed(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    port = serve()
    with shake(port) as silent, shake(port) as slow:
        slow.send(_PREFACE[:5])
        assert is_closed_within(10, silent)
        assert is_closed_within(10, slow)


def test_old_tls_and_plaintext_are_refused(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    port = serve()
    with connect(port) as plain:
        plain.send(_PREFACE + frame(_SETTINGS, 0, 0))
        assert is_closed_within(10, plain)


def test_resets_end_the_connection_that_sends_them(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    """Streams that are opened and reset at once (CVE-2023-44487) cost their sender the connection."""
    port = serve()
    path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    named = {":method": "POST", ":scheme": "https", ":path": path, ":authority": "localhost"}
    block = b"".join(literal(*each) for each in named.items())
    with shake(port) as attacker:
        attacker.send(_PREFACE + frame(_SETTINGS, 0, 0))
        burst = b"".join(
            frame(_HEADERS, _END_STREAM_AND_HEADERS, number, block)
            + frame(_RST_STREAM, 0, number, _CANCEL)
            for number in range(1, 20_001, 2)
        )
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for at in range(0, len(burst), 65536):
                attacker.sendall(burst[at : at + 65536])
        assert is_closed_within(10, attacker)
    with port.open(stream.DELTA, port.platform.add()) as opened:
        opened.send("CDS", ["*"])
        assert opened.expect("CDS").resources


def test_messages_larger_than_any_request_are_refused(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    port = serve()
    status, _ = refused(port, port.platform.add(), csr="x" * 1_000_000)
    assert status in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with port.open(stream.DELTA, port.platform.add()) as opened:
        opened.send("CDS", ["x" * 20_000_000])
        end = ended(opened)
    assert end.code in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_a_stream_of_endless_messages_is_ended(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    port = serve()
    with port.open(stream.DELTA, port.platform.add()) as opened:
        opened.send("CDS", ["*"])
        opened.expect("CDS")
        for number in range(10_000):
            opened.send("EDS", [f"outbound|80||{number}"])
        # The client may find the stream gone before it has read why.
        end = ended(opened).code
    assert end in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    with port.open(stream.DELTA, port.platform.add()) as kept:
        kept.send("CDS", ["*"])
        assert kept.expect("CDS").resources


def test_an_identity_that_asks_too_often_is_put_off_and_no_other(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    """Callers share an address, and not a limit."""
    port = serve(requests_per_second=1)
    token, request = port.platform.add(), identity.make_request(identity.make_key())
    for _ in range(4):
        port.create(token, csr=request)
    status, told = refused(port, token, csr=request)
    assert (status, "too often" in told) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    port.create(port.platform.add("other"), csr=request)


def test_guessed_tokens_are_soon_no_longer_looked_up(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    """The platform is spared; who is known already is served from the same address."""
    port = serve()
    known, request = port.platform.add(), identity.make_request(identity.make_key())
    port.create(known, csr=request)
    seen = set(port.create_at_once([identity.token() for _ in range(500)], request))
    assert seen == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert port.platform.n_asked < 500
    port.create(known, csr=request)


def test_a_connection_without_a_proof_is_closed(
    serve: Callable[..., identity.Port],  # noqa: F811
) -> None:
    """A client that keeps HTTP/2 alive and never says who it is takes no place for long."""
    port = serve()
    with shake(port) as idle:
        idle.send(_PREFACE + frame(_SETTINGS, 0, 0))
        assert not is_closed_within(6, idle)
        assert is_closed_within(20, idle)
