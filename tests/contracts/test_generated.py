"""What is generated is what its generator makes now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUST = Path(__file__).parents[2] / "rust"
PROGRAM = "import runpy, sys; sys.stdout.buffer.write(runpy.run_path(sys.argv[1])['build']())"


@pytest.mark.parametrize(("crate", "name"), [("envoy", "envoy.binpb"), ("identity", "ca.binpb")])
def test_the_descriptors_are_those_of_the_locked_package(crate: str, name: str) -> None:
    descriptors = RUST / crate / "descriptors"
    command = [sys.executable, "-c", PROGRAM, str(descriptors / "generate.py")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr.decode()
    is_same = done.stdout == (descriptors / name).read_bytes()
    assert is_same, "run `make gen`"
