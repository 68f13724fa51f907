"""The file source on a real directory; time is the machine's, for the events are."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from navarch import errors, records
from navarch.ingest import reader
from navarch.sources.file import mesh_settings, source
from tests import fakes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def service(name: str, port: int = 80) -> str:
    head = f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{ports: [{{port: {port}}}]}}\n"


def sidecar(name: str, extra: str = "") -> str:
    head = "apiVersion: networking.istio.io/v1\nkind: Sidecar\n"
    return f"{head}metadata: {{name: {name}, namespace: shop{extra}}}\nspec: {{}}\n"


class Watched:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.sink = fakes.Recorder()
        self._stop = threading.Event()
        self._source = source.FileSource([root], reader.catalog())
        self._thread = threading.Thread(target=self._source.run, args=(self.sink, self._stop))
        self._thread.start()
        self.sink.wait_for(lambda: self.sink.n_lists == 1)

    def write(self, name: str, *documents: str) -> None:
        (self.root / name).write_text("---\n".join(documents))

    def names(self) -> list[str]:
        return sorted(key.name for key in self.sink.objects)

    def expect(self, *names: str) -> None:
        self.sink.wait_for(lambda: self.names() == sorted(names))

    def body(self, name: str) -> dict[str, object]:
        (found,) = [raw for key, raw in self.sink.objects.items() if key.name == name]
        return dict(found.body)

    def path(self, name: str) -> str:
        (found,) = [raw for key, raw in self.sink.objects.items() if key.name == name]
        return found.origin.path.removeprefix(str(self.root) + "/")

    def port(self, name: str) -> int:
        return self.body(name)["spec"]["ports"][0]["port"]  # type: ignore[no-any-return, index]

    def created(self, name: str) -> str | None:
        return self.body(name)["metadata"].get("creationTimestamp")  # type: ignore[no-any-return, attr-defined]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    running = Watched(tmp_path)
    yield running
    running.close()


def test_a_rename_over_the_file_is_a_change(watched: Watched) -> None:
    watched.write("a.yaml", service("a", 1))
    watched.expect("a")
    (watched.root / ".a.yaml.swp").write_text(service("a", 2))
    (watched.root / ".a.yaml.swp").rename(watched.root / "a.yaml")
    watched.sink.wait_for(lambda: watched.port("a") == 2)


def test_a_file_that_is_being_written_is_read_when_it_is_closed(watched: Watched) -> None:
    watched.write("a.yaml", service("a"), service("b"))
    watched.expect("a", "b")
    with (watched.root / "a.yaml").open("w") as opened:
        opened.write(service("a"))
        opened.flush()
        time.sleep(0.05)
        opened.write("---\n" + service("b", 81))
    watched.sink.wait_for(lambda: "b" in watched.names() and watched.port("b") == 81)
    assert all(event.type is not records.EventType.DELETE for event in watched.sink.events)


def test_a_broken_document_keeps_its_last_version_and_spoils_no_other(watched: Watched) -> None:
    watched.write("a.yaml", service("a", 1), sidecar("s"), service("c", 1))
    watched.expect("a", "s", "c")
    watched.write("a.yaml", service("a", 2), sidecar("s") + "x: [\n", service("c", 3))
    watched.sink.wait_for(lambda: watched.port("a") == 2 and watched.port("c") == 3)
    (fault,) = watched.sink.faults()
    assert fault.code == "invalid-yaml"
    assert fault.key == records.SourceKey("Sidecar", "shop", "s")
    time.sleep(2 * source.REMOVAL_SECONDS)
    assert watched.names() == ["a", "c", "s"]
    watched.write("a.yaml", service("a", 2), sidecar("s"), service("c", 3))
    watched.sink.wait_for(lambda: not watched.sink.faults())


def test_a_file_that_is_no_text_keeps_all_that_it_held(watched: Watched) -> None:
    watched.write("a.yaml", service("a"), service("b"))
    watched.expect("a", "b")
    (watched.root / "a.yaml").write_bytes(b"\xff\xfe")
    watched.sink.wait_for(lambda: watched.sink.codes() == ["unreadable-file"])
    time.sleep(2 * source.REMOVAL_SECONDS)
    assert watched.names() == ["a", "b"]
    (watched.root / "a.yaml").unlink()
    watched.expect()
    assert watched.sink.faults() == []


def test_the_first_file_wins_and_the_next_takes_over(watched: Watched) -> None:
    watched.write("b.yaml", service("a", 2))
    watched.expect("a")
    watched.write("a.yaml", service("x"), service("a", 1))
    watched.sink.wait_for(lambda: watched.port("a") == 1 and bool(watched.sink.faults()))
    (fault,) = watched.sink.faults()
    assert fault.code == "duplicate-object"
    assert str(fault.origin).endswith("b.yaml:1")
    assert "a.yaml:6" in fault.message
    (watched.root / "a.yaml").unlink()
    watched.sink.wait_for(lambda: watched.names() == ["a"] and watched.port("a") == 2)
    assert watched.sink.faults() == []


def test_a_move_to_another_file_is_no_deletion(watched: Watched) -> None:
    watched.write("a.yaml", service("a"))
    watched.expect("a")
    watched.write("a.yaml", "")
    watched.write("z.yaml", service("a"))
    watched.sink.wait_for(lambda: watched.path("a") == "z.yaml")
    time.sleep(2 * source.REMOVAL_SECONDS)
    assert all(event.type is not records.EventType.DELETE for event in watched.sink.events)


def test_only_what_changed_in_a_file_is_told(watched: Watched) -> None:
    watched.write("a.yaml", *(service(f"s{i}") for i in range(50)))
    watched.sink.wait_for(lambda: len(watched.names()) == 50)
    n_before = len(watched.sink.events)
    watched.write(
        "a.yaml",
        service("s0"),
        "# moves all lines\n" + service("s1", 81),
        *(service(f"s{i}") for i in range(2, 50)),
    )
    watched.sink.wait_for(lambda: watched.port("s1") == 81)
    assert len(watched.sink.events) == n_before + 1


def test_a_swapped_configmap_is_a_change_of_all_its_files(tmp_path: Path) -> None:
    for version, port in (("..1", 1), ("..2", 2)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(service("a", port))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    watched = Watched(tmp_path)
    try:
        watched.expect("a")
        assert watched.port("a") == 1
        (tmp_path / "..tmp").symlink_to("..2")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")  # noqa: PTH105  as the kubelet does
        watched.sink.wait_for(lambda: watched.port("a") == 2)
    finally:
        watched.close()


def test_a_new_folder_is_watched_with_all_below_it(watched: Watched) -> None:
    (watched.root / "x" / "y").mkdir(parents=True)
    (watched.root / "x" / "y" / "a.json").write_text(
        '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}}'
    )
    watched.expect("a")
    (watched.root / "x").rename(watched.root.parent / "elsewhere")
    watched.expect()


def test_objects_of_the_mesh_are_as_old_as_their_place_says(watched: Watched) -> None:
    watched.write(
        "a.yaml",
        sidecar("s0"),
        service("k"),
        sidecar("s1", ", creationTimestamp: 2024-05-05T00:00:00Z"),
        sidecar("s2"),
    )
    watched.expect("k", "s0", "s1", "s2")
    assert watched.created("s0") == "2023-11-14T22:13:20Z"
    assert watched.created("s1") == "2024-05-05T00:00:00Z"
    assert watched.created("s2") == "2023-11-14T22:13:22Z"
    assert watched.created("k") is None


@pytest.mark.slow
def test_two_thousand_files_are_read(tmp_path: Path) -> None:
    for i in range(2000):
        (tmp_path / f"f{i}.yaml").write_text(service(f"a{i}") + "---\n" + sidecar(f"s{i}"))
    sink = fakes.Recorder()
    source.FileSource([tmp_path], reader.catalog()).read_once(sink)
    assert len(sink.objects) == 4000


def test_a_root_that_is_a_file_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "b.yaml").write_text(service("b"))
    watched = Watched(tmp_path / "a.yaml")
    try:
        (tmp_path / "b.yaml").write_text(service("c"))
        (tmp_path / "a.yaml").write_text(service("d"))
        watched.expect("d")
    finally:
        watched.close()


def test_a_missing_root_is_a_source_error(tmp_path: Path) -> None:
    made = source.FileSource([tmp_path / "nowhere"], reader.catalog())
    with pytest.raises(errors.SourceError, match="nowhere"):
        made.read_once(fakes.Recorder())


@pytest.mark.parametrize("subject", [mesh_settings.MESH_CONFIG, mesh_settings.MESH_NETWORKS])
def test_settings_of_the_mesh_are_watched_and_survive_a_broken_file(
    tmp_path: Path, subject: mesh_settings.Subject
) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("a: a\n")
    sink, stop = fakes.Recorder(), threading.Event()
    watched = mesh_settings.MeshSettingsSource(subject, path)
    thread = threading.Thread(target=watched.run, args=(sink, stop))
    thread.start()
    try:
        sink.wait_for(lambda: sink.n_lists == 1)
        path.write_text("a: b\n")
        sink.wait_for(lambda: sink.objects[subject.key].body == {"a": "b"})
        path.write_text("a: [\n")
        sink.wait_for(lambda: sink.codes() == ["invalid-yaml"])
        path.unlink()
        sink.wait_for(lambda: sink.codes() == ["unreadable-file"])
        assert sink.objects[subject.key].body == {"a": "b"}
        path.write_text("")
        sink.wait_for(lambda: sink.objects[subject.key].body == {})
        assert sink.faults() == []
    finally:
        stop.set()
        thread.join(5)
