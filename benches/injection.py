"""Measures the injection webhook from outside: `python -m benches.injection` (README.md says how to read it).

Pods of 1 to 3 containers, with probes, are asked about over HTTPS, by one client after another and by several at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import math
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

_START_SECONDS: Final = 60.0
_WARM_UP: Final = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """How long answers took, in milliseconds."""

    n_pods: int
    n_clients: int
    median_ms: float
    p99_ms: float
    max_ms: float
    pods_per_second: float


def make_pod(number: int) -> dict[str, Any]:
    """Return a pod as a Deployment's ReplicaSet creates it."""
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5}
    containers = [
        {
            "name": f"app-{each}",
            "image": f"app:{number}",
            "ports": [{"name": "http", "containerPort": 8080 + each}],
            "readinessProbe": probe,
            "livenessProbe": probe,
            "env": [{"name": f"V{k}", "value": str(k)} for k in range(10)],
        }
        for each in range(1 + number % 3)
    ]
    name = f"web-{number}-5d4f8c7b9"
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "controller": True}
    metadata = {
        "generateName": f"{name}-",
        "labels": {"app": f"web-{number}", "version": "v1", "pod-template-hash": "5d4f8c7b9"},
        "annotations": {"prometheus.io/port": "9090"},
        "ownerReferences": [reference],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers},
    }


def make_review(number: int) -> bytes:
    """Return the question that the API server asks about a pod."""
    request = {
        "uid": f"uid-{number}",
        "operation": "CREATE",
        "namespace": "shop",
        "object": make_pod(number),
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(review).encode()


class Client:
    """One connection that is kept, as the API server keeps its own."""

    def __init__(self, port: int, roots: Path) -> None:
        tls = ssl.create_default_context(cafile=str(roots))
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=tls)

    def ask(self, body: bytes) -> float:
        """Ask about one pod; return the seconds until the answer was read."""
        began = time.perf_counter()
        self._connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse().read()
        took = time.perf_counter() - began
        assert b'"patchType":"JSONPatch"' in answer, answer[:300]
        return took

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def measure(port: int, roots: Path, n_pods: int, n_clients: int) -> Times:
    """Ask about pods by several clients at once."""
    bodies = [make_review(number) for number in range(n_pods)]
    took: list[float] = []

    def work(own: list[bytes]) -> None:
        with contextlib.closing(Client(port, roots)) as client:
            for body in own[:_WARM_UP]:
                client.ask(body)
            took.extend([client.ask(body) for body in own])

    threads = [
        threading.Thread(target=work, args=(bodies[each::n_clients],)) for each in range(n_clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    took.sort()
    return Times(
        n_pods,
        n_clients,
        median_ms=took[len(took) // 2] * 1000,
        p99_ms=took[math.ceil(len(took) * 0.99) - 1] * 1000,
        max_ms=took[-1] * 1000,
        pods_per_second=n_pods / seconds,
    )


def run(n_pods: int, n_clients: tuple[int, ...]) -> list[Times]:
    """Start `navarch serve` with webhooks on a mesh of one file, and measure each number of clients."""
    with tempfile.TemporaryDirectory(prefix="navarch-bench-") as name:
        folder = Path(name)
        certificates, mesh, log = folder / "certificates", folder / "mesh", folder / "log"
        mesh.mkdir()
        certificates.mkdir()
        _make_certificate(certificates)
        flags = {
            "--config-dir": str(mesh),
            "--webhook-certificates": str(certificates),
            "--https-address": "127.0.0.1:0",
            "--grpc-address": "127.0.0.1:0",
            "--http-address": "127.0.0.1:0",
        }
        command = [sys.executable, "-m", "navarch", "serve", *(t for f in flags.items() for t in f)]
        with log.open("w") as out, subprocess.Popen(command, stderr=out) as process:
            try:
                port = _wait_for_port(log)
                roots = certificates / "ca.crt"
                return [measure(port, roots, n_pods, each) for each in n_clients]
            finally:
                process.terminate()


def _make_certificate(folder: Path) -> None:
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"))
    command = ["openssl", "req", "-x509", *kind, *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")


def _wait_for_port(log: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if found := re.search(r"webhooks on 127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    told = parser.parse_args()
    print("clients   median      p99      max    pods/s")
    for each in run(told.pods, tuple(told.clients)):
        print(
            f"{each.n_clients:7d} {each.median_ms:7.2f}ms {each.p99_ms:6.2f}ms"
            f" {each.max_ms:6.2f}ms {each.pods_per_second:9.0f}"
        )


if __name__ == "__main__":
    main()
