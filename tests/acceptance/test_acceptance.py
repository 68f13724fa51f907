"""Every resource generated for the parity cases is in force in a real Envoy as upstream builds it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests import desk

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
CASES: Final = ROOT / "tests" / "parity" / "cases"
N_WORKERS: Final = 2
# Accepted, but not in force here: it waits for a secret of a service in the mesh that the case has no workload of.
WAITING: Final = {"gw-sds-provider": {"gateway": ["never in force: listeners 0.0.0.0_8443"]}}
NAMES: Final = sorted(path.parent.name for path in CASES.glob("*/input.yaml"))

# A loopback that has every address, and an /etc that can be written: both are gone with the process.
SCRIPT: Final = """
ip link set lo up
ip route add local default dev lo
[ ! -e /proc/net/if_inet6 ] || ip -6 route add local default dev lo
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
exec "$@"
"""
ENTER: Final = (
    *("unshare", "--net", "--mount", "--user", "--map-root-user"),
    *("sh", "-euc", SCRIPT, "sh"),
)

pytestmark = [
    pytest.mark.extension,
    pytest.mark.envoy,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

Faults = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def faults(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """Check all selected cases at once, in network namespaces of their own."""
    has_tools = all(map(shutil.which, ("unshare", "ip")))
    may_enter = has_tools and not subprocess.run([*ENTER, "true"], check=False).returncode
    desk.require(may_enter, "needs network and mount namespaces (Debian: util-linux, iproute2)")
    names = [_case_of(item) for item in request.session.items if item.path == Path(__file__)]
    folder = tmp_path_factory.mktemp("acceptance")
    return _check([names[n::N_WORKERS] for n in range(N_WORKERS)], folder)


def _case_of(item: pytest.Item) -> str:
    return item.name.partition("[")[2].removesuffix("]")


def _check(shares: Sequence[Sequence[str]], folder: Path) -> Faults:
    files = [folder / f"{n}.json" for n in range(len(shares))]
    run = [*ENTER, sys.executable, "-m", "tests.acceptance.checker", str(CASES)]
    workers = [
        subprocess.Popen([*run, str(file), *share], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for file, share in zip(files, shares, strict=True)
    ]
    found: Faults = {}
    told = [worker.communicate()[1] for worker in workers]
    for worker, stderr, file in zip(workers, told, files, strict=True):
        assert worker.returncode == 0, stderr
        found |= json.loads(file.read_text())
    return found


@pytest.mark.parametrize("case", NAMES)
def test_envoy_accepts_every_resource(case: str, faults: Faults) -> None:
    """Nothing that any proxy of the case is sent is refused, and nothing of it is missing."""
    found = {proxy: each for proxy, each in faults[case].items() if each}
    assert found == WAITING.get(case, {})
