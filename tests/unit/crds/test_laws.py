"""Laws that hold for any object, right or wrong."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from navarch import errors, records
from navarch.crds import mesh_config, mesh_networks, registry
from tests.unit.crds import objects, shapes


def read_twice(raw: records.RawObject) -> None:
    try:
        record = registry.read(raw)
    except errors.CrdError as error:
        told = error.diagnostics
    else:
        body: dict[str, Any] = json.loads(record.payload)
        again = registry.read(records.RawObject(raw.key, body, raw.origin))
        assert again.payload == record.payload
        return
    assert told
    assert all(diagnostic.message and diagnostic.code for diagnostic in told)


@hypothesis.given(
    st.sampled_from(sorted(registry.KINDS)),
    st.dictionaries(
        st.sampled_from(["apiVersion", "kind", "metadata", "spec", "status", "data", "ports"]),
        shapes.ANYTHING,
    ),
)
def test_any_body_gives_a_record_or_a_crd_error(kind: str, parts: dict[str, Any]) -> None:
    """Whatever a parser gives, nothing else is raised; and what is read is read again to the same bytes."""
    read_twice(objects.mk_raw(kind, {}, **parts))


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
@hypothesis.given(st.data())
def test_objects_of_each_kind_give_a_record_or_a_crd_error(kind: str, data: st.DataObject) -> None:
    """The same for objects that look like those of the kind, so that every rule is reached."""
    fields = registry.KINDS[kind].model.model_fields
    parts = {
        name: data.draw(shapes.spec_of(field.annotation))
        for name, field in fields.items()
        if name in ("spec", "status", "endpoints", "ports", "data")
    }
    read_twice(objects.mk_raw(kind, {}, **parts))


@hypothesis.given(shapes.spec_of(mesh_config.MeshConfig) | shapes.ANYTHING)
def test_any_settings_give_bytes_or_a_crd_error(body: Any) -> None:
    """The same for the settings of the mesh."""
    try:
        payload = mesh_config.read_mesh_config(body)
    except errors.CrdError:
        return
    assert mesh_config.read_mesh_config(json.loads(payload)) == payload


@hypothesis.given(shapes.spec_of(mesh_networks.MeshNetworks) | shapes.ANYTHING)
def test_any_networks_give_bytes_or_a_crd_error(body: Any) -> None:
    """The same for the networks of the mesh."""
    try:
        payload = mesh_networks.read_mesh_networks(body)
    except errors.CrdError:
        return
    assert mesh_networks.read_mesh_networks(json.loads(payload)) == payload
