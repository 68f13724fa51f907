from __future__ import annotations

import dataclasses
import logging

import pytest

from navarch import records
from navarch.feedback import reporter

FAULT = records.Diagnostic(
    "bad",
    "is bad",
    key=records.SourceKey("Service", "x", "a"),
    origin=records.Origin("f", "a.yaml", 3),
)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return told


def test_each_diagnostic_is_told_once_and_once_more_when_it_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now: list[records.Diagnostic] = [FAULT]
    made = reporter.Reporter([lambda: now])
    made.poll()
    made.poll()
    assert messages(caplog) == ["a.yaml:3: Service x/a: is bad [bad]"]
    now[0] = dataclasses.replace(FAULT, origin=records.Origin("f", "a.yaml", 9))
    made.poll()
    assert messages(caplog) == [], "a line that moved is no news"
    now.clear()
    made.poll()
    assert messages(caplog) == ["resolved: a.yaml:3: Service x/a: is bad [bad]"]
    assert made.current() == ()


def test_a_fault_that_took_another_form_is_not_called_resolved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = [FAULT]
    made = reporter.Reporter([lambda: now])
    made.poll()
    messages(caplog)
    now[0] = dataclasses.replace(FAULT, message="is worse")
    made.poll()
    assert messages(caplog) == ["a.yaml:3: Service x/a: is worse [bad]"]


def test_a_flood_is_counted_and_long_messages_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    flood = [dataclasses.replace(FAULT, message=f"{i} {'x' * 2000}") for i in range(1200)]
    made = reporter.Reporter([lambda: flood])
    made.poll()
    told = messages(caplog)
    assert len(told) == reporter.MAX_TOLD + 1
    assert "200 more" in told[-1]
    assert max(map(len, told)) < 600
    assert len(made.current()) == 1200


def test_severity_is_the_level_and_locate_sets_the_line(caplog: pytest.LogCaptureFixture) -> None:
    warning = dataclasses.replace(FAULT, severity=records.Severity.WARNING)
    there = records.Origin("f", "a.yaml", 7)
    made = reporter.Reporter([lambda: [warning]], lambda d: dataclasses.replace(d, origin=there))
    made.poll()
    assert [(r.levelname, r.getMessage()[:8]) for r in caplog.records] == [("WARNING", "a.yaml:7")]
    assert made.current()[0].origin == there
