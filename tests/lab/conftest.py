"""The lab's fixture: one mesh for all tests, as it was at the start before each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import lab as lab_rooms
from tests.lab import network

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def running_lab() -> Iterator[lab_rooms.Lab]:
    """Start the whole mesh, once."""
    network.require()
    with lab_rooms.Lab() as made:
        yield made


@pytest.fixture
def lab(running_lab: lab_rooms.Lab) -> Iterator[lab_rooms.Lab]:
    """Give the mesh, and set its objects back afterwards."""
    yield running_lab
    running_lab.reset()
    running_lab.wait_settled()
