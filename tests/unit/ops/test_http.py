from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from navarch import errors, records, settings
from navarch.ops import http, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULT = records.Diagnostic(
    "bad",
    "is bad",
    key=records.SourceKey("Service", "x", "a"),
    field_path="spec.ports[0]",
    origin=records.Origin("file", "a.yaml", 3),
)


class State:
    unready = "waiting for: file"
    dead = ""


def config_dump(proxy_id: str) -> bytes:
    if proxy_id == "broken":
        raise errors.CoreError("it broke")
    if proxy_id != "sidecar~1":
        raise errors.UnknownProxyError(f"{proxy_id} is not connected")
    return b'{"clusters": []}'


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State) -> Iterator[http.HttpServer]:
    made = http.HttpServer(
        settings.Address("127.0.0.1", 0),
        http.Questions(
            why_unready=lambda: state.unready,
            why_dead=lambda: state.dead,
            metrics=lambda: "up 1\n",
            sync_status=lambda: b"[]",
            config_dump=config_dump,
            diagnostics=lambda: [FAULT],
            workers=lambda: [{"name": "w"}],
        ),
    )
    yield made
    made.close()


def get(server: http.HttpServer, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_ready_is_503_until_it_is_ready(server: http.HttpServer, state: State) -> None:
    assert get(server, "/ready") == (503, "waiting for: file\n")
    assert get(server, "/healthz") == (200, "ok\n")
    state.unready = ""
    assert get(server, "/ready") == (200, "ok\n")
    assert get(server, "/ready", "HEAD") == (200, "")
    state.dead = "ingest failed"
    assert get(server, "/healthz")[0] == 503


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/metrics", 200, "up 1"),
        ("/debug/syncz", 200, "[]"),
        ("/debug/config_dump?proxyID=sidecar~1", 200, "clusters"),
        ("/debug/config_dump?proxyID=sidecar~2", 404, "not connected"),
        ("/debug/config_dump?proxyID=broken", 500, "it broke"),
        ("/debug/config_dump", 400, "proxyID"),
        ("/nope", 404, "/debug/syncz"),
    ],
)
def test_pages(server: http.HttpServer, path: str, status: int, text: str) -> None:
    got = get(server, path)
    assert got[0] == status
    assert text in got[1]


def test_diagnostics_carry_object_field_and_line(server: http.HttpServer) -> None:
    (told,) = json.loads(get(server, "/debug/diagnosticsz")[1])
    assert told["kind"] == "Service"
    assert told["field"] == "spec.ports[0]"
    assert (told["path"], told["line"]) == ("a.yaml", 3)


def test_writing_methods_are_refused_and_garbage_harms_nothing(server: http.HttpServer) -> None:
    assert get(server, "/ready", "POST")[0] == 501
    with socket.create_connection((server.address.host, server.address.port)) as client:
        client.sendall(b"\x00\xff garbage\r\n\r\n")
        client.recv(100)
    assert get(server, "/healthz")[0] == 200


def test_a_port_in_use_is_told_with_its_flag(server: http.HttpServer) -> None:
    with pytest.raises(errors.SettingsError, match="--http-address"):
        http.HttpServer(server.address, http.Questions(*[lambda: ""] * 7))  # type: ignore[arg-type]


def test_metrics_are_what_prometheus_reads() -> None:
    made = metrics.Metric("m", "gauge", "About.", {(): 1, (("a", 'x"\n'),): 2.5})
    assert metrics.render([made]) == ('# HELP m About.\n# TYPE m gauge\nm 1\nm{a="x\\"\\n"} 2.5\n')
