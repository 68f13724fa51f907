"""Writes what is made: the chart's definitions, and the manifests that `kubectl apply` takes (`make manifests`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
CHART = HERE / "chart"
DEFINITIONS = CHART / "files" / "crds.yaml"
MANIFESTS = HERE / "manifests" / "navarch.yaml"
NAMESPACE = "istio-system"
_MADE = "# Made by `make manifests`; change the chart or the models instead.\n"


def render_definitions() -> str:
    """Return the CustomResourceDefinitions."""
    from navarch.crds import manifests  # noqa: PLC0415  the chart is rendered without the package

    made = yaml.dump_all(
        manifests.build_manifests(), Dumper=yaml.CSafeDumper, sort_keys=False, width=120
    )
    return f"{_MADE}---\n{made}"


def render_chart(helm: Path, *flags: str, release: str = "navarch") -> str:
    """Return what the chart becomes.

    Raises:
        subprocess.CalledProcessError: helm refuses; `stderr` says why.
    """
    command = [str(helm), "template", release, str(CHART), "--namespace", NAMESPACE, *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def render_manifests(helm: Path) -> str:
    """Return the chart with its default values as plain manifests, its namespace first, without definitions."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE},
    }
    chart = render_chart(helm, "--set", "crds.install=false")
    return f"{_MADE}---\n{yaml.safe_dump(namespace, sort_keys=False)}{chart}"


def main() -> None:
    """Write both."""
    sys.path.insert(0, str(HERE.parent))
    from tests.kubernetes.servers import build  # noqa: PLC0415  found by the line above

    DEFINITIONS.write_text(render_definitions())
    MANIFESTS.parent.mkdir(exist_ok=True)
    MANIFESTS.write_text(render_manifests(build.find_servers().helm))
    print(f"written: {DEFINITIONS}, {MANIFESTS}")


if __name__ == "__main__":
    main()
