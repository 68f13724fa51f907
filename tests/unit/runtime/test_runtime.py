from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navarch import errors
from navarch.runtime import backoff, mailbox, supervisor
from tests import fakes


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_stays_between_half_the_schedule_and_the_ceiling(n: int, unit: float) -> None:
    schedule = backoff.Backoff(initial_seconds=0.2, ceiling_seconds=30)
    full = min(30.0, 0.2 * 2.0 ** min(n - 1, 60))
    assert full / 2 <= schedule.delay_seconds(n, unit) <= full


def test_the_latest_value_of_a_key_is_taken_in_its_first_place() -> None:
    box: mailbox.Mailbox[str, int] = mailbox.Mailbox(10)
    box.put([("a", 1), ("b", 2)])
    box.put([("c", 3), ("a", 4)])
    assert box.take(0) == [("a", 4), ("b", 2), ("c", 3)]
    assert box.take(0) == []


def test_dropped_keys_are_gone_before_the_new_ones_come() -> None:
    box: mailbox.Mailbox[str, int] = mailbox.Mailbox(10)
    box.put([("a1", 1), ("b", 2), ("a2", 3)])
    box.put([("a2", 4)], drop=lambda key: key.startswith("a"))
    assert box.take(0) == [("b", 2), ("a2", 4)]


def test_a_full_mailbox_holds_its_writer_until_there_is_room() -> None:
    box: mailbox.Mailbox[int, int] = mailbox.Mailbox(2)
    box.put([(1, 1), (2, 2)])
    is_through = threading.Event()

    def write() -> None:
        box.put([(3, 3)])
        is_through.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert box.put([(1, 10)]), "a key that waits already takes no room"
    assert not is_through.wait(0.05)
    assert box.take(0) == [(1, 10), (2, 2)]
    assert is_through.wait(5)
    writer.join()
    assert box.take(0) == [(3, 3)]


def test_a_closed_mailbox_takes_nothing_and_lets_nobody_wait() -> None:
    box: mailbox.Mailbox[int, int] = mailbox.Mailbox(1)
    box.put([(1, 1)])
    threading.Timer(0.05, box.close).start()
    assert not box.put([(2, 2)])
    assert box.take(None) == [(1, 1)]
    assert box.take(None) == []


def test_a_worker_that_fails_is_run_again_after_growing_delays() -> None:
    clock = fakes.FakeClock()
    schedule = backoff.Backoff(initial_seconds=1, ceiling_seconds=8)
    workers = supervisor.Supervisor(clock, schedule)
    n_runs = 0
    is_done = threading.Event()

    def work(_: threading.Event) -> None:
        nonlocal n_runs
        n_runs += 1
        if n_runs < 5:
            raise errors.SourceError("not yet", is_retryable=True)
        is_done.set()

    workers.start("worker", work)
    assert is_done.wait(5)
    assert workers.stop(5) == ()
    assert len(clock.waits) == 4
    assert all(
        full / 2 <= wait <= full for wait, full in zip(clock.waits, (1, 2, 4, 8), strict=True)
    )
    assert workers.statuses()[0].n_failures == 4


def test_a_worker_with_a_bug_ends_neither_itself_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers = supervisor.Supervisor(fakes.FakeClock())
    runs: list[int] = []
    is_done = threading.Event()

    def work(_: threading.Event) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ZeroDivisionError
        is_done.set()

    workers.start("buggy", work)
    assert is_done.wait(5)
    workers.stop(5)
    assert "ZeroDivisionError" in caplog.text


def test_a_failure_for_good_is_not_tried_again() -> None:
    workers = supervisor.Supervisor(fakes.FakeClock())
    runs: list[int] = []

    def work(_: threading.Event) -> None:
        runs.append(1)
        raise errors.SourceError("no such thing", is_retryable=False)

    workers.start("worker", work)
    assert workers.stop(5) == ()
    assert runs == [1]
    assert workers.statuses()[0].state is supervisor.State.FAILED
    assert workers.statuses()[0].last_error == "no such thing"


def test_stop_names_the_workers_that_are_late() -> None:
    workers = supervisor.Supervisor()
    release = threading.Event()

    def obey(stop: threading.Event) -> None:
        stop.wait()

    def ignore(_: threading.Event) -> None:
        release.wait()

    workers.start("obedient", obey)
    workers.start("deaf", ignore)
    assert workers.stop(0.1) == ("deaf",)
    release.set()
