"""The typed face of the extension is the extension's."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.extension
@pytest.mark.timeout(300)
def test_the_stub_says_what_the_extension_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "navarch._core"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
