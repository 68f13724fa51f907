"""Prometheus' text format for the few figures of the Python half (pure)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from navarch.runtime import histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order in which they are told."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its values by label set; `kind` is `counter`, `gauge` or, of readings, `histogram`."""

    name: str
    kind: str
    about: str
    values: Mapping[Labels, float | histogram.Reading]


def render(metrics: Iterable[Metric]) -> str:
    """Return the metrics as Prometheus reads them."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.about}", f"# TYPE {metric.name} {metric.kind}"]
        for labels, value in metric.values.items():
            if isinstance(value, histogram.Reading):
                lines += _render_reading(metric.name, labels, value)
            else:
                lines.append(_render_value(metric.name, labels, value))
    return "".join(f"{line}\n" for line in lines)


def _render_reading(name: str, labels: Labels, reading: histogram.Reading) -> Iterator[str]:
    bounds = (*(f"{bound:g}" for bound in histogram.BOUNDS), "+Inf")
    for bound, n in zip(bounds, (*reading.n_within, reading.n), strict=True):
        yield _render_value(f"{name}_bucket", (*labels, ("le", bound)), n)
    yield _render_value(f"{name}_sum", labels, reading.seconds)
    yield _render_value(f"{name}_count", labels, reading.n)


def _render_value(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
    return f"{name}{{{shown}}} {value:.12g}" if shown else f"{name} {value:.12g}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
