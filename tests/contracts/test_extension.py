"""What the built extension shows to the process that loads it (docs/decisions/023-allocator.md)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from navarch import _core
from tests import desk


@pytest.mark.extension
def test_it_shows_its_door_alone_and_replaces_nobodys_allocator() -> None:
    nm = desk.find_program("nm", "install binutils")
    command = [nm, "--dynamic", "--defined-only", "--format=just-symbols", _core.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["PyInit__core"]


@pytest.mark.extension
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's allocator is used")
def test_memory_is_returned_by_a_thread_of_the_allocator() -> None:
    # The first allocation of Rust's starts it.
    program = """
import pathlib
from navarch import core

core.Core()
print(*(p.read_text() for p in pathlib.Path("/proc/self/task").glob("*/comm")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "jemalloc_bg_thd" in done.stdout
