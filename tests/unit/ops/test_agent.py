from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from navarch import errors
from navarch.ops import agent


def test_the_command_becomes_the_agent_with_its_words_and_exit_code(tmp_path: Path) -> None:
    program = tmp_path / agent.NAME
    program.write_text('#!/bin/sh\necho "$$ $@"\nexit 7\n')
    program.chmod(0o755)
    code = "import sys, os; from navarch.ops import agent; agent.sysconfig.get_path = lambda _: '/nowhere'\n"
    code += "print(os.getpid(), flush=True); agent.become_agent(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "proxy", "sidecar", "--concurrency", "2"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    before, after = done.stdout.splitlines()
    assert (done.returncode, after) == (7, f"{before} proxy sidecar --concurrency 2")


def test_where_there_is_no_agent_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    with pytest.raises(errors.SettingsError, match="cargo build"):
        agent.find_agent()
