"""A long run: sidecars under traffic while their certificates live for seconds and everything above them is replaced.

`make soak` runs it for ten minutes (`SOAK_SECONDS=N` for another time). Each round replaces the intermediate, then
starts navarch anew, once in a friendly way and once by SIGKILL. A lost request fails it, and its second is told.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.lab import agents, test_rotation
from tests.lab.traffic import Traffic

_LIFE_SECONDS: Final = 8
_ROUND_SECONDS: Final = 30.0
_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGKILL)


def run(seconds: float) -> int:
    """Run for that long; return how many requests were answered.

    Raises:
        AssertionError: A request was lost, or something was not replaced.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        agents.AgentStage(test_rotation.plan(), {"SECRET_TTL": f"{_LIFE_SECONDS}s"}) as stage,
    ):
        stage.wait_for("server")
        root = test_rotation.Root(Path(folder), "own", stage.authority)
        until = time.monotonic() + seconds
        with Traffic(lambda: stage.get("server")) as traffic:
            for number in itertools.count():
                began = time.monotonic()
                _replace(stage, root, f"number-{number}")
                stage.stop_navarch(_END_SIGNALS[number % len(_END_SIGNALS)])
                stage.start_navarch()
                test_rotation.wait_all_renewed(stage)
                print(f"round {number}: {traffic.n_answered} requests answered", flush=True)
                if time.monotonic() >= until:
                    break
                time.sleep(max(0.0, min(began + _ROUND_SECONDS, until) - time.monotonic()))
        return traffic.n_answered


def _replace(stage: agents.AgentStage, root: test_rotation.Root, name: str) -> None:
    made = root.sign_intermediate(name)
    test_rotation.write_authority(
        stage,
        root_cert=root.pem,
        ca_cert=made["ca-cert.pem"],
        cert_chain=made["cert-chain.pem"],
        ca_key=made["ca-key.pem"],
    )
    test_rotation.wait_all_renewed(stage)


def main() -> None:
    """Run, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    told = parser.parse_args()
    print(f"{run(told.seconds)} requests, none lost")


if __name__ == "__main__":
    main()
