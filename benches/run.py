"""Measures a navarch on this machine from outside: `make bench` (README.md says how to read it)."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benches import load, processes, scenarios, world

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benches" / "results"
_SETTLE_SECONDS: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is run.

    Attributes:
        command: Starts the server, without its flags.
        client: The load client's program.
        n_rounds: Of the endpoint change; the others, which are slower, have fewer.
        is_istio: Whether the sidecars say that they are Istio's build of Envoy.
        churn_seconds: How long endpoints change, and how long files are written as they are.
    """

    mesh: world.World
    command: list[str]
    client: Path
    n_sidecars: int = 500
    n_rounds: int = 20
    n_threads: int = 1
    settle_seconds: float = _SETTLE_SECONDS
    is_istio: bool = True
    churn_seconds: float = 10.0


_PER_SECOND: Final = 50
"""Writes a second under churn."""


def measure(plan: Plan, *, is_delta: bool) -> dict[str, Any]:
    """Run every scenario on a server of its own; return the figures by scenario."""
    with contextlib.ExitStack() as stack:
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="navarch-bench-")))
        directory, nodes = tmp / "mesh", tmp / "nodes.jsonl"
        plan.mesh.write(directory)
        rows = (plan.mesh.node(k, is_istio=plan.is_istio) for k in range(plan.n_sidecars))
        nodes.write_text("".join(json.dumps(row) + "\n" for row in rows))
        server = stack.enter_context(processes.serve(plan.command, directory, tmp / "log"))
        ready_seconds = server.wait_ready()
        ready_cpu_seconds = server.measured.cpu_seconds()
        server.measured.forget_peak()
        client = load.Plan(
            plan.client, server.address, nodes, plan.n_sidecars, is_delta, plan.n_threads
        )
        sidecars = stack.enter_context(load.connect(client))
        connected = scenarios.connect_all(server, sidecars, plan.settle_seconds)
        bench = scenarios.Bench(plan.mesh, directory, server, sidecars)
        n_few = max(1, plan.n_rounds // 4)
        # A change reaches some of scoped sidecars only, which the client does not wait for.
        changes: dict[str, Any] = (
            {}
            if plan.mesh.is_scoped
            else {
                "endpoint": dataclasses.asdict(bench.change_endpoints(plan.n_rounds)),
                "virtual_service": dataclasses.asdict(bench.change_rules(n_few)),
                "service": dataclasses.asdict(bench.add_services(n_few)),
            }
        )
        if plan.churn_seconds > 0:
            steady = (plan.churn_seconds, _PER_SECOND)
            changes["churn"] = dataclasses.asdict(bench.churn(*steady))
            changes["no_op"] = dataclasses.asdict(bench.write_nothing_new(*steady))
        return {
            "start": {"seconds": ready_seconds, "cpu_seconds": ready_cpu_seconds},
            "connect": dataclasses.asdict(connected),
            **changes,
            "after": {
                "resident_mb": server.measured.resident_mb(),
                "peak_mb": server.measured.peak_mb(),
            },
        }


def build_client(profile: str) -> Path:
    """Build the load client; return its program."""
    command = ["cargo", "build", "--quiet", "--locked", "--profile", profile, "-p", "navarch-adsc"]
    asked = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    made = [json.loads(line) for line in asked.stdout.splitlines()]
    return next(Path(m["executable"]) for m in made if m.get("executable"))


def machine() -> dict[str, Any]:
    """Say what was measured on."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if "model name" in line), "?")
    return {
        "cpu": model,
        "n_cpus": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def table(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Lay the figures out as a Markdown table: one column for each form of the protocol."""
    yield f"| | {' | '.join(figures)} |"
    yield "|---" * (len(figures) + 1) + "|"
    columns = list(figures.values())
    for scenario, row in columns[0].items():
        for name in row:
            told = [_format(column[scenario][name]) for column in columns]
            yield f"| {scenario}: {name.replace('_', ' ')} | {' | '.join(told)} |"


def _format(value: float) -> str:
    return (
        str(value) if isinstance(value, int) else f"{value:.3g}" if value < 1e3 else f"{value:.0f}"
    )


def main() -> None:
    """Build, measure, print, and keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sidecars", type=int, default=500)
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--rules", type=int, help="services with rules; a fifth if left out")
    parser.add_argument("--namespaces", type=int, default=10)
    parser.add_argument("--scoped", action="store_true", help="sidecars see their namespace alone")
    parser.add_argument("--churn", type=float, default=10.0, help="seconds of steady writes")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of the load client")
    parser.add_argument("--xds", choices=["delta", "sotw", "both"], default="both")
    parser.add_argument("--stock", action="store_true", help="sidecars are upstream's Envoy")
    parser.add_argument("--server", default="navarch serve", help="the command to measure")
    parser.add_argument(
        "--json", type=Path, help="where the figures go; benches/results if left out"
    )
    told = parser.parse_args()
    program, *flags = told.server.split()
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        parser.error(f"no program {program}: run `make build`")
    plan = Plan(
        mesh=world.World(
            told.services,
            n_namespaces=told.namespaces,
            n_rules=told.services // 5 if told.rules is None else told.rules,
            is_scoped=told.scoped,
        ),
        command=[found, *flags],
        client=build_client("release"),
        n_sidecars=told.sidecars,
        n_rounds=told.rounds,
        n_threads=told.threads,
        is_istio=not told.stock,
        churn_seconds=told.churn,
    )
    forms = ["delta", "sotw"] if told.xds == "both" else [told.xds]
    figures = {form: measure(plan, is_delta=form == "delta") for form in forms}
    print("\n".join(table(figures)))
    on = machine()
    target: Path = told.json or RESULTS / f"{on['at'].replace(':', '')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    size = dataclasses.asdict(plan.mesh) | {"n_sidecars": plan.n_sidecars}
    target.write_text(
        json.dumps({"machine": on, "size": size, "figures": figures}, indent=2) + "\n"
    )
    print(f"\n{on['cpu']}, {on['n_cpus']} CPUs; figures in {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
