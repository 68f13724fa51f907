"""Every resource generated for the parity cases is in force in a real Envoy as upstream builds it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

CASES: Final = Path(__file__).parents[1] / "parity" / "cases"
CHECKER: Final = Path(__file__).with_name("checker.py")
N_WORKERS: Final = 2
NAMES: Final = sorted(path.parent.name for path in CASES.glob("*/input.yaml"))

# Where Istio's own answer is refused by Envoy, and what Envoy says: case/proxy → part of a fault.
REFUSED: Final[dict[str, str]] = {}

pytestmark = [
    pytest.mark.extension,
    pytest.mark.envoy,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

Faults = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def faults(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """Check all selected cases at once, in network namespaces of their own."""
    enter = ["unshare", "--net", "--user", "--map-root-user"]
    probe = [*enter, "ip", "link", "set", "lo", "up"]
    if (
        not all(map(shutil.which, ("unshare", "ip")))
        or subprocess.run(probe, check=False).returncode
    ):
        pytest.skip("needs network namespaces (Debian: util-linux, iproute2)")
    names = [_case_of(item) for item in request.session.items if item.path == Path(__file__)]
    folder = tmp_path_factory.mktemp("acceptance")
    return _check([names[n::N_WORKERS] for n in range(N_WORKERS)], enter, folder)


def _case_of(item: pytest.Item) -> str:
    return item.name.partition("[")[2].removesuffix("]")


def _check(shares: Sequence[Sequence[str]], enter: Sequence[str], folder: Path) -> Faults:
    run = 'ip link set lo up && exec "$@"'
    files = [folder / f"{n}.json" for n in range(len(shares))]
    workers = [
        subprocess.Popen(
            [
                *enter,
                "sh",
                "-c",
                run,
                "sh",
                sys.executable,
                str(CHECKER),
                str(CASES),
                str(file),
                *share,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for file, share in zip(files, shares, strict=True)
    ]
    found: Faults = {}
    for worker, file in zip(workers, files, strict=True):
        _, stderr = worker.communicate()
        assert worker.returncode == 0, stderr
        found |= json.loads(file.read_text())
    return found


@pytest.mark.parametrize("case", NAMES)
def test_envoy_accepts_every_resource(case: str, faults: Faults) -> None:
    """Nothing is refused and nothing is missing; what Envoy refuses of Istio's own is known by its reason."""
    for proxy, found in faults[case].items():
        reason = REFUSED.get(f"{case}/{proxy}")
        if reason is None:
            assert found == []
        else:
            assert any(reason in fault for fault in found)
