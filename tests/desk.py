"""What a test needs of the machine: on a desk it is passed over without it, in CI, which has everything, it fails."""

from __future__ import annotations

import os
import shutil

import pytest


def require(found: object, missing: str) -> None:
    """End the test with that message unless something was found."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def find_program(name: str, remedy: str = "install it") -> str:
    """Return a program's path; end the test where there is none."""
    found = shutil.which(name)
    require(found, f"there is no {name}: {remedy}")
    return str(found)
