"""The agent is a program of its own (`rust/agent`), of a few megabytes: the command gives it its place."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from navarch import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME: Final = "navarch-agent"


def find_agent() -> Path:
    """Return the program: that of this environment, else the first on the path.

    Raises:
        errors.SettingsError: There is none.
    """
    own = Path(sysconfig.get_path("scripts")) / NAME
    if own.is_file():
        return own
    found = shutil.which(NAME)
    if found is None:
        raise errors.SettingsError(
            f"{NAME} is neither in {own.parent} nor on the path: install navarch from its wheel, "
            f"or build it with `cargo build --release -p {NAME}`"
        )
    return Path(found)


def become_agent(words: Sequence[str]) -> NoReturn:
    """Replace this process by the agent: its signals, its exit code and its memory are its own.

    Raises:
        errors.SettingsError: There is no such program.
    """
    program = find_agent()
    os.execv(program, [NAME, *words])  # noqa: S606  it is to be this very process
