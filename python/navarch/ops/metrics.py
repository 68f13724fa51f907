"""Prometheus' text format for the few figures of the Python half (pure)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its values by label set; `kind` is `counter` or `gauge`."""

    name: str
    kind: str
    about: str
    values: Mapping[tuple[tuple[str, str], ...], float]


def render(metrics: Iterable[Metric]) -> str:
    """Return the metrics as Prometheus reads them."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.about}", f"# TYPE {metric.name} {metric.kind}"]
        for labels, value in metric.values.items():
            shown = ",".join(f'{name}="{_escape(text)}"' for name, text in labels)
            lines.append(
                f"{metric.name}{{{shown}}} {value:g}" if shown else f"{metric.name} {value:g}"
            )
    return "".join(f"{line}\n" for line in lines)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
