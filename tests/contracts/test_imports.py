"""What a process loads that does not need it."""

from __future__ import annotations

import subprocess
import sys


def test_without_a_cluster_its_client_is_not_loaded() -> None:
    # Of 61 MB it would be 9.
    program = "import sys; from navarch import app, cli; print('kubernetes' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
