"""What is wrong with one object: a path into it, a stable code, a sentence with the remedy."""

from __future__ import annotations

import dataclasses
import re

from navarch import errors, records

Path = tuple[str | int, ...]

MAX_FAULTS = 100
"""More faults than this in one object are counted, not told: nobody reads them, and a 10 MB object may have 10⁶."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def render_path(at: Path) -> str:
    """Return the path as people write it: `spec.http[0].match[0].headers[x-user].exact`."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `message` is a sentence without the object's name."""

    at: Path
    code: str
    message: str


class Faults:
    """Collects the faults of one object, in the order in which they are found.

    Parts that could not be read are named with `hide`, so that rules which miss them don't tell of them again.
    """

    def __init__(self) -> None:
        self._found: list[Fault] = []
        self._hidden: list[Path] = []
        self._n_untold = 0

    def add(self, at: Path, code: str, message: str) -> None:
        """Note a fault, unless it lies on the way to a hidden part, or below one.

        A fault of the whole object, whose path is (), is always told.
        """
        if at and any(
            at == hidden[: len(at)] or hidden == at[: len(hidden)] for hidden in self._hidden
        ):
            return
        if len(self._found) < MAX_FAULTS:
            self._found.append(Fault(at, code, message))
        else:
            self._n_untold += 1

    def hide(self, at: Path) -> None:
        """Tell no further fault of this part or of what holds it."""
        if len(self._hidden) < MAX_FAULTS:
            self._hidden.append(at)

    def __bool__(self) -> bool:
        return bool(self._found)

    def to_error(
        self, key: records.SourceKey | None, origin: records.Origin | None
    ) -> errors.CrdError:
        """Return the error that tells all faults; there is at least one."""
        diagnostics = [
            records.Diagnostic(
                code=fault.code,
                message=fault.message,
                key=key,
                field_path=render_path(fault.at),
                origin=origin,
            )
            for fault in self._found
        ]
        if self._n_untold:
            message = f"has {self._n_untold} more faults; mend those told first"
            diagnostics.append(
                records.Diagnostic(code="more-faults", message=message, key=key, origin=origin)
            )
        return errors.CrdError(diagnostics)
