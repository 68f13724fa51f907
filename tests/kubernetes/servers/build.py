"""Builds kube-apiserver, etcd, helm and Istio's agent by the pins beside this, and finds Gateway API's definitions.

The folder of a build is named after the pins, so that a cache serves any checkout and never an outdated one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_PACKAGES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "pilot_agent": "istio.io/istio/pilot/cmd/pilot-agent",
}
_DEFINITIONS: Final = "gateway_api"
_DEFINITIONS_MODULE: Final = "sigs.k8s.io/gateway-api"
_AGENT_MODULE: Final = "istio.io/istio"


@dataclasses.dataclass(frozen=True, slots=True)
class Servers:
    """Where the programs are, and the file of Gateway API's CustomResourceDefinitions.

    Attributes:
        pilot_agent: Istio's agent; `bootstrap_template` is what it makes Envoy's bootstrap of.
    """

    etcd: Path
    apiserver: Path
    helm: Path
    pilot_agent: Path
    gateway_api: Path

    @property
    def are_built(self) -> bool:
        """Whether all are there."""
        files = (self.etcd, self.apiserver, self.helm, self.gateway_api)
        agents = (self.pilot_agent, self.bootstrap_template)
        return all(path.is_file() for path in (*files, *agents))

    @property
    def bootstrap_template(self) -> Path:
        """Return the template that Istio's images have beside her agent."""
        return self.pilot_agent.with_suffix(".json")


def folder() -> Path:
    """Return where builds are kept: NAVARCH_SERVERS, else within NAVARCH_CACHE, else in the checkout."""
    if named := os.environ.get("NAVARCH_SERVERS"):
        return Path(named)
    cache = os.environ.get("NAVARCH_CACHE")
    return Path(cache) / "servers" if cache else _HERE.parents[2] / ".servers"


def find_servers() -> Servers:
    """Return where the programs of these pins are, or would be."""
    names = (*_PACKAGES, _DEFINITIONS)
    return Servers(*(folder() / f"{name}-{_pins(name)}" for name in names))


def _pins(name: str) -> str:
    files = (_HERE / name / "go.mod", _HERE / name / "go.sum")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def build(servers: Servers) -> None:
    """Build what is not there."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath"}
    for name, package in _PACKAGES.items():
        target: Path = getattr(servers, name)
        if target.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        print(f"building {package}: minutes the first time", file=sys.stderr)
        made = target.with_suffix(".new")
        command = ["go", "build", "-ldflags=-s -w", "-o", str(made.absolute()), package]
        subprocess.run(command, check=True, cwd=_HERE / name, env=environment)
        made.rename(target)
    if not servers.gateway_api.is_file():
        _write_definitions(servers.gateway_api)
    if not servers.bootstrap_template.is_file():
        istio = _module_folder("pilot_agent", _AGENT_MODULE)
        template = istio / "tools" / "packaging" / "common" / "envoy_bootstrap.json"
        servers.bootstrap_template.write_bytes(template.read_bytes())


def _write_definitions(target: Path) -> None:
    """Write the definitions of the module's standard channel into one file."""
    folder = _module_folder(_DEFINITIONS, _DEFINITIONS_MODULE) / "config" / "crd" / "standard"
    texts = [file.read_text() for file in sorted(folder.glob("gateway.networking.k8s.io_*.yaml"))]
    made = target.with_suffix(".new")
    made.write_text("\n---\n".join(texts))
    made.rename(target)


def _module_folder(name: str, module: str) -> Path:
    """Return where Go keeps a module's sources, of the version that is pinned."""
    command = ["go", "mod", "download", "-json", module]
    told = subprocess.run(command, check=True, cwd=_HERE / name, capture_output=True)
    return Path(json.loads(told.stdout)["Dir"])


def main() -> None:
    """Build all, where Go is to be had."""
    servers = find_servers()
    if not servers.are_built and shutil.which("go") is None:
        sys.exit("Go is not installed: the tests of Kubernetes need it to build kube-apiserver")
    build(servers)
    print(servers.etcd, servers.apiserver, servers.helm, servers.gateway_api, sep="\n")


if __name__ == "__main__":
    main()
