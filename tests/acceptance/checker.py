"""Serves each case to real Envoys of its proxies, and writes what they refused or never got.

    python -m tests.acceptance.checker CASES_DIR OUT_FILE CASE...

Runs in network and mount namespaces of its own (`test_acceptance.py` makes them), so that any address and port may be
bound, and the certificates that a case names can lie where it says.
The answer is `{case: {proxy: [fault, ...]}}`. Each proxy's node is its case's less ISTIO_VERSION: an Envoy as upstream
builds it.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from navarch import offline, settings
from navarch.ops import bootstrap
from tests.lab import processes

_ADMIN: Final = settings.Address("127.0.0.1", 25_000)
_RUN: Final = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
_COMPLETE_SECONDS: Final = 8.0
# After a refusal the rest still comes within this time, or never.
_REFUSED_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.05
_REFUSAL: Final = re.compile(r"config for (\S+) rejected: (.*)")
_CERTIFICATES: Final = Path(__file__).with_name("certificates")
_FILES: Final = {
    "certificate_chain": "certificate.pem",
    "trusted_ca": "certificate.pem",
    "private_key": "private_key.pem",
    "crl": "crl.pem",
}
_TYPES: Final = ("clusters", "endpoints", "listeners", "routes")


def main() -> None:
    """Check all cases named on the command line."""
    cases, out, *names = sys.argv[1:]
    checked = {name: check_case(Path(cases) / name) for name in names}
    Path(out).write_text(json.dumps(checked))


def check_case(case: Path) -> dict[str, list[str]]:
    """Return the faults of each proxy of a case."""
    mesh_config = case / "mesh.yaml"
    given = offline.Input((case / "input.yaml",), mesh_config if mesh_config.exists() else None)
    mesh = offline.Mesh(given)
    address = settings.Address.parse(mesh.core.serve("127.0.0.1:0"), "ADS")
    faults = {}
    for proxy in offline.read_proxies(case / "proxies.yaml"):
        node = proxy["node"]
        node["metadata"].pop("ISTIO_VERSION", None)
        made = mesh.translate(node)
        wanted = {kind: _names(made[kind]) for kind in _TYPES}
        for text in made["clusters"] + made["listeners"]:
            _lay_files("", json.loads(text))
        faults[proxy["name"]] = _check_proxy(node, address, wanted)
    mesh.core.drain(0.0)
    return faults


def _names(texts: list[str]) -> set[str]:
    resources = map(json.loads, texts)
    return {str(each.get("name") or each.get("cluster_name")) for each in resources}


def _lay_files(field: str, value: Any) -> None:
    """Lay a certificate, key or revocation list at each path that a resource names."""
    if isinstance(value, list):
        for each in value:
            _lay_files(field, each)
    elif isinstance(value, dict):
        source = _CERTIFICATES / _FILES.get(field, "")
        if source.is_file() and "filename" in value:
            target = Path(value["filename"])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for name, each in value.items():
            _lay_files(name, each)


def _check_proxy(
    node: dict[str, Any], address: settings.Address, wanted: dict[str, set[str]]
) -> list[str]:
    plan = bootstrap.Plan(bootstrap.Node(id=node["id"]), address, _ADMIN)
    config = bootstrap.build_bootstrap(plan) | {"node": node}
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "envoy.json", Path(folder) / "log"
        file.write_text(json.dumps(config))
        with log.open("wb") as out:
            command = [str(processes.find_envoy()), "-c", str(file), *_RUN]
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            return _watch(_Watched(process, log, wanted))
        finally:
            process.kill()
            process.wait()


@dataclasses.dataclass(frozen=True, slots=True)
class _Watched:
    process: subprocess.Popen[bytes]
    log: Path
    wanted: dict[str, set[str]]

    def refusals(self) -> list[str]:
        text = self.log.read_text(errors="replace")
        return sorted({f"refused {kind}: {why}" for kind, why in _REFUSAL.findall(text)})

    def missing(self) -> list[str]:
        present = _present()
        return [
            f"never in force: {kind} {name}"
            for kind, names in self.wanted.items()
            for name in sorted(names - present[kind])
        ]


def _watch(watched: _Watched) -> list[str]:
    """Wait until all is in force; return what is refused or missing."""
    began = time.monotonic()
    refused_at = 0.0
    while True:
        if watched.process.poll() is not None:
            return [f"Envoy ended: {watched.log.read_text(errors='replace')[-2000:]}"]
        refusals, missing, now = watched.refusals(), watched.missing(), time.monotonic()
        if not missing:
            return refusals
        refused_at = refused_at or (now if refusals else 0.0)
        if now - began > _COMPLETE_SECONDS or (refusals and now - refused_at > _REFUSED_SECONDS):
            return refusals + missing
        time.sleep(_POLL_SECONDS)


def _present() -> dict[str, set[str]]:
    """Return the names of the resources that Envoy has in force."""
    found: dict[str, set[str]] = {kind: set() for kind in _TYPES}
    for part in _config_dump():
        for entry in part.get("dynamic_active_clusters", []):
            found["clusters"].add(entry["cluster"]["name"])
        for entry in part.get("dynamic_endpoint_configs", []):
            found["endpoints"].add(entry["endpoint_config"]["cluster_name"])
        for entry in part.get("dynamic_listeners", []):
            if "active_state" in entry:
                found["listeners"].add(entry["name"])
        for entry in part.get("dynamic_route_configs", []):
            found["routes"].add(entry["route_config"]["name"])
    return found


def _config_dump() -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(_ADMIN.host, _ADMIN.port, timeout=5)
    try:
        connection.request("GET", "/config_dump?include_eds")
        parts: list[dict[str, Any]] = json.loads(connection.getresponse().read())["configs"]
    except (OSError, http.client.HTTPException, ValueError):
        return []
    finally:
        connection.close()
    return parts


if __name__ == "__main__":
    main()
