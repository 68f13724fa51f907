"""Every object and every mesh configuration of the parity cases is read."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from navarch import records
from navarch.crds import mesh_config, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = pathlib.Path(__file__).parents[2] / "parity" / "cases"
NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


def raws(case: str) -> Iterator[records.RawObject]:
    text = (CASES / case / "input.yaml").read_text()
    for body in yaml.load_all(text, yaml.CSafeLoader):
        if body is None:
            continue
        kind = registry.find_kind(body["apiVersion"], body["kind"])
        assert kind is not None, f"{body['apiVersion']} {body['kind']} is none of ours"
        namespace = body["metadata"].get("namespace", "default") if kind.is_namespaced else ""
        key = records.SourceKey(kind.name, namespace, body["metadata"]["name"])
        yield records.RawObject(key, body, records.Origin("test", case))


@pytest.mark.parametrize("case", NAMES)
def test_every_object_of_the_cases_is_read(case: str) -> None:
    """Istio's admission took these objects; so do we, and the canonical form is a fixed point."""
    for raw in raws(case):
        record = registry.read(raw)
        body: dict[str, Any] = json.loads(record.payload)
        again = registry.read(records.RawObject(raw.key, body, raw.origin))
        assert again.payload == record.payload


@pytest.mark.parametrize("case", [name for name in NAMES if (CASES / name / "mesh.yaml").exists()])
def test_every_mesh_configuration_of_the_cases_is_read(case: str) -> None:
    """Istio read these settings; so do we, and the canonical form is a fixed point."""
    body = yaml.safe_load((CASES / case / "mesh.yaml").read_text())
    payload = mesh_config.read_mesh_config(body)
    assert mesh_config.read_mesh_config(json.loads(payload)) == payload
