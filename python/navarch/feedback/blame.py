"""From what proxies rejected to the mesh's own objects that the rejected resources were made of."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from navarch import errors, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CODE: Final = "rejected-by-proxy"
_TYPES: Final = {"cds": "clusters", "lds": "listeners", "rds": "routes"}
# What Istio's metadata say of a resource: the paths of the objects that it was made of.
_PATH: Final = re.compile(r"/apis/[^/\"]+/[^/\"]+/namespaces/([^/\"]+)/([a-z-]+)/([^/\"~]+)\"")
_MAX_DUMPS: Final = 3
"""Proxies that are looked at in one round: mostly many reject the same."""
_MAX_WORDS: Final = 500


class Blame:
    """Finds the objects of each rejection once, and remembers them while it lasts.

    Envoy names clusters and listeners that it rejects; a resource that is not named is not blamed on anybody.
    """

    def __init__(self, dump: Callable[[str], bytes]) -> None:
        """Take `Core.config_dump`."""
        self._dump = dump
        self._known: dict[tuple[str, str], list[records.Diagnostic]] = {}

    def collect(self, rejections: Iterable[records.Diagnostic]) -> list[records.Diagnostic]:
        """Return a diagnostic for each object that is to blame."""
        current: dict[tuple[str, str], list[records.Diagnostic]] = {}
        n_dumps = 0
        for told in rejections:
            if told.code != CODE or told.origin is None:
                continue
            words = told.message.partition(": ")[2]
            mark = (told.field_path, words)
            if mark in current:
                continue
            if mark in self._known:
                current[mark] = self._known[mark]
            elif n_dumps < _MAX_DUMPS:
                n_dumps += 1
                current[mark] = self._find(told.origin.source, told.field_path, words)
        self._known = current
        return [each for found in current.values() for each in found]

    def _find(self, proxy: str, xds: str, words: str) -> list[records.Diagnostic]:
        try:
            dump = json.loads(self._dump(proxy))
        except errors.CoreError:
            # It has gone meanwhile.
            return []
        made = {}
        for resource in dump.get(_TYPES.get(xds, ""), ()):
            name = str(resource.get("name") or "")
            if not name or not re.search(rf"(?<![\w|.-]){re.escape(name)}(?![\w|.-])", words):
                continue
            text = json.dumps(resource)
            for namespace, kind, called in _PATH.findall(text):
                key = records.SourceKey(_as_kind(kind), namespace, called)
                message = (
                    f"proxies reject the {xds.upper()} resource {name}, which is made of this object,"
                    f" and keep what they had: {words[:_MAX_WORDS]}"
                )
                made[key] = records.Diagnostic(CODE, message, key=key)
        return list(made.values())


def _as_kind(written: str) -> str:
    """Return the kind of `virtual-service`."""
    return "".join(part.capitalize() for part in written.split("-"))
