"""Churn over a real API server that fails, for minutes: `make soak-kubernetes` (README.md says what must come out)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from benches import run
from tests.kubernetes import churn
from tests.kubernetes import cluster as clusters

_MINUTE: Final = 60.0


def sit_out(seconds: float) -> str:
    """Stop the API server for so long; return what was wrong, "" if nothing was."""
    with tempfile.TemporaryDirectory(prefix="navarch-soak-") as name:
        folder = Path(name)
        with clusters.Cluster(folder / "cluster") as own:
            told = churn.sit_out(own, folder, churn.Plan(100, 3, 0, 0, ()), seconds)
    print(
        f"outage of {seconds:g} s: the first change after it came in {told.recovery_seconds:.1f} s"
    )
    wrong = [f"a proxy that came meanwhile differs: {each}" for each in told.differences]
    wrong += [f"emptied: {each}" for each in told.emptied]
    return "; ".join([*wrong, *(["it was not ready"] if told.n_unready else [])])


def endure(plan: churn.Plan) -> str:
    """Churn; return what was wrong, "" if nothing was."""
    with tempfile.TemporaryDirectory(prefix="navarch-soak-") as name:
        folder = Path(name)
        with clusters.Cluster(folder / "cluster") as own:
            told = churn.endure(own, folder, plan)
    print(
        f"{told.n_changes} changes of {plan.n_services * plan.n_pods} pods in {plan.seconds:g} s,"
        f" {len(plan.outages)} outages ({told.n_retries} writes tried again),"
        f" {told.n_responses} responses to 2 proxies;"
        f" {told.n_resources} resources compared after {told.settled_seconds:.1f} s"
    )
    return "; ".join([*told.notes, *told.differences])


def main() -> None:
    """Run both; exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10 * _MINUTE)
    parser.add_argument("--outage", type=float, default=_MINUTE, help="seconds")
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--pods", type=int, default=10, help="of each service")
    parser.add_argument("--rate", type=float, default=50.0, help="changes of pods a second")
    told = parser.parse_args()
    outages = ((told.seconds / 3, 5.0), (told.seconds * 2 / 3, 20.0))
    plan = churn.Plan(told.services, told.pods, told.seconds, told.rate, outages)
    wrong = [each for each in (sit_out(told.outage), endure(plan)) if each]
    on = run.machine()
    print(f"{on['cpu']}, {on['n_cpus']} CPUs, {on['at']}", file=sys.stderr)
    if wrong:
        sys.exit("\n".join(wrong))
    print("nothing was lost, and all is equal to a fresh start")


if __name__ == "__main__":
    main()
