"""Prometheus' annotations, moved to the agent, which answers with the application's metrics and the proxy's.

Source: Istio's pkg/kube/inject/webhook.go, applyPrometheusMerge.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Final

from navarch.injection import wishes

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRAPING: Final = "ISTIO_PROMETHEUS_ANNOTATIONS"
"""The variable by which the agent knows where the application's metrics are."""
_NAMES: Final = {word: f"prometheus_io_{word}" for word in ("scrape", "path", "port")}
_NOT_IN_LABELS: Final = re.compile(r"[^A-Za-z0-9_]")


@functools.lru_cache(maxsize=1024)
def _in_labels(name: str) -> str:
    """Return an annotation's name as Prometheus has it: it takes `/`, `.` and `-` for the same."""
    return _NOT_IN_LABELS.sub("_", name)


def merge_metrics(
    annotations: Mapping[str, str], status_port: int, *, by_default: bool
) -> tuple[dict[str, str], str]:
    """Return the annotations with the agent as what is scraped, and what the agent is told ("" for nothing)."""
    made = dict(annotations)
    wish = wishes.read_bool(annotations.get(wishes.MERGE_METRICS, ""))
    is_wanted = by_default if wish is None else wish
    said = {_in_labels(name): annotations[name] for name in sorted(annotations, reverse=True)}
    scrape = wishes.read_bool(said.get(_NAMES["scrape"], ""))
    if scrape is False or not is_wanted or said.get(_NAMES["port"]) == str(status_port):
        return made, ""
    told = {word: said[name] for word, name in _NAMES.items() if name in said}
    for name in annotations:
        if _in_labels(name) in _NAMES.values():
            del made[name]
    made["prometheus.io/port"] = str(status_port)
    made["prometheus.io/path"] = "/stats/prometheus"
    made["prometheus.io/scrape"] = "true"
    return made, json.dumps(told, separators=(",", ":")) if told else ""
