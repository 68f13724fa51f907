"""Who asks for what gets it: the scenarios of xds-test-harness for every type and both forms of the protocol.

https://github.com/ii/xds-test-harness/tree/main/features
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.xds import mesh as mesh_module
from tests.xds.mesh import Mesh, name
from tests.xds.stream import DELTA, SOTW, Stream, Subscriber

Connect = Callable[..., Stream]
pytestmark = pytest.mark.extension


def is_told_whole(form: str, xds: str) -> bool:
    """Whether a response has all that was asked for: what is not in it is gone."""
    return form == SOTW and xds in ("CDS", "LDS")


@pytest.fixture
def subscriber(connect: Connect, form: str, xds: str) -> Subscriber:
    """Open a stream that will subscribe to one type."""
    return Subscriber(connect(form), xds)


class TestWildcard:
    def test_it_gets_all_that_is_there(self, subscriber: Subscriber, xds: str) -> None:
        subscriber.want("*")
        subscriber.take()
        assert {name(xds, "a"), name(xds, "b")} <= subscriber.state.keys()

    @pytest.mark.parametrize("xds", ["CDS", "LDS"])
    def test_no_names_ask_for_all(self, subscriber: Subscriber, xds: str) -> None:
        subscriber.want_all()
        subscriber.take()
        assert {name(xds, "a"), name(xds, "b")} <= subscriber.state.keys()

    def test_updates_reach_it(self, mesh: Mesh, subscriber: Subscriber, xds: str) -> None:
        subscriber.want("*")
        subscriber.take()
        for turn in (1, 2):
            before = subscriber.state[name(xds, "a")]
            mesh.change(xds, "a", turn)
            subscriber.take()
            assert subscriber.state[name(xds, "a")] != before

    def test_it_hears_of_what_is_new(self, mesh: Mesh, subscriber: Subscriber, xds: str) -> None:
        subscriber.want("*")
        subscriber.take()
        mesh.add("c")
        subscriber.take_until(lambda s: name(xds, "c") in s.state)

    def test_it_hears_of_what_is_gone(
        self, mesh: Mesh, subscriber: Subscriber, form: str, xds: str
    ) -> None:
        subscriber.want("*")
        subscriber.take()
        mesh.remove("b")
        if form == DELTA or is_told_whole(form, xds):
            subscriber.take_until(lambda s: name(xds, "b") not in s.state)
        assert name(xds, "a") in subscriber.state

    def test_it_may_stand_beside_names(self, mesh: Mesh, subscriber: Subscriber, xds: str) -> None:
        """Without the wildcard the names stay."""
        subscriber.want("*", name(xds, "a"))
        subscriber.take()
        assert {name(xds, "a"), name(xds, "b")} <= subscriber.state.keys()
        subscriber.want(name(xds, "a"))
        subscriber.wait_read()
        mesh.change(xds, "b", 1)
        mesh.change(xds, "a", 1)
        before = subscriber.state[name(xds, "b")]
        subscriber.take_until(lambda s: s.last is not None and name(xds, "a") in s.last.resources)
        assert subscriber.state.get(name(xds, "b"), before) == before


class TestNames:
    def test_only_they_are_sent(self, subscriber: Subscriber, xds: str) -> None:
        subscriber.want(name(xds, "a"))
        subscriber.take()
        assert subscriber.state.keys() == {name(xds, "a")}

    def test_one_after_the_other(
        self, mesh: Mesh, subscriber: Subscriber, form: str, xds: str
    ) -> None:
        subscriber.want(name(xds, "a"))
        subscriber.take()
        subscriber.want(name(xds, "a"), name(xds, "b"))
        got = subscriber.take()
        assert subscriber.state.keys() == {name(xds, "a"), name(xds, "b")}
        if not is_told_whole(form, xds):
            assert got.resources.keys() == {name(xds, "b")}
        mesh.change(xds, "b", 1)
        got = subscriber.take()
        assert name(xds, "b") in got.resources
        if not is_told_whole(form, xds):
            assert got.resources.keys() == {name(xds, "b")}, "only what changed is sent"

    @pytest.mark.parametrize("letter", ["a", "b"])
    def test_changes_of_them_are_sent(
        self, mesh: Mesh, subscriber: Subscriber, xds: str, letter: str
    ) -> None:
        subscriber.want(name(xds, letter))
        subscriber.take()
        before = subscriber.state[name(xds, letter)]
        mesh.change(xds, letter, 1)
        subscriber.take()
        assert subscriber.state[name(xds, letter)] != before

    def test_changes_of_others_are_not(self, mesh: Mesh, subscriber: Subscriber, xds: str) -> None:
        subscriber.want(name(xds, "a"))
        subscriber.take()
        mesh.change(xds, "b", 1)
        mesh.add("c")
        subscriber.stream.expect_quiet()

    @pytest.mark.parametrize("letter", ["c", "d"])
    def test_what_is_not_there_is_told_once_it_is(
        self, mesh: Mesh, subscriber: Subscriber, form: str, xds: str, letter: str
    ) -> None:
        wanted = name(xds, letter)
        subscriber.want(name(xds, "a"), wanted)
        got = subscriber.take()
        assert name(xds, "a") in got.resources
        if form == DELTA:
            assert got.removed == {wanted}, "what is missing is said to be"
        elif xds == "EDS":
            assert not got.resources[wanted].endpoints, "Envoy waits for endpoints: there are none"
        else:
            assert wanted not in got.resources
        mesh.add(letter)
        subscriber.take_until(lambda s: s.last is not None and wanted in s.last.resources)

    def test_what_goes_is_told(
        self, mesh: Mesh, subscriber: Subscriber, form: str, xds: str
    ) -> None:
        subscriber.want(name(xds, "a"), name(xds, "b"))
        subscriber.take()
        mesh.remove("b")
        if form == DELTA:
            assert subscriber.take().removed == {name(xds, "b")}
        elif is_told_whole(form, xds):
            subscriber.take()
            assert subscriber.state.keys() == {name(xds, "a")}
        else:
            subscriber.stream.expect_quiet()
        mesh.add("b")
        subscriber.take_until(lambda s: s.last is not None and name(xds, "b") in s.last.resources)

    def test_some_can_be_unsubscribed(self, mesh: Mesh, subscriber: Subscriber, xds: str) -> None:
        subscriber.want(name(xds, "a"), name(xds, "b"))
        subscriber.take()
        subscriber.want(name(xds, "a"))
        subscriber.wait_read()
        mesh.change(xds, "b", 1)
        mesh.change(xds, "a", 1)
        got = subscriber.take()
        assert got.resources.keys() == {name(xds, "a")}

    def test_all_can_be_unsubscribed(self, mesh: Mesh, subscriber: Subscriber, xds: str) -> None:
        subscriber.want(name(xds, "a"), name(xds, "b"))
        subscriber.take()
        subscriber.want()
        subscriber.wait_read()
        mesh.change(xds, "a", 1)
        mesh.remove("b")
        subscriber.stream.expect_quiet()

    def test_asking_again_is_answered_again(self, subscriber: Subscriber, xds: str) -> None:
        """A client that unsubscribed has forgotten the resource."""
        subscriber.want(name(xds, "a"), name(xds, "b"))
        subscriber.take()
        subscriber.want(name(xds, "a"))
        subscriber.want(name(xds, "a"), name(xds, "b"))
        subscriber.take_until(lambda s: s.last is not None and name(xds, "b") in s.last.resources)


def test_one_stream_serves_several_types(connect: Connect, mesh: Mesh, form: str) -> None:
    stream = connect(form)
    subscribers = {xds: Subscriber(stream, xds) for xds in ("CDS", "EDS", "LDS", "RDS")}
    for xds, subscriber in subscribers.items():
        subscriber.want(name(xds, "a"))
        subscriber.take()
        assert subscriber.state.keys() == {name(xds, "a")}
    for xds, subscriber in subscribers.items():
        mesh.change(xds, "a", 1)
        subscriber.take()
        if xds == "CDS":
            subscribers["EDS"].take()
    stream.expect_quiet()


def test_streams_have_nonces_and_state_of_their_own(
    connect: Connect, mesh: Mesh, form: str
) -> None:
    first, second = (Subscriber(connect(form), "CDS") for _ in range(2))
    first.want(name("CDS", "a"))
    first.take()
    second.want(name("CDS", "b"))
    second.take()
    mesh.change("CDS", "b", 1)
    second.take()
    first.stream.expect_quiet()
    assert first.state.keys() == {name("CDS", "a")}
    assert mesh_module.host("b") in second.state[name("CDS", "b")].name
