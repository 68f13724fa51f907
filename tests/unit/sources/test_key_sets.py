"""Key sets: fetched when wanted, kept when their address fails, each issuer for itself."""

from __future__ import annotations

import concurrent.futures
import http.server
import ipaddress
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from navarch import errors, records
from navarch.crds import key_set
from navarch.sources.key_sets import fetch, source
from tests import fakes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = '{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}'
ADDRESS = "http://keys.example/jwks"


class AtOnce(concurrent.futures.Executor):
    """Runs what is submitted before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        made: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            made.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as an executor does
            made.set_exception(error)
        return made


class Web:
    """What addresses give; an exception is raised."""

    def __init__(self) -> None:
        self.pages: dict[str, str | Exception] = {}
        self.asked: list[tuple[str, float]] = []

    def fetch(self, address: str, timeout_seconds: float) -> str:
        self.asked.append((address, timeout_seconds))
        page = self.pages[address]
        if isinstance(page, Exception):
            raise page
        return page


class Rig:
    def __init__(self) -> None:
        self.web = Web()
        self.clock = fakes.FakeClock()
        self.wanted: dict[str, float] = {}
        self.sink = fakes.Recorder()
        self.source = source.KeySetSource(
            lambda: self.wanted,
            time=self.clock,
            fetch_key_set=self.web.fetch,
            random_unit=lambda: 0.5,
        )

    def step(self, n_steps: int = 2) -> None:
        for _ in range(n_steps):
            self.source.step(self.sink, AtOnce())

    def texts(self) -> dict[str, str]:
        return {key.name: made.body["jwks"] for key, made in self.sink.objects.items()}


def failure() -> Exception:
    return errors.SourceError("down", is_retryable=True)


def test_a_wanted_set_is_fetched_once_until_it_is_due() -> None:
    rig = Rig()
    rig.web.pages[ADDRESS] = KEYS
    rig.wanted = {ADDRESS: 0.0}
    rig.step(5)
    assert rig.texts() == {ADDRESS: KEYS}
    assert rig.web.asked == [(ADDRESS, source.DEFAULT_TIMEOUT_SECONDS)]
    rig.clock.seconds += source.REFRESH_SECONDS * 1.2
    rig.web.pages[ADDRESS] = KEYS.replace("a", "b")
    rig.step()
    assert rig.texts() == {ADDRESS: KEYS.replace("a", "b")}


def test_the_last_good_set_stays_while_its_address_fails() -> None:
    rig = Rig()
    rig.web.pages[ADDRESS] = KEYS
    rig.wanted = {ADDRESS: 2.0}
    rig.step()
    rig.web.pages[ADDRESS] = failure()
    rig.clock.seconds += source.REFRESH_SECONDS * 1.2
    rig.step()
    assert rig.texts() == {ADDRESS: KEYS}
    (told,) = rig.sink.reports[ADDRESS]
    assert (told.code, told.severity) == ("key-set-unavailable", records.Severity.WARNING)
    rig.web.pages[ADDRESS] = KEYS
    rig.clock.seconds += 61
    rig.step()
    assert rig.sink.reports[ADDRESS] == ()


def test_a_bad_issuer_harms_no_other() -> None:
    rig = Rig()
    rig.web.pages = {"http://bad/": failure(), ADDRESS: KEYS}
    rig.wanted = {"http://bad/": 0.0, ADDRESS: 0.0}
    rig.step()
    assert rig.texts() == {ADDRESS: KEYS}
    assert [told.severity for told in rig.sink.reports["http://bad/"]] == [records.Severity.ERROR]


def test_tries_become_rarer() -> None:
    rig = Rig()
    rig.web.pages[ADDRESS] = failure()
    rig.wanted = {ADDRESS: 0.0}
    for _ in range(600):
        rig.step(1)
        rig.clock.seconds += 1
    # Doubling from a second to a minute: 7 tries in the first minute, then one a minute.
    assert 10 <= len(rig.web.asked) <= 25


def test_what_nobody_wants_any_more_is_gone() -> None:
    rig = Rig()
    rig.web.pages[ADDRESS] = KEYS
    rig.wanted = {ADDRESS: 0.0}
    rig.step()
    rig.wanted = {}
    rig.step()
    assert rig.texts() == {}


def test_a_run_holds_nobody_up_and_tells_again_what_it_knows() -> None:
    rig = Rig()
    rig.web.pages[ADDRESS] = KEYS
    rig.wanted = {ADDRESS: 0.0}
    rig.step()
    stop = threading.Event()
    stop.set()
    rig.source.run(rig.sink, stop)
    types = [event.type for event in rig.sink.events[-3:]]
    kinds = records.EventType
    assert types == [kinds.INIT, kinds.APPLY, kinds.INIT_DONE]


class _Issuer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host = f"http://{self.headers['Host']}"
        pages = {
            "/.well-known/openid-configuration": json.dumps({"jwks_uri": f"{host}/keys"}),
            "/keys": KEYS,
            "/huge": "x" * (fetch.MAX_BYTES + 1),
        }
        other = f"http://127.0.0.2:{host.rpartition(':')[2]}/keys"
        pages["/elsewhere/.well-known/openid-configuration"] = json.dumps({"jwks_uri": other})
        page = pages.get(self.path)
        moved = {"/file": "file:///etc/passwd", "/moved": other}
        if self.path in moved:
            self.send_response(302)
            self.send_header("Location", moved[self.path])
        else:
            self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def issuer() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Issuer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_set_is_fetched_from_its_address_or_found_by_discovery(issuer: str) -> None:
    assert fetch.Fetcher().fetch_key_set(f"{issuer}/keys", 5) == KEYS
    assert fetch.Fetcher().fetch_key_set(f"{issuer}/.well-known/openid-configuration", 5) == KEYS


@pytest.mark.parametrize(
    ("path", "told"),
    [("/huge", "more than"), ("/nothing", "404"), ("/file", "can't be fetched")],
)
def test_what_is_too_much_or_not_there_is_an_error(issuer: str, path: str, told: str) -> None:
    with pytest.raises(errors.SourceError, match=told):
        fetch.Fetcher().fetch_key_set(f"{issuer}{path}", 5)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://a/b", "http://127.0.0.1:1/"])
def test_only_the_web_is_asked(address: str) -> None:
    with pytest.raises(errors.SourceError):
        fetch.Fetcher().fetch_key_set(address, 1)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"]
)
def test_blocked_networks_are_not_connected_to(issuer: str, host: str) -> None:
    """However an address is written, and by whatever name, what is connected to is what counts."""
    port = issuer.rpartition(":")[2]
    blocked = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
    with pytest.raises(errors.SourceError, match="--blocked-key-address"):
        fetch.Fetcher(blocked).fetch_key_set(f"http://{host}:{port}/keys", 5)


def test_redirects_and_discovery_do_not_lead_to_blocked_networks(issuer: str) -> None:
    blocked = (ipaddress.ip_network("127.0.0.2/32"),)
    for path in ("/moved", "/elsewhere/.well-known/openid-configuration"):
        with pytest.raises(errors.SourceError, match=r"127\.0\.0\.2 is in"):
            fetch.Fetcher(blocked).fetch_key_set(f"{issuer}{path}", 5)
    assert fetch.Fetcher(blocked).fetch_key_set(f"{issuer}/keys", 5) == KEYS


def _read(text: object) -> bytes:
    key = records.SourceKey(key_set.KIND, "", ADDRESS)
    return key_set.read_key_set({"jwks": text}, key, records.Origin("test"))


def test_keys_are_in_one_order_and_unusable_ones_are_left_out() -> None:
    a, b = '{"kty":"oct","kid":"a","k":"c2U"}', '{"k":"c2U","kid":"b","kty":"oct"}'
    encryption = '{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}'
    first = _read(f'{{"keys":[{a},{b},{encryption},{{"kty":"XYZ"}}]}}')
    assert first == _read(f'{{"keys":[{b},{a}]}}')
    assert len(json.loads(json.loads(first)["jwks"])["keys"]) == 2


@pytest.mark.parametrize(
    "text",
    [None, "", "<html>", "[]", "{}", '{"keys":[]}', '{"keys":[{"kty":"RSA","n":"?","e":"AQAB"}]}'],
)
def test_what_is_no_set_is_refused(text: object) -> None:
    with pytest.raises(errors.CrdError) as caught:
        _read(text)
    assert caught.value.diagnostics[0].code == "invalid-key-set"
