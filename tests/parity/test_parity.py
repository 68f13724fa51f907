"""What navarch sends in every case is compared with what Istio sent, by the program that judges us."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from navarch import offline

HERE = Path(__file__).parent
CASES = HERE / "cases"
MORE = HERE / "more"
"""Cases of our own, answered by `oracle`."""
PROGRAM = HERE / "parity.py"
"""The program of ../shared/parity, as it is there: compared by it, a figure means the same everywhere."""
EQUAL = {CASES: HERE / "equal.txt", MORE: HERE / "equal-more.txt"}
REMEDY = "`make golden` (UPDATE_PARITY=1) writes the list anew"
SPINE = ("http-", "vs-", "dr-", "k8s-")
MIN_SPINE_MEAN = 0.80

pytestmark = [pytest.mark.extension, pytest.mark.timeout(300)]


@dataclasses.dataclass(frozen=True)
class Compared:
    """How the cases of a directory stand.

    Attributes:
        cases: The directory.
        faults: What could not be translated.
        scores: Of each case, the share of its resources that are equal.
    """

    cases: Path
    faults: list[str]
    scores: dict[str, float]
    figures: str

    def equal(self) -> list[str]:
        return sorted(case for case, score in self.scores.items() if score == 1.0)


@pytest.fixture(scope="module", params=[CASES, MORE], ids=lambda path: path.name)
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    cases: Path = request.param
    out = tmp_path_factory.mktemp("parity")
    run = offline.CaseRun(out)
    run.translate_all(cases)
    scores = out / "scores.json"
    command = [sys.executable, PROGRAM, cases, "--out", out, "--json", scores, "--show", "0"]
    told = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    return Compared(cases, run.faults, json.loads(scores.read_text())["cases"], told.stdout)


def test_no_case_fails(compared: Compared) -> None:
    assert compared.faults == []
    assert ", 0 errors;" in compared.figures, compared.figures


def test_cases_that_are_equal_stay_equal(compared: Compared) -> None:
    """A case that falls back, and one that is newly equal, is told by its name."""
    equal, file = compared.equal(), EQUAL[compared.cases]
    if os.environ.get("UPDATE_PARITY"):
        file.write_text("".join(f"{case}\n" for case in equal))
    listed = file.read_text().split()
    fallen = {case: compared.scores.get(case) for case in listed if case not in equal}
    assert fallen == {}, "these were equal in full to Istio's answer"
    assert sorted(set(equal) - set(listed)) == [], f"newly equal: {REMEDY}"
    assert listed == sorted(set(listed)), REMEDY


def test_the_spine_is_close_to_istio(compared: Compared) -> None:
    spine = [score for case, score in compared.scores.items() if case.startswith(SPINE)]
    assert len(spine) == sum(path.name.startswith(SPINE) for path in compared.cases.iterdir())
    assert statistics.mean(spine) >= MIN_SPINE_MEAN, compared.figures
