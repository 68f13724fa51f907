"""The page of figures says what the files of figures say, and equal figures give equal bytes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benches import report, run, suites

_MACHINE = {"cpu": "x", "n_cpus": 2, "system": "s", "python": "3", "load": 0.1, "at": "2026-01-02T"}
_PAGE = f"before\n{report._BEGIN}old\n{report._END}after\n"


def _figures(factor: float) -> run.Figures:
    change = {"n_told": 5, "last_ms": 20 * factor, "worst_ms": 30 * factor, "cpu_seconds": factor}
    connect = {"seconds": factor, "cpu_seconds": factor, "before_mb": 1.0, "n_refused": 0}
    connect |= {"peak_mb": 1_500.0 * factor, "resident_mb": 100 * factor}
    return {"start": {"seconds": factor}, "connect": connect, "endpoint": change}


def _keep(folder: Path, suite: suites.Suite, servers: dict[str, list[float]]) -> None:
    runs = [
        {"server": server, "figures": _figures(factor)}
        for server, factors in servers.items()
        for factor in factors
    ]
    cases: list[dict[str, Any]] = [
        {
            "name": case.name,
            "size": {"n_services": case.mesh.n_services, "n_sidecars": case.n_sidecars},
            "runs": runs,
        }
        for case in suite.cases
    ]
    kept = {"suite": suite.name, "title": suite.title, "machine": _MACHINE, "cases": cases}
    (folder / f"{suite.name}.json").write_text(json.dumps(kept))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for suite in suites.SUITES.values():
        turns = {"navarch": [1.0, 2.0, 9.0]}
        _keep(folder, suite, turns | ({"istiod": [20.0]} if suite.is_compared else {}))
    written = tmp_path / "benchmarks.md"
    written.write_text(_PAGE)
    report.write(folder, written)
    return written


def test_tables_show_medians_bars_and_ratios(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    for suite in suites.SUITES.values():
        assert f"### {suite.title}\n" in text
    rows = text.splitlines()
    one = [row for row in rows if row.startswith("| one endpoint changes")]
    # Of three turns the middle one, beside its bar.
    assert "| 40 ms; 60 ms; 2 s | 25 ms; -; 0.03 s |" in one[0]
    assert "| 40 ms; 60 ms; 2 s | 400 ms; 600 ms; 20 s | 10; 10; 10 |" in one[-1]
    assert any("| 3 GB; 200 MB | 30 GB; 2 GB | 10; 10 |" in row for row in rows)
    # What nobody measured has no row, nor what is nothing everywhere.
    assert not any(
        row.startswith(("| churn", "| refused and come again | 0 | bar")) for row in rows
    )


def test_equal_figures_give_equal_bytes(page: Path) -> None:
    folder = page.parent / "benchmarks"
    before = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    drawn = {name for name, each in suites.SUITES.items() if each.is_compared}
    assert set(before) == {f"{name}.svg" for name in drawn | {"growth-services", "growth-sidecars"}}
    assert all(ET.fromstring(drawing).tag.endswith("svg") for drawing in before.values())
    text = page.read_text()
    report.write(folder, page)
    assert page.read_text() == text
    assert {path.name: path.read_bytes() for path in folder.glob("*.svg")} == before


def test_a_page_without_its_place_is_refused(page: Path) -> None:
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="make bench-report"):
        report.write(page.parent / "benchmarks", page)
    assert page.read_text() == "nothing"
    assert report._BEGIN in (run.ROOT / "docs" / "benchmarks.md").read_text()
