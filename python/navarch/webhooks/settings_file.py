"""The injection settings in a file, read anew when it changes (a ConfigMap that is mounted, for one)."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from navarch import errors
from navarch.injection import settings
from navarch.sources.file import yaml_reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""How old an answer may be; the file is looked at no oftener."""


class SettingsFile:
    """The settings in force: the file's last valid content, or the defaults where there is no file."""

    def __init__(self, path: Path | None, now: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            errors.SettingsError: It can't be used.
        """
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._looked_at = now()
        self._text = b"" if path is None else self._read(path)
        self._current = _parse(self._text)

    def current(self) -> settings.Settings:
        """Return the settings in force; a file that can't be used is told of once, and changes nothing."""
        if self._path is None:
            return self._current
        with self._lock:
            if self._now() - self._looked_at < LOOK_SECONDS:
                return self._current
            self._looked_at = self._now()
            try:
                text = self._read(self._path)
                if text != self._text:
                    self._text = text
                    self._current = _parse(text)
                    _log.info("injection settings of %s are in force", self._path)
            except errors.SettingsError as error:
                _log.error("%s: %s; the former settings stay in force", self._path, error)
            return self._current

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            message = f"--injection-settings {path}: {error.strerror or error}"
            raise errors.SettingsError(message) from error


def _parse(text: bytes) -> settings.Settings:
    try:
        body = yaml_reader.read_document(text.decode())
    except (ValueError, yaml_reader.UnreadableError) as error:
        raise errors.SettingsError(f"injection settings are no YAML: {error}") from error
    if not isinstance(body, dict | None):
        raise errors.SettingsError("injection settings must be one object")
    return settings.read_settings(body)
