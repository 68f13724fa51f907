"""Durations are counted in the buckets that they belong to, and told as Prometheus reads them."""

from __future__ import annotations

import pytest

from navarch.ops import metrics
from navarch.runtime import histogram


def test_a_duration_is_in_its_bucket_and_in_all_wider_ones() -> None:
    counted = histogram.Histogram()
    for seconds in (0.0, 0.002, 0.0021, 60.0):
        counted.observe(seconds)
    read = counted.read()
    within = dict(zip(histogram.BOUNDS, read.n_within, strict=True))
    assert (within[0.001], within[0.002], within[0.005], within[5.0]) == (1, 2, 3, 3)
    assert read.n == 4
    assert read.seconds == pytest.approx(60.0041)


def test_a_histogram_is_told_by_its_buckets_sum_and_count() -> None:
    counted = histogram.Histogram()
    counted.observe(0.25)
    told = metrics.render(
        [
            metrics.Metric(
                "took_seconds", "histogram", "It took.", {(("stage", "a"),): counted.read()}
            )
        ]
    )
    lines = told.splitlines()
    assert lines[:2] == ["# HELP took_seconds It took.", "# TYPE took_seconds histogram"]
    assert 'took_seconds_bucket{stage="a",le="0.2"} 0' in lines
    assert 'took_seconds_bucket{stage="a",le="0.5"} 1' in lines
    assert lines[-3:] == [
        'took_seconds_bucket{stage="a",le="+Inf"} 1',
        'took_seconds_sum{stage="a"} 0.25',
        'took_seconds_count{stage="a"} 1',
    ]
