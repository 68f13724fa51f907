"""What crosses rooms or threads can't be changed on the way."""

from __future__ import annotations

import dataclasses

import pytest

from navarch import records, settings
from navarch.ingest import batcher, pipeline
from navarch.ops import bootstrap, http, metrics
from navarch.runtime import backoff, supervisor
from navarch.sources import base
from navarch.sources.file import documents, files, holdings, reading

MODULES = (
    backoff, base, batcher, bootstrap, documents, files, holdings, http, metrics, pipeline, reading,
    records, settings, supervisor,
)  # fmt: skip
VALUES = [
    each
    for module in MODULES
    for each in vars(module).values()
    if dataclasses.is_dataclass(each)
    and isinstance(each, type)
    and each.__module__ == module.__name__
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value.__module__}.{value.__name__}")
def test_every_value_is_frozen(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
