"""What is written into a status, given what stands there (pure)."""

from __future__ import annotations

from typing import Any

from navarch import records
from navarch.feedback import conditions
from navarch.sources.kubernetes import status

KEY = records.SourceKey("VirtualService", "n", "v")
OURS = "istio.io/gateway-controller"


def condition(name: str, value: str = "True", **extra: Any) -> dict[str, Any]:
    return {"type": name, "status": value, "reason": "R", "message": "", **extra}


def test_a_status_that_stands_already_is_not_written_again() -> None:
    wanted = conditions.build_status([], 3)
    found = {"metadata": {"generation": 3}, "spec": {}}
    first = status.merge_status(found, wanted, "2026-01-01T00:00:00Z")
    assert first is not None
    assert status.merge_status(first, wanted, "2026-02-02T00:00:00Z") is None


def test_a_condition_keeps_its_time_until_it_turns() -> None:
    found = {"metadata": {"generation": 1}}
    good, bad = {"conditions": [condition("Accepted")]}, [condition("Accepted", "False")]
    first = status.merge_status(found, good, "t1")
    assert first is not None
    changed = {"conditions": [condition("Accepted", message="other")]}
    second = status.merge_status(first, changed, "t2")
    assert second is not None
    assert second["status"]["conditions"][0]["lastTransitionTime"] == "t1"
    third = status.merge_status(second, {"conditions": bad}, "t3")
    assert third is not None
    assert third["status"]["conditions"][0]["lastTransitionTime"] == "t3"


def test_what_others_wrote_stays() -> None:
    foreign = {"parentRef": {"name": "a"}, "controllerName": "example.org/x", "conditions": []}
    old = {"parentRef": {"name": "gone"}, "controllerName": OURS, "conditions": []}
    found = {
        "metadata": {"generation": 2},
        "status": {"parents": [foreign, old], "note": 1, "conditions": [condition("Theirs")]},
    }
    entry = {"parentRef": {"name": "b"}, "controllerName": OURS}
    wanted = {"parents": [{**entry, "conditions": [condition("Accepted")]}]}
    made = status.merge_status(found, wanted, "t")
    assert made is not None
    assert made["status"]["note"] == 1
    assert made["status"]["conditions"] == [condition("Theirs")]
    assert [each["parentRef"]["name"] for each in made["status"]["parents"]] == ["a", "b"]
    assert made["status"]["parents"][1]["conditions"][0]["observedGeneration"] == 2
    without = status.merge_status(made, {"parents": []}, "t")
    assert without is not None
    assert without["status"]["parents"] == [foreign], "our entries of parents that are gone go"


def test_each_sort_of_fault_turns_its_condition() -> None:
    def told(code: str, severity: records.Severity = records.Severity.ERROR) -> dict[str, str]:
        fault = records.Diagnostic(code, "is wrong", severity, KEY, "spec.x")
        made = conditions.build_statuses([fault], {KEY: 1})[KEY]
        assert made["validationMessages"][0]["type"]["name"] == code
        return {each["type"]: each["status"] for each in made["conditions"]}

    good = {
        "Accepted": "True",
        "Programmed": "True",
        "ResolvedRefs": "True",
        "Conflicted": "False",
    }
    assert told("invalid-host") == good | {"Accepted": "False"}
    assert told("unknown-gateway") == good | {"ResolvedRefs": "False"}
    assert told("gateway-conflict") == good | {"Conflicted": "True"}
    assert told("translation-failed") == good | {"Programmed": "False"}
    assert told("unknown-field", records.Severity.WARNING) == good
