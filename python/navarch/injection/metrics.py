"""Prometheus' annotations, moved to the agent, which answers with the application's metrics and the proxy's.

Source: Istio's pkg/kube/inject/webhook.go, applyPrometheusMerge.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from navarch.injection import wishes

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRAPING: Final = "ISTIO_PROMETHEUS_ANNOTATIONS"
"""The variable by which the agent knows where the application's metrics are."""
_PREFIX: Final = "prometheus_io_"
_NOT_IN_LABELS: Final = re.compile(r"[^A-Za-z0-9_]")


def _find(annotations: Mapping[str, str], word: str) -> str | None:
    """Find an annotation by its meaning: Prometheus takes `/`, `.` and `-` for the same."""
    wanted = _PREFIX + word
    return next(
        (
            text
            for name, text in sorted(annotations.items())
            if _NOT_IN_LABELS.sub("_", name) == wanted
        ),
        None,
    )


def merge_metrics(
    annotations: Mapping[str, str], status_port: int, *, by_default: bool
) -> tuple[dict[str, str], str]:
    """Return the annotations with the agent as what is scraped, and what the agent is told ("" for nothing)."""
    made = dict(annotations)
    wish = wishes.read_bool(annotations.get(wishes.MERGE_METRICS, ""))
    is_wanted = by_default if wish is None else wish
    scrape = wishes.read_bool(_find(annotations, "scrape") or "")
    port = _find(annotations, "port")
    if scrape is False or not is_wanted or port == str(status_port):
        return made, ""
    told = {
        word: text
        for word in ("scrape", "path", "port")
        if (text := _find(annotations, word)) is not None
    }
    for name in annotations:
        if _NOT_IN_LABELS.sub("_", name) in {
            f"{_PREFIX}{word}" for word in ("scrape", "path", "port")
        }:
            del made[name]
    made["prometheus.io/port"] = str(status_port)
    made["prometheus.io/path"] = "/stats/prometheus"
    made["prometheus.io/scrape"] = "true"
    return made, json.dumps(told, separators=(",", ":")) if told else ""
