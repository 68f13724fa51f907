"""Writes what was measured into docs/benchmarks.md, and draws its plots: `make bench-report`.

Figures are read from `docs/benchmarks/SUITE.json`; a suite that has none has no section. Equal figures, equal bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benches import figures, plots, run, suites

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCS: Final = run.ROOT / "docs"
_BEGIN: Final = "<!-- Written by `make bench-report` from docs/benchmarks/*.json. -->\n"
_END: Final = "<!-- The end of what `make bench-report` writes. -->\n"

Part = tuple[str, str, str]
"""A scenario, a figure of it, its unit."""

ROWS: Final[tuple[tuple[str, tuple[Part, ...]], ...]] = (
    ("ready after start", (("start", "seconds", "s"),)),
    (
        "all connect at once: last in sync; CPU",
        (("connect", "seconds", "s"), ("connect", "cpu_seconds", "s")),
    ),
    ("refused and come again", (("connect", "n_refused", ""),)),
    ("resident before any connects", (("connect", "before_mb", "MB"),)),
    (
        "peak; resident afterwards",
        (("connect", "peak_mb", "MB"), ("connect", "resident_mb", "MB")),
    ),
    ("sidecars that an endpoint's change is for", (("endpoint", "n_told", ""),)),
    (
        "one endpoint changes: last has it; worst; CPU",
        (
            ("endpoint", "last_ms", "ms"),
            ("endpoint", "worst_ms", "ms"),
            ("endpoint", "cpu_seconds", "s"),
        ),
    ),
    (
        "one VirtualService changes: last has it; CPU",
        (("virtual_service", "last_ms", "ms"), ("virtual_service", "cpu_seconds", "s")),
    ),
    (
        "one Service is added: last has it; CPU",
        (("service", "last_ms", "ms"), ("service", "cpu_seconds", "s")),
    ),
    (
        "churn: last has it, median; p99; CPU of one core",
        (("churn", "median_ms", "ms"), ("churn", "p99_ms", "ms"), ("churn", "cpu_percent", "%")),
    ),
    (
        "writes that change nothing: CPU of one core; sent",
        (("no_op", "cpu_percent", "%"), ("no_op", "sent_mb", "MB")),
    ),
    ("resident after all changes", (("after", "resident_mb", "MB"),)),
    (
        "lost and started again: ready; then the last has all; CPU; sent",
        (
            ("restart", "ready_seconds", "s"),
            ("restart", "seconds", "s"),
            ("restart", "cpu_seconds", "s"),
            ("restart", "sent_mb", "MB"),
        ),
    ),
)
# By case; of the rows that have one.
BARS: Final[dict[str, dict[str, str]]] = {
    "1,000, delta": {
        "all connect at once: last in sync; CPU": "7 s; 6 s",
        "peak; resident afterwards": "350 MB; 250 MB",
        "one endpoint changes: last has it; worst; CPU": "25 ms; -; 0.03 s",
        "one VirtualService changes: last has it; CPU": "400 ms; 0.35 s",
        "one Service is added: last has it; CPU": "600 ms; 0.5 s",
        "churn: last has it, median; p99; CPU of one core": "-; 150 ms; 40 %",
    },
    "1,000, delta, in pieces": {
        "one VirtualService changes: last has it; CPU": "30 ms; 0.05 s",
    },
    "2,000, delta": {
        "all connect at once: last in sync; CPU": "2.5 s; 2.5 s",
        "peak; resident afterwards": "-; 150 MB",
        "one endpoint changes: last has it; worst; CPU": "15 ms; -; 0.01 s",
        "one VirtualService changes: last has it; CPU": "40 ms; 0.04 s",
        "one Service is added: last has it; CPU": "50 ms; 0.06 s",
    },
    "10,000 in 500 namespaces, delta": {
        "peak; resident afterwards": "-; 1.2 GB",
        "one Service is added: last has it; CPU": "50 ms; -",
    },
}


def write(folder: Path, page: Path) -> None:
    """Write the page's section and all plots from the files of figures beside it."""
    text = page.read_text()
    before, found, rest = text.partition(_BEGIN)
    _, has_end, after = rest.partition(_END)
    if not found or not has_end:
        raise SystemExit(f"{page}: no {_BEGIN.strip()} or {_END.strip()}")
    sections = []
    for name in suites.SUITES:
        path = folder / f"{name}.json"
        if path.exists():
            sections.append("\n".join(_section(json.loads(path.read_text()), folder)))
    body = "\n\n".join(sections)
    page.write_text(f"{before}{_BEGIN}\n{body}\n\n{_END}{after}")


def _section(kept: dict[str, Any], folder: Path) -> Iterator[str]:
    yield f"### {kept['title']}\n"
    if kept["suite"].startswith("growth-"):
        yield from _growth_table(kept)
        plots.draw_growth(kept, folder / f"{kept['suite']}.svg")
    elif any(each["server"] != "navarch" for each in kept["cases"][0]["runs"]):
        for case in kept["cases"]:
            yield from compare(case)
        plots.draw_comparison(kept, folder / f"{kept['suite']}.svg")
    else:
        yield from _table(kept["cases"])
        yield ""
        yield from _where(kept)
        return
    yield f"\n![{kept['title']}](benchmarks/{kept['suite']}.svg)\n"
    yield from _where(kept)


def _where(kept: dict[str, Any]) -> Iterator[str]:
    on = kept["machine"]
    yield (
        f"{on['at'][:10]}: {on['n_cpus']} CPUs ({on['cpu']}), {on['system']}, Python {on['python']},"
        f" load {on['load']} when it ended. [All figures](benchmarks/{kept['suite']}.json)."
    )


def _table(cases: Sequence[dict[str, Any]]) -> Iterator[str]:
    heads = []
    for case in cases:
        heads += [case["name"], *(["bar"] if case["name"] in BARS else [])]
    yield f"| | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    for label, parts in ROWS:
        told = [_cell(case, "navarch", parts) for case in cases]
        if not any(told) or (label.startswith("refused") and set(told) <= {"0", ""}):
            continue
        cells: list[str] = []
        for case, cell in zip(cases, told, strict=True):
            cells.append(cell)
            if case["name"] in BARS:
                cells.append(BARS[case["name"]].get(label, ""))
        yield f"| {label} | {' | '.join(cells)} |"


def compare(case: dict[str, Any]) -> Iterator[str]:
    """Lay a compared case out as a Markdown table, with how many times more Istio takes."""
    yield f"| {case['name']} | navarch | Istio | Istio ÷ navarch |"
    yield "|---|---|---|---|"
    for label, parts in ROWS:
        ours, theirs = (_cell(case, server, parts) for server in ("navarch", "istiod"))
        if not ours or not theirs:
            continue
        ratios = [_ratio(case, part) for part in parts]
        yield f"| {label} | {ours} | {theirs} | {'; '.join(ratios) if any(ratios) else ''} |"


def _ratio(case: dict[str, Any], part: Part) -> str:
    scenario, figure, unit = part
    ours, theirs = (
        figures.find(case, server, scenario, figure) for server in ("navarch", "istiod")
    )
    if not ours or theirs is None or not unit:
        return "-"
    ratio = theirs / ours
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _growth_table(kept: dict[str, Any]) -> Iterator[str]:
    yield "| | last has it | CPU | resident | against the first: CPU |"
    yield "|---|---|---|---|---|"
    first = figures.find(kept["cases"][0], "navarch", "endpoint", "cpu_seconds") or 0.0
    for case in kept["cases"]:
        cpu = figures.find(case, "navarch", "endpoint", "cpu_seconds") or 0.0
        cells = [
            _cell(case, "navarch", (("endpoint", "last_ms", "ms"),)),
            f"{cpu * 1e3:.1f} ms",
            _cell(case, "navarch", (("connect", "resident_mb", "MB"),)),
            f"{cpu / first:.1f}" if first else "-",
        ]
        yield f"| {case['name']} | {' | '.join(cells)} |"


def _cell(case: dict[str, Any], server: str, parts: Sequence[Part]) -> str:
    told = [
        (figures.find(case, server, scenario, figure), unit) for scenario, figure, unit in parts
    ]
    if all(value is None for value, _ in told):
        return ""
    return "; ".join(_show(value, unit) for value, unit in told)


def _show(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "ms" and value >= 1_000:
        value, unit = value / 1e3, "s"
    if unit == "MB" and value >= 1_000:
        value, unit = value / 1e3, "GB"
    digits = 0 if value >= 100 or unit == "" else 1 if value >= 10 else 2
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {unit}".strip()


def main() -> None:
    """Write the section and the plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=DOCS / "benchmarks")
    parser.add_argument("--page", type=Path, default=DOCS / "benchmarks.md")
    told = parser.parse_args()
    write(told.figures, told.page)


if __name__ == "__main__":
    main()
