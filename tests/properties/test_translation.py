"""What a proxy gets is a matter of what the mesh is, never of how it came to be so."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from navarch import core, records
from tests.properties import histories

pytestmark = [pytest.mark.extension, pytest.mark.timeout(300)]

Translation = list[dict[str, list[str]]]
PLACES = st.lists(st.integers(0, 100), max_size=4)


def translate(mesh: core.Core) -> Translation:
    return [mesh.translate(json.dumps(node).encode()) for node in histories.NODES]


def replay(batches: list[list[records.Change]]) -> core.Core:
    mesh = core.Core()
    for batch in batches:
        mesh.apply(batch)
    return mesh


def last_good(history: list[records.Change]) -> list[records.Change]:
    """Return what is in force at the end, a change for each key."""
    state: dict[records.SourceKey, records.Change] = {}
    for change in history:
        if change.payload is None:
            state.pop(change.key, None)
        elif change.payload != histories.BROKEN:
            state[change.key] = change
    return [state[key] for key in sorted(state)]


@histories.share(25)
@hypothesis.given(histories.HISTORIES, PLACES, st.data())
def test_cutting_and_reordering_change_nothing(
    history: list[records.Change], places: list[int], data: st.DataObject
) -> None:
    whole = replay([history])
    other = data.draw(histories.reordered(history))
    assert translate(replay(histories.cut(other, places))) == translate(whole)


@histories.share(15)
@hypothesis.given(histories.HISTORIES, PLACES)
def test_incremental_is_as_from_scratch(history: list[records.Change], places: list[int]) -> None:
    """Translating on the way, which fills the caches, leaves no trace."""
    mesh = core.Core()
    for batch in histories.cut(history, places):
        mesh.apply(batch)
        translate(mesh)
    assert translate(mesh) == translate(replay([last_good(history)]))


@histories.share(12)
@hypothesis.given(histories.HISTORIES)
def test_the_same_again_changes_nothing(history: list[records.Change]) -> None:
    mesh = replay([history])
    before = translate(mesh)
    told = mesh.diagnostics()
    mesh.apply(last_good(history))
    assert translate(mesh) == before
    broken = {change.key for change in history if change.payload == histories.BROKEN}
    for diagnostic in told:
        assert diagnostic in mesh.diagnostics() or diagnostic.key in broken


@histories.share(8)
@hypothesis.given(histories.HISTORIES, st.data())
def test_going_back_gives_what_was(history: list[records.Change], data: st.DataObject) -> None:
    """Undoing changes, as an editor's undo does, leads to the same answers."""
    mesh = replay([history])
    before = translate(mesh)
    good = {change.key: change for change in last_good(history)}
    detour = data.draw(histories.HISTORIES)
    mesh.apply(detour)
    translate(mesh)
    mesh.apply([good.get(c.key, records.Change(c.key, None)) for c in detour])
    assert translate(mesh) == before


@histories.share(20)
@hypothesis.given(histories.HISTORIES)
def test_every_resource_that_is_named_is_there(history: list[records.Change]) -> None:
    """An EDS cluster without endpoints, or a listener without its routes, would stay warming for ever."""
    for resources in translate(replay([history])):
        clusters = [json.loads(text) for text in resources["clusters"]]
        wanted = {
            c.get("eds_cluster_config", {}).get("service_name") or c["name"]
            for c in clusters
            if c.get("type") == "EDS"
        }
        endpoints = {json.loads(text)["cluster_name"] for text in resources["endpoints"]}
        assert wanted <= endpoints
        routes = {json.loads(text)["name"] for text in resources["routes"]}
        named: set[str] = set()
        for text in resources["listeners"]:
            _find_route_names(json.loads(text), named)
        assert named <= routes


def _find_route_names(value: object, found: set[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("route_config_name"), str):
            found.add(value["route_config_name"])
        for each in value.values():
            _find_route_names(each, found)
    elif isinstance(value, list):
        for each in value:
            _find_route_names(each, found)
