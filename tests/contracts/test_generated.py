"""What is generated is what its generator makes now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DESCRIPTORS = Path(__file__).parents[2] / "rust" / "envoy" / "descriptors"
PROGRAM = "import runpy, sys; sys.stdout.buffer.write(runpy.run_path(sys.argv[1])['build']())"


def test_the_descriptors_are_those_of_the_locked_package() -> None:
    command = [sys.executable, "-c", PROGRAM, str(DESCRIPTORS / "generate.py")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr.decode()
    is_same = done.stdout == (DESCRIPTORS / "envoy.binpb").read_bytes()
    assert is_same, "run `make gen`"
