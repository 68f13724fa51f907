"""Injection without a cluster: the text of a file in, the text with proxies out (`navarch inject`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from navarch import errors
from navarch.crds import mesh_config
from navarch.injection import documents, mesh_view, settings
from navarch.sources.file import documents as chunks
from navarch.sources.file import yaml_reader

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """The documents, in order, and what is to be told of them."""

    documents: list[dict[str, Any]]
    notes: list[str]


def inject_text(
    text: str, namespace: str, settings_file: Path | None, mesh_config_file: Path | None
) -> Made:
    """Put the proxy into all pods that a text of YAML or JSON describes.

    Raises:
        errors.NavarchError: The text, a file, or what a pod asks for can't be used.
    """
    told = settings.read_settings(_read_object(settings_file, "--settings"))
    body = _read_object(mesh_config_file, "--mesh-config")
    mesh = mesh_view.view_mesh(mesh_config.read_mesh_config(body))
    given = read_documents(text)
    offline = documents.prepare(given, told, mesh)
    made = Made([], [])
    for each in given:
        document, notes = documents.inject_document(each, offline, namespace)
        made.documents.append(document)
        made.notes.extend(str(note) for note in notes)
    return made


def read_documents(text: str) -> list[dict[str, Any]]:
    """Return the objects of a text of YAML or JSON.

    Raises:
        errors.SettingsError: It holds what is no object, or can't be read.
    """
    found = []
    for chunk in chunks.split(text, is_json=text.lstrip().startswith("{")):
        try:
            value = yaml_reader.read_document(chunk.text)
        except yaml_reader.UnreadableError as error:
            line = chunk.line + error.line - 1
            raise errors.SettingsError(f"line {line}: {error}") from error
        if not isinstance(value, dict):
            raise errors.SettingsError(f"line {chunk.first_line}: holds no object")
        found.append(value)
    return found


def _read_object(path: Path | None, flag: str) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = yaml_reader.read_document(path.read_text())
    except (OSError, ValueError, yaml_reader.UnreadableError) as error:
        raise errors.SettingsError(f"{flag} {path} can't be read: {error}") from error
    if not isinstance(value, dict | None):
        raise errors.SettingsError(f"{flag} {path} must hold one object")
    return value or {}
