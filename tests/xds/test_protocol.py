"""The protocol's rules: nonces, ACK and NACK, reconnects, what is warmed, and in which order things come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.xds.mesh import Mesh, name
from tests.xds.stream import DELTA, SOTW, Stream, Subscriber

Connect = Callable[..., Stream]
pytestmark = pytest.mark.extension

ORDER: Final = ("CDS", "EDS", "LDS", "RDS")


def subscribe(stream: Stream, xds: str, *names: str) -> Subscriber:
    subscriber = Subscriber(stream, xds)
    subscriber.want(*names)
    subscriber.take()
    return subscriber


def test_the_first_request_is_answered_even_with_nothing(
    connect: Connect, form: str, xds: str
) -> None:
    subscriber = Subscriber(connect(form), xds)
    subscriber.want("outbound|1||nowhere")
    got = subscriber.take()
    assert [n for n, m in got.resources.items() if n != m.cluster_name or m.endpoints] == []
    assert got.nonce


def test_an_ack_is_not_answered(connect: Connect, form: str, xds: str) -> None:
    stream = connect(form)
    subscribe(stream, xds, name(xds, "a"))
    stream.expect_quiet()


def test_nonces_differ(connect: Connect, mesh: Mesh, form: str) -> None:
    stream = connect(form)
    clusters = subscribe(stream, "CDS", "*")
    nonces = []
    for turn in range(3):
        mesh.change("CDS", "a", turn + 1)
        nonces.append(clusters.take().nonce)
    assert len(set(nonces)) == 3


class TestRejection:
    def test_what_was_rejected_is_not_sent_again(
        self, connect: Connect, mesh: Mesh, form: str, xds: str
    ) -> None:
        stream = connect(form)
        stream.send(xds, [name(xds, "a")])
        got = stream.expect(xds)
        stream.ack(got, [name(xds, "a")], error="no good")
        stream.expect_quiet()
        assert mesh.metric(f"pilot_xds_{xds.lower()}_reject") == 1

    def test_the_next_version_is_sent(
        self, connect: Connect, mesh: Mesh, form: str, xds: str
    ) -> None:
        stream = connect(form)
        stream.send(xds, [name(xds, "a")])
        rejected = stream.expect(xds)
        stream.ack(rejected, [name(xds, "a")], error="no good")
        mesh.change(xds, "a", 1)
        better = stream.expect(xds)
        assert better.resources[name(xds, "a")] != rejected.resources[name(xds, "a")]
        assert better.nonce != rejected.nonce
        stream.ack(better, [name(xds, "a")])
        stream.expect_quiet()

    def test_other_types_go_on(self, connect: Connect, mesh: Mesh, form: str) -> None:
        stream = connect(form)
        subscribe(stream, "LDS", name("LDS", "a"))
        routes = subscribe(stream, "RDS", name("RDS", "a"))
        mesh.change("LDS", "a", 1)
        stream.ack(stream.expect("LDS"), [name("LDS", "a")], error="no good")
        mesh.change("RDS", "a", 1)
        routes.take_until(lambda s: s.last is not None and s.last.xds == "RDS")

    def test_it_is_told_with_its_words(self, connect: Connect, mesh: Mesh, form: str) -> None:
        stream = connect(form)
        stream.send("CDS", [name("CDS", "a")])
        stream.ack(stream.expect("CDS"), [name("CDS", "a")], error="no such filter")
        stream.expect_quiet()
        assert "no such filter" in mesh.core.sync_status().decode()


class TestNonces:
    def test_one_response_is_open_at_a_time(
        self, connect: Connect, mesh: Mesh, form: str, xds: str
    ) -> None:
        """Changes during that time come as one, when it is answered."""
        stream = connect(form)
        stream.send(xds, [name(xds, "a")])
        first = stream.expect(xds)
        for turn in (1, 2, 3):
            mesh.change(xds, "a", turn)
        stream.expect_quiet()
        stream.ack(first, [name(xds, "a")])
        second = stream.expect(xds)
        assert second.resources[name(xds, "a")] != first.resources[name(xds, "a")]
        stream.ack(second, [name(xds, "a")])
        stream.expect_quiet()

    def test_a_stale_one_is_ignored(
        self, connect: Connect, mesh: Mesh, form: str, xds: str
    ) -> None:
        stream = connect(form)
        names = [name(xds, "a")]
        subscriber = subscribe(stream, xds, *names)
        old = subscriber.last
        assert old is not None
        mesh.change(xds, "a", 1)
        newest = stream.expect(xds)
        stream.ack(old, names)
        mesh.change(xds, "a", 2)
        stream.expect_quiet()
        stream.ack(newest, names)
        assert name(xds, "a") in stream.expect(xds).resources

    def test_a_stale_rejection_is_none(self, connect: Connect, mesh: Mesh, form: str) -> None:
        stream = connect(form)
        old = subscribe(stream, "CDS", "*").last
        assert old is not None
        mesh.change("CDS", "a", 1)
        newest = stream.expect("CDS")
        stream.ack(old, ["*"], error="too late")
        stream.ack(newest, ["*"])
        stream.expect_quiet()
        assert mesh.metric("pilot_total_xds_rejects") == 0
        assert mesh.metric('pilot_xds_expired_nonce{type="cds"}') == 1

    def test_names_beside_a_stale_one_count_in_delta(self, connect: Connect) -> None:
        """A delta is told only once."""
        stream = connect(DELTA)
        subscribe(stream, "EDS", name("EDS", "a"))
        stream.send("EDS", [name("EDS", "b")], nonce="of another time")
        assert stream.expect("EDS").resources.keys() == {name("EDS", "b")}

    def test_one_of_a_former_stream_is_answered(self, connect: Connect, xds: str) -> None:
        stream = connect(SOTW)
        stream.send(xds, [name(xds, "a")], nonce="of a former stream", version="also")
        assert name(xds, "a") in stream.expect(xds).resources


class TestReconnect:
    def test_with_versions_only_differences_are_sent(
        self, connect: Connect, mesh: Mesh, xds: str
    ) -> None:
        before = subscribe(connect(DELTA), xds, "*")
        mesh.change(xds, "a", 1)
        mesh.remove("b")
        mesh.add("c")
        stream = connect(DELTA)
        stream.send(xds, ["*"], initial=before.versions)
        got = stream.expect(xds)
        assert {name(xds, "a"), name(xds, "c")} <= got.resources.keys()
        unchanged = before.versions.keys() - {name(xds, "a"), name(xds, "b")}
        # Both of a service's ports are of the same cluster settings and endpoints, and listeners of HTTP are shared.
        same = {n for n in unchanged if got.versions.get(n) == before.versions[n]}
        assert same == set()
        stream.ack(got)
        removed = got.removed or stream.expect(xds).removed
        assert name(xds, "b") in removed

    def test_with_all_versions_nothing_is_sent(self, connect: Connect, xds: str) -> None:
        before = subscribe(connect(DELTA), xds, "*")
        stream = connect(DELTA)
        stream.send(xds, ["*"], initial=before.versions)
        got = stream.expect(xds)
        assert (dict(got.resources), got.removed) == ({}, frozenset())

    def test_versions_are_the_same_on_every_stream(
        self, connect: Connect, form: str, xds: str
    ) -> None:
        first, second = (subscribe(connect(form), xds, "*").last for _ in range(2))
        assert first is not None
        assert second is not None
        assert (first.version, first.versions) == (second.version, second.versions)


class TestWarming:
    def test_endpoints_are_answered_again_after_clusters(
        self, connect: Connect, mesh: Mesh, form: str
    ) -> None:
        """Envoy warms a changed cluster until its endpoints come, changed or not."""
        stream = connect(form)
        clusters = subscribe(stream, "CDS", "*")
        endpoints = subscribe(stream, "EDS", name("EDS", "a"), name("EDS", "b"))
        mesh.change("CDS", "a", 1)
        clusters.take()
        got = endpoints.take()
        assert got.resources.keys() == {name("EDS", "a")}
        stream.expect_quiet()

    def test_clusters_alone_hold_nothing_up(self, connect: Connect, mesh: Mesh, form: str) -> None:
        """A client that accepts clusters and asks for no endpoints gets its listeners and routes."""
        stream = connect(form)
        clusters = subscribe(stream, "CDS", "*")
        listeners = subscribe(stream, "LDS", "*")
        mesh.change("CDS", "a", 1)
        clusters.take()
        mesh.change("LDS", "a", 1)
        listeners.take()
        stream.expect_quiet()


class TestOrder:
    @pytest.fixture
    def proxy(self, connect: Connect, form: str) -> dict[str, Subscriber]:
        """Bring up a stream as Envoy does."""
        stream = connect(form)
        names = {"CDS": ("*",), "LDS": ("*",)}
        made = {}
        for xds in ORDER:
            made[xds] = subscribe(stream, xds, *names.get(xds, (name(xds, "a"), name(xds, "b"))))
        return made

    def test_what_is_new_comes_clusters_first(
        self, mesh: Mesh, proxy: dict[str, Subscriber]
    ) -> None:
        """What asks for the endpoints of a new cluster gets them before the listeners that name it."""
        mesh.add("c")
        got = proxy["CDS"].stream.expect("CDS")
        assert name("CDS", "c") in got.resources
        proxy["EDS"].want(*proxy["EDS"].names, name("EDS", "c"))
        proxy["CDS"].stream.ack(got, ["*"])
        proxy["EDS"].take_until(lambda s: name("EDS", "c") in s.state)
        proxy["LDS"].take()
        assert name("LDS", "c") in proxy["LDS"].state

    def test_listeners_wait_for_clusters_to_be_accepted(
        self, mesh: Mesh, proxy: dict[str, Subscriber]
    ) -> None:
        stream = proxy["CDS"].stream
        mesh.add("c")
        got = stream.expect("CDS")
        stream.expect_quiet()
        stream.ack(got, ["*"])
        assert stream.receive().xds in ("EDS", "LDS")

    def test_removals_come_last(self, mesh: Mesh, proxy: dict[str, Subscriber], form: str) -> None:
        """A cluster goes when no listener or route of the client names it any more."""
        stream = proxy["CDS"].stream
        mesh.remove("b")
        came = []
        while name("CDS", "b") in proxy["CDS"].state:
            got = stream.receive()
            proxy[got.xds].apply(got)
            if name("CDS", "b") in proxy["CDS"].state:
                came.append(got.xds)
            else:
                assert name("LDS", "b") not in proxy["LDS"].state
                if form == DELTA:
                    assert name("RDS", "b") not in proxy["RDS"].state
            stream.ack(got, proxy[got.xds].names)
        assert "LDS" in came

    def test_endpoints_alone_bring_endpoints_alone(
        self, mesh: Mesh, proxy: dict[str, Subscriber]
    ) -> None:
        mesh.change("EDS", "a", 1)
        assert proxy["EDS"].take().resources.keys() == {name("EDS", "a")}
        proxy["EDS"].stream.expect_quiet()

    def test_a_change_that_changes_nothing_sends_nothing(
        self, mesh: Mesh, proxy: dict[str, Subscriber]
    ) -> None:
        mesh.add("a", "b")
        proxy["CDS"].stream.expect_quiet()


def test_types_that_are_not_served_are_ignored(connect: Connect, form: str) -> None:
    stream = connect(form)
    stream.send("CDS", [name("CDS", "a")])
    stream.ack(stream.expect("CDS"), [name("CDS", "a")])
    stream.send("type.googleapis.com/envoy.service.runtime.v3.Runtime")
    stream.expect_quiet()
    stream.send("EDS", [name("EDS", "a")])
    assert name("EDS", "a") in stream.expect("EDS").resources
