"""Draws what was measured as SVG; the same figures give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benches import figures

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

_COLORS: Final = {"navarch": "#0b6e4f", "istiod": "#b0b7bf"}
_NAMES: Final = {"navarch": "navarch", "istiod": "Istio"}
Bar = tuple[str, str, str, float]
"""A label, a scenario, a figure of it, and what it is multiplied with."""

_PANELS: Final[tuple[tuple[str, tuple[Bar, ...]], ...]] = (
    (
        "until the last has it (seconds)",
        (
            ("connect", "connect", "seconds", 1.0),
            ("endpoint", "endpoint", "last_ms", 1e-3),
            ("VirtualService", "virtual_service", "last_ms", 1e-3),
            ("Service", "service", "last_ms", 1e-3),
        ),
    ),
    (
        "CPU of the control plane (seconds)",
        (
            ("connect", "connect", "cpu_seconds", 1.0),
            ("endpoint", "endpoint", "cpu_seconds", 1.0),
            ("VirtualService", "virtual_service", "cpu_seconds", 1.0),
            ("Service", "service", "cpu_seconds", 1.0),
        ),
    ),
    (
        "memory (MB)",
        (("peak", "connect", "peak_mb", 1.0), ("resident", "connect", "resident_mb", 1.0)),
    ),
)
# Text stays text, ids do not differ from run to run.
_STYLE: Final[Any] = {
    "svg.hashsalt": "navarch",
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_comparison(kept: dict[str, Any], target: Path) -> None:
    """Draw both control planes' times, CPU and memory, on logarithmic axes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        axes = figure.subplots(1, len(_PANELS), width_ratios=[4, 4, 2])
        for axis, (title, bars) in zip(axes, _PANELS, strict=True):
            _draw_bars(axis, kept["cases"][0], bars)
            axis.set_title(title)
        axes[0].legend(frameon=False)
        _save(figure, target)


def _draw_bars(axis: Axes, case: dict[str, Any], bars: tuple[Bar, ...]) -> None:
    for turn, (server, color) in enumerate(_COLORS.items()):
        for place, (_, scenario, name, scale) in enumerate(bars):
            value = figures.find(case, server, scenario, name)
            if value:
                told = value * scale
                at = place + (turn - 0.5) * 0.4
                label = _NAMES[server] if place == 0 else None
                axis.bar(at, told, width=0.38, color=color, label=label)
                axis.annotate(
                    f"{told:.2g}" if told < 100 else f"{told:.0f}",
                    (at, told),
                    ha="center",
                    va="bottom",
                    fontsize=7,
                )
    axis.set_yscale("log")
    axis.set_xticks(range(len(bars)), [label for label, *_ in bars])


def draw_growth(kept: dict[str, Any], target: Path) -> None:
    """Draw the CPU and the time of an endpoint's change over what grows."""
    of = "n_services" if kept["suite"] == "growth-services" else "n_sidecars"
    sizes = [case["size"][of] for case in kept["cases"]]
    panels = (("CPU (ms)", "cpu_seconds", 1e3), ("until the last has it (ms)", "last_ms", 1.0))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        for axis, (title, name, scale) in zip(figure.subplots(1, 2), panels, strict=True):
            found = [
                figures.find(case, "navarch", "endpoint", name) or 0.0 for case in kept["cases"]
            ]
            axis.plot(sizes, [value * scale for value in found], "o-", color=_COLORS["navarch"])
            axis.set_xscale("log")
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
            axis.minorticks_off()
            if of == "n_sidecars":
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            axis.set_xlabel(of.removeprefix("n_"))
            axis.set_title(f"one endpoint changes: {title}")
        _save(figure, target)


def _save(figure: Figure, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", metadata={"Date": None})
