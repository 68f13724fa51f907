"""Measures control planes on this machine from outside: `make bench` (README.md says how to read it)."""

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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benches import load, places, processes, scenarios, suites
from tests.kubernetes import cluster as clusters
from tests.kubernetes import mesh as meshes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benches" / "results"
_PER_SECOND: Final = 50
"""Writes a second under churn."""

Figures = dict[str, dict[str, Any]]
"""By scenario, by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """What a case is run with.

    Attributes:
        command: Starts navarch, without its flags.
        client: The load client's program.
        istiod: Istio's pilot-discovery, where it is compared.
        n_threads: Of the load client.
    """

    command: list[str]
    client: Path
    istiod: Path | None = None
    n_threads: int = 1


def measure(
    case: suites.Case, tools: Tools, program: processes.Program, place: places.Place
) -> Figures:
    """Run a case on a server of its own; return the figures by scenario."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(processes.serve(program))
        ready_seconds = server.wait_ready()
        start = {"seconds": ready_seconds, "cpu_seconds": server.measured.cpu_seconds()}
        server.measured.forget_peak()
        nodes = program.folder / "nodes.jsonl"
        rows = (case.mesh.node(k) for k in range(case.n_sidecars))
        nodes.write_text("".join(json.dumps(row) + "\n" for row in rows))
        plan = load.Plan(
            tools.client, program.address, nodes, case.n_sidecars, case.is_delta, tools.n_threads
        )
        sidecars = stack.enter_context(load.connect(plan))
        connected = scenarios.connect_all(server, sidecars, case.settle_seconds)
        figures: Figures = {"start": start, "connect": dataclasses.asdict(connected)}
        bench = scenarios.Bench(place, server, sidecars, case.n_sidecars)
        for scenario in case.scenarios:
            if scenario == "restart":
                figures["after"] = {"resident_mb": server.measured.resident_mb()}
            figures[scenario] = dataclasses.asdict(_run(bench, scenario, case))
        return figures


def _run(
    bench: scenarios.Bench, scenario: str, case: suites.Case
) -> scenarios.Rounds | scenarios.Churn | scenarios.Restarted:
    n_few = max(1, case.n_rounds // 4)
    steady = (case.churn_seconds, _PER_SECOND)
    match scenario:
        case "endpoint":
            return bench.change_endpoints(case.n_rounds)
        case "virtual_service":
            return bench.change_rules(n_few)
        case "service":
            return bench.add_services(n_few)
        case "churn":
            return bench.churn(*steady)
        case "no_op":
            return bench.write_nothing_new(*steady)
        case "restart":
            return bench.restart()
    raise ValueError(scenario)


def measure_alone(case: suites.Case, tools: Tools) -> Figures:
    """Run a case on a navarch that reads files."""
    with tempfile.TemporaryDirectory(prefix="navarch-bench-") as folder:
        tmp = Path(folder)
        place = places.Files(case.mesh, tmp / "mesh")
        source = ["--config-dir", str(tmp / "mesh")]
        program = processes.navarch(tools.command, source, tmp / "navarch")
        return measure(case, tools, program, place)


def compare(case: suites.Case, tools: Tools, n_turns: int) -> Iterator[tuple[str, Figures]]:
    """Run a case on navarch and Istio in turn, over one API server; give each one's figures with its name.

    Both are measured by themselves: the other does not run meanwhile.
    """
    if tools.istiod is None:
        raise ValueError("a comparison needs Istio's pilot-discovery")
    with contextlib.ExitStack() as stack:
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="navarch-bench-")))
        cluster = stack.enter_context(clusters.Cluster(tmp / "cluster"))
        cluster.grant(clusters.NAVARCH, meshes.RIGHTS)
        place = places.Objects(case.mesh, cluster.api())
        source = ["--kubeconfig", str(cluster.kubeconfig()), "--drain-seconds", "0"]
        admin = cluster.kubeconfig(clusters.ADMIN)
        for _ in range(n_turns):
            for program in (
                processes.navarch(tools.command, source, tmp / "navarch"),
                processes.istiod(tools.istiod, admin, tmp / "istiod"),
            ):
                yield program.name, measure(case, tools, program, place)
                place.restore()


def run_suite(suite: suites.Suite, tools: Tools, n_turns: int = 1) -> dict[str, Any]:
    """Run all of a suite; return what is kept of it."""
    began = time.monotonic()
    cases = []
    for case in suite.cases:
        runs: list[tuple[str, Figures]] = []
        if suite.is_compared:
            runs += compare(case, tools, n_turns)
        else:
            runs.append(("navarch", measure_alone(case, tools)))
        size = dataclasses.asdict(case.mesh) | {"n_sidecars": case.n_sidecars}
        told = [{"server": name, "figures": figures} for name, figures in runs]
        cases.append({"name": case.name, "size": size, "is_delta": case.is_delta, "runs": told})
    return {
        "suite": suite.name,
        "title": suite.title,
        "machine": machine(),
        "took_seconds": round(time.monotonic() - began),
        "cases": cases,
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
        "load": round(os.getloadavg()[0], 1),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def table(figures: dict[str, Figures]) -> Iterator[str]:
    """Lay figures out as a Markdown table: a column for each name, a row for each figure of the first."""
    yield f"| | {' | '.join(figures)} |"
    yield "|---" * (len(figures) + 1) + "|"
    columns = list(figures.values())
    for scenario, row in columns[0].items():
        for name in row:
            told = [_format(column.get(scenario, {}).get(name)) for column in columns]
            yield f"| {scenario}: {name.replace('_', ' ')} | {' | '.join(told)} |"


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return (
        str(value) if isinstance(value, int) else f"{value:.3g}" if value < 1e3 else f"{value:.0f}"
    )


def find_command(told: str) -> list[str]:
    """Return the command that starts navarch, with the program beside this Python if there is one."""
    program, *flags = told.split()
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise SystemExit(f"no program {program}: run `make build`")
    return [found, *flags]


def _read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(suites.SUITES)}")
    parser.add_argument("--istiod", type=Path, help="Istio's pilot-discovery: run what compares it")
    parser.add_argument("--turns", type=int, default=1, help="of navarch and Istio, one by one")
    parser.add_argument("--share", type=float, help="of services and sidecars, for a quick look")
    parser.add_argument("--threads", type=int, default=1, help="of the load client")
    parser.add_argument("--server", default="navarch serve", help="the command to measure")
    parser.add_argument("--client", type=Path, help="a built load client")
    parser.add_argument(
        "--into", type=Path, default=RESULTS, help="where a file for each suite goes"
    )
    told = parser.parse_args()
    if unknown := set(told.suites) - set(suites.SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}")
    if not told.suites:
        told.suites = [
            name for name, each in suites.SUITES.items() if each.is_compared == bool(told.istiod)
        ]
    needs_istio = [name for name in told.suites if suites.SUITES[name].is_compared]
    if needs_istio and not told.istiod:
        parser.error(f"{', '.join(needs_istio)}: give --istiod (benches/README.md says how)")
    return told


def main() -> None:
    """Run suites, print their tables, and keep the figures as JSON."""
    told = _read_flags()
    tools = Tools(
        command=find_command(told.server),
        client=told.client or build_client("release"),
        istiod=told.istiod.resolve() if told.istiod else None,
        n_threads=told.threads,
    )
    told.into.mkdir(parents=True, exist_ok=True)
    for name in told.suites:
        suite = suites.SUITES[name]
        if told.share:
            cases = tuple(suites.shrink(case, told.share) for case in suite.cases)
            suite = dataclasses.replace(suite, cases=cases)
        kept = run_suite(suite, tools, told.turns)
        (told.into / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")
        print(f"\n{suite.title} ({kept['took_seconds']} s)\n")
        for case in kept["cases"]:
            print(f"{case['name']}\n" + "\n".join(table(_columns(case))) + "\n")
    print(f"figures in {told.into}; `make bench-report` writes docs/benchmarks.md", file=sys.stderr)


def _columns(case: dict[str, Any]) -> dict[str, Figures]:
    names = [f"{run['server']} {i}" for i, run in enumerate(case["runs"], 1)]
    return dict(zip(names, (run["figures"] for run in case["runs"]), strict=True))


if __name__ == "__main__":
    main()
