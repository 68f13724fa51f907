"""Records a navarch with perf while one scenario goes on: `make profile` (README.md says what it needs).

What perf recorded goes out folded by inferno and drawn as a flame graph.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benches import load, places, processes, run, scenarios, suites, world

if TYPE_CHECKING:
    from collections.abc import Iterator

_FREQUENCY: Final = 997
"""Samples a second; no divisor of anything that ticks."""
_PER_SECOND: Final = 50
SCENARIOS: Final = ("connect", *suites.CHANGES, "churn", "no_op")


@contextlib.contextmanager
def record(pid: int, into: Path) -> Iterator[None]:
    """Record all threads of a process meanwhile.

    Raises:
        SystemExit: perf can't record; what it said.
    """
    command = ["perf", "record", "--quiet", "--freq", str(_FREQUENCY), "--call-graph", "fp"]
    command += ["--pid", str(pid), "--output", str(into)]
    perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    try:
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        _, said = perf.communicate()
    if not into.exists():
        raise SystemExit(f"perf recorded nothing: {said}")


def draw(recorded: Path, inferno: Path, title: str) -> str:
    """Return the flame graph of what perf recorded."""
    # Inlined frames would be looked up one by one, for minutes.
    script = ["perf", "script", "--no-inline", "--input", str(recorded)]
    stacks = subprocess.run(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    folded = subprocess.run(
        [inferno / "inferno-collapse-perf"], input=stacks.stdout, stdout=subprocess.PIPE, check=True
    )
    drawn = subprocess.run(
        [inferno / "inferno-flamegraph", "--title", title],
        input=folded.stdout,
        stdout=subprocess.PIPE,
        check=True,
    )
    return drawn.stdout.decode()


def profile(scenario: str, tools: run.Tools, n_sidecars: int, into: Path) -> None:
    """Run one scenario on the published world, and record the server in it."""
    with contextlib.ExitStack() as stack:
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="navarch-profile-")))
        mesh = world.World()
        place = places.Files(mesh, tmp / "mesh")
        source = ["--config-dir", str(tmp / "mesh")]
        program = processes.navarch(tools.command, source, tmp / "navarch")
        server = stack.enter_context(processes.serve(program))
        server.wait_ready()
        nodes = tmp / "nodes.jsonl"
        nodes.write_text("".join(json.dumps(mesh.node(k)) + "\n" for k in range(n_sidecars)))
        plan = load.Plan(tools.client, program.address, nodes, n_sidecars, is_delta=True)
        if scenario == "connect":
            stack.enter_context(record(server.measured.pid, into))
        sidecars = stack.enter_context(load.connect(plan))
        sidecars.wait_in_sync(scenarios.SYNC_SECONDS)
        if scenario != "connect":
            bench = scenarios.Bench(place, server, sidecars, n_sidecars)
            stack.enter_context(record(server.measured.pid, into))
            _repeat(bench, scenario)


def _repeat(bench: scenarios.Bench, scenario: str) -> None:
    match scenario:
        case "endpoint":
            bench.change_endpoints(20)
        case "virtual_service":
            bench.change_rules(10)
        case "service":
            bench.add_services(10)
        case "churn":
            bench.churn(15.0, _PER_SECOND)
        case "no_op":
            bench.write_nothing_new(15.0, _PER_SECOND)


def main() -> None:
    """Record, draw, and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--sidecars", type=int, default=500)
    parser.add_argument("--server", default="navarch serve", help="the command to record")
    parser.add_argument("--client", type=Path, help="a built load client")
    parser.add_argument("--inferno", type=Path, required=True, help="folder of inferno's programs")
    told = parser.parse_args()
    if shutil.which("perf") is None:
        parser.error("perf is missing (Debian: linux-perf)")
    command = run.find_command(told.server)
    tools = run.Tools(command, told.client or run.build_client("release"))
    run.RESULTS.mkdir(parents=True, exist_ok=True)
    target = run.RESULTS / f"{told.scenario}.svg"
    with tempfile.TemporaryDirectory(prefix="navarch-perf-") as folder:
        recorded = Path(folder) / "perf.data"
        profile(told.scenario, tools, told.sidecars, recorded)
        target.write_text(
            draw(recorded, told.inferno, f"{told.scenario}, {told.sidecars} sidecars")
        )
    print(f"flame graph in {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
