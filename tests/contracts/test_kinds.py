"""The registry of kinds as the other rooms use it."""

from __future__ import annotations

import re
from pathlib import Path

from navarch.crds import key_set, mesh_config, mesh_networks, registry
from navarch.ingest import batcher, reader
from navarch.sources import base
from navarch.sources.file import mesh_settings
from navarch.sources.key_sets import source as key_sets

ROOT = Path(__file__).parents[2]


def test_the_catalog_has_every_kind_once() -> None:
    entries = reader.catalog().kinds.values()
    assert sorted(entry.key_kind for entry in entries) == sorted(registry.KINDS)


def test_every_kind_is_the_cores_or_injections_or_known_to_have_no_effect() -> None:
    text = (ROOT / "rust" / "model" / "src" / "key.rs").read_text()
    (block,) = re.findall(r"^kinds! \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    core = set(re.findall(r"^    (\w+),$", block, re.MULTILINE))
    settings = {mesh_config.KEY.kind, mesh_networks.KEY.kind, key_set.KIND}
    others = reader.WITHOUT_EFFECT | reader.OF_INJECTION
    assert core - settings == registry.KINDS.keys() - others
    assert not reader.WITHOUT_EFFECT & reader.OF_INJECTION


def test_the_lane_of_endpoints_is_of_known_kinds() -> None:
    assert registry.KINDS.keys() >= batcher.ENDPOINT_KINDS


def test_every_group_of_the_mesh_has_a_kind() -> None:
    assert {kind.group for kind in registry.KINDS.values()} >= base.MESH_GROUPS


def test_settings_of_the_mesh_have_one_key() -> None:
    assert mesh_settings.MESH_CONFIG.key == mesh_config.KEY
    assert mesh_settings.MESH_NETWORKS.key == mesh_networks.KEY


def test_fetched_key_sets_have_one_kind() -> None:
    assert key_sets.KIND == key_set.KIND
