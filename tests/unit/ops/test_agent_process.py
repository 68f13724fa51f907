"""The agent as a process: what it does with an Envoy that ends."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.kubernetes.cluster import free_port
from tests.lab import agents, processes

if TYPE_CHECKING:
    from pathlib import Path

CODE = 7


def start(folder: Path, *flags: str) -> tuple[processes.Process, Path]:
    """Start an agent whose Envoy ends at once; return it and the file in which each start leaves a line."""
    starts = folder / "starts"
    envoy = folder / "envoy"
    envoy.write_text(
        f"#!{sys.executable}\nopen({str(starts)!r}, 'a').write('x\\n')\nexit({CODE})\n"
    )
    envoy.chmod(0o755)
    proxy = {
        "binaryPath": str(envoy),
        "configPath": str(folder / "config"),
        "discoveryAddress": "127.0.0.1:1",
        "statusPort": free_port(),
    }
    told = {"PROXY_CONFIG": json.dumps(proxy), "POD_NAME": "a", "POD_NAMESPACE": "b"}
    pairs = [f"{key}={value}" for key, value in (told | {"INSTANCE_IP": "127.0.0.1"}).items()]
    command = ["env", f"--chdir={folder}", *pairs, str(agents.find_agent()), "proxy", "sidecar"]
    return processes.Process([*command, *flags], folder / "agent.log"), starts


def test_an_envoy_that_ends_takes_the_agent_with_it(tmp_path: Path) -> None:
    """The kubelet starts both anew, and sees Envoy's own code."""
    agent, starts = start(tmp_path)
    processes.wait_until(lambda: not agent.is_running, "the agent has ended", 30)
    assert agent.stop() == CODE
    assert starts.read_text().count("x") == 1


def test_on_a_machine_envoy_is_started_again(tmp_path: Path) -> None:
    """With `--restart-policy on-failure`, again and again, until SIGTERM."""
    agent, starts = start(tmp_path, "--restart-policy", "on-failure")
    try:
        processes.wait_until(
            lambda: starts.exists() and starts.read_text().count("x") >= 3, "three starts", 30
        )
        assert agent.is_running
    finally:
        code = agent.stop()
    assert code == 0
