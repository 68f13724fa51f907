"""What all tests share: how much hypothesis tries, and what is said where something is missing."""

from __future__ import annotations

import importlib.util
import os

import hypothesis
import pytest

hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=500, deadline=None)
hypothesis.settings.register_profile("nightly", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def _has_extension() -> bool:
    try:
        return importlib.util.find_spec("navarch._core") is not None
    except ModuleNotFoundError:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pass over what needs the extension where it is not built; CI has it, and fails without it."""
    if os.environ.get("CI") or _has_extension():
        return
    missing = pytest.mark.skip(reason="navarch._core is not built: run `make build`")
    for item in items:
        if item.get_closest_marker("extension"):
            item.add_marker(missing)
