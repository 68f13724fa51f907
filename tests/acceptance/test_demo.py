"""The bookshop's demo runs, is right, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

DEMO: Final = Path(__file__).parents[2] / "examples" / "bookshop" / "demo.py"

pytestmark = [pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(180)]


def start_demo(folder: Path, *flags: str) -> subprocess.Popen[str]:
    """Start the demo with `folder` for its temporary files."""
    return subprocess.Popen(
        [sys.executable, "-u", str(DEMO), *flags],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name a folder, and those of the bookshop's workloads."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (file.parent / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command or f"TMPDIR={folder}" in environment:
            found.append(command)
    return found


def test_it_goes_through_once(tmp_path: Path) -> None:
    """Without a terminal: both shares are right, the change is in time, the exit code is 0, nothing is left."""
    demo = start_demo(tmp_path, "--once")
    told, _ = demo.communicate()
    assert demo.returncode == 0, told
    assert told.count(": right") == 5
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_nothing_when_stopped(tmp_path: Path, number: signal.Signals) -> None:
    """Ended by a signal while all runs, it ends every process that it started and removes its files."""
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    seen = next((line for line in demo.stdout if line.startswith("Who answered")), "")
    assert seen
    assert len(processes_of(tmp_path)) >= 8
    demo.send_signal(number)
    demo.communicate()
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
