"""Measures a navarch over a real API server: `make bench-kubernetes` (README.md says how to read it)."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from benches import load, processes, run, scenarios, world
from tests.kubernetes import cluster as clusters
from tests.kubernetes import mesh as meshes

if TYPE_CHECKING:
    from tests.kubernetes import api as apis

_N_WRITERS: Final = 8
_QUIET_SECONDS: Final = 0.5
_REACH_SECONDS: Final = 30.0
_N_IDLE_WRITES: Final = 1000


def fill(api: apis.Api, mesh: world.World) -> None:
    """Make the whole world in a cluster."""
    meshes.install_definitions(api, "VirtualService", "DestinationRule")
    names = ["istio-system", *(f"ns-{number}" for number in range(mesh.n_namespaces))]
    for name in names:
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    with concurrent.futures.ThreadPoolExecutor(_N_WRITERS) as writers:
        list(writers.map(lambda number: _write(api, mesh, number), range(mesh.n_services)))


def _write(api: apis.Api, mesh: world.World, number: int) -> None:
    for made in yaml.load_all(mesh.render(world.Service(number)), yaml.CSafeLoader):
        if made["kind"] == "Service":
            # The server chooses: some of the world's are its own.
            made["spec"].pop("clusterIP")
            made["spec"].pop("clusterIPs")
        made["metadata"].pop("creationTimestamp", None)
        api.create(made)
        if made["kind"] == "Pod":
            api.patch(made, {"status": made["status"]}, "status")


def change_endpoints(
    api: apis.Api, mesh: world.World, sidecars: load.Sidecars, n_rounds: int
) -> dict[str, float]:
    """Give one service another endpoint, each round another; from the server's answer to the last sidecar."""
    number = mesh.n_services - 1
    accepted, sent = [], []
    for i in range(n_rounds):
        time.sleep(_QUIET_SECONDS)
        address = f"10.250.{100 + i // 100}.{100 + i % 100}"
        text = mesh.render(world.Service(number, addresses=(address,)))
        documents = yaml.load_all(text, yaml.CSafeLoader)
        changed = next(each for each in documents if each["kind"] == "EndpointSlice")
        sidecars.watch_for([("eds", address)])
        began = time.time()
        api.patch(changed, {"endpoints": changed["endpoints"]})
        answered = time.time()
        told = sidecars.wait_reached(_REACH_SECONDS)
        sent.append((told["last"] - began) * 1e3)
        accepted.append(max(0.0, told["last"] - answered) * 1e3)
    accepted.sort()
    return {
        "rounds": n_rounds,
        "median_ms": statistics.median(accepted),
        "p99_ms": accepted[min(len(accepted) - 1, round(len(accepted) * 0.99))],
        "median_with_the_write_ms": statistics.median(sent),
    }


def write_idly(api: apis.Api, navarch: meshes.Navarch) -> dict[str, float]:
    """Write what changes nothing for any proxy; count the pushes."""
    before = navarch.metric("pilot_xds_pushes")
    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "idle"}}
    api.apply(note)
    for turn in range(_N_IDLE_WRITES):
        api.patch(note, {"data": {"turn": str(turn)}})
    time.sleep(2.0)
    return {"writes": _N_IDLE_WRITES, "pushes": navarch.metric("pilot_xds_pushes") - before}


def measure(mesh: world.World, client: Path, n_sidecars: int, n_rounds: int) -> dict[str, Any]:
    """Run all on servers of their own; return the figures by scenario."""
    with contextlib.ExitStack() as stack:
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="navarch-bench-")))
        own = stack.enter_context(clusters.Cluster(tmp / "cluster"))
        api = own.api()
        own.grant("navarch", meshes.RIGHTS)
        fill(api, mesh)
        navarch = stack.enter_context(meshes.Navarch(tmp / "navarch", own.kubeconfig()))
        ready_seconds = navarch.wait_ready()
        measured = processes.Measured(navarch.process.pid)
        rows = (mesh.node(k) for k in range(n_sidecars))
        nodes = tmp / "nodes.jsonl"
        nodes.write_text("".join(json.dumps(row) + "\n" for row in rows))
        # Statuses of all rules are written in the first seconds.
        time.sleep(10.0)
        start = {"seconds": ready_seconds, "resident_mb": measured.resident_mb()}
        address = f"127.0.0.1:{navarch.grpc_port}"
        plan = load.Plan(client, address, nodes, n_sidecars, is_delta=True)
        sidecars = stack.enter_context(load.connect(plan))
        sidecars.wait_in_sync(scenarios.SYNC_SECONDS)
        time.sleep(5.0)
        return {
            "start": start,
            "connected": {"sidecars": n_sidecars, "resident_mb": measured.resident_mb()},
            "endpoint": change_endpoints(api, mesh, sidecars, n_rounds),
            "idle": write_idly(api, navarch),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sidecars", type=int, default=500)
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--client", type=Path, help="a built load client")
    told = parser.parse_args()
    mesh = world.World(told.services, n_rules=told.services // 5)
    client = told.client or run.build_client("release")
    figures = measure(mesh, client, told.sidecars, told.rounds)
    print("\n".join(run.table({"delta": figures})))
    on = run.machine()
    print(f"\n{on['cpu']}, {on['n_cpus']} CPUs, {on['at']}", file=sys.stderr)


if __name__ == "__main__":
    main()
