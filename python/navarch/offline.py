"""The core without a server: files in, one proxy's resources or all faults out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

from navarch import core, errors, records
from navarch.ingest import merger, reader
from navarch.sources.file import files, locate, mesh_settings, source, yaml_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TYPES: Final = ("clusters", "endpoints", "listeners", "routes", "names", "secrets", "extensions")
VIRTUAL_HOSTS: Final = "virtual_hosts"
"""Of proxies alone that get them apart from their route configurations."""
_MAX_NODES: Final = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """What is read: files or directories of objects, and the files of the mesh's configuration and networks.

    If it is strict, fields of objects that are not known are faults; else they are warnings, as where a mesh is served.
    """

    paths: tuple[Path, ...]
    mesh_config: Path | None = None
    mesh_networks: Path | None = None
    is_strict: bool = False

    def settings(self) -> dict[mesh_settings.Subject, Path]:
        """Return the files of settings that are given."""
        files = {
            mesh_settings.MESH_CONFIG: self.mesh_config,
            mesh_settings.MESH_NETWORKS: self.mesh_networks,
        }
        return {subject: path for subject, path in files.items() if path is not None}


class Mesh:
    """A mesh read once from files.

    Attributes:
        core: The core that holds it.
        diagnostics: What is wrong with the files and objects.
    """

    def __init__(self, given: Input, options: core.Options | None = None) -> None:
        """Read, check and apply all.

        Raises:
            errors.SourceError: A path can't be read.
            errors.CoreError: The core can't be made.
        """
        self.core = core.Core(options)
        self._changes: dict[records.SourceKey, bytes] = {}
        collected = _Collected()
        source.FileSource(given.paths, reader.catalog()).read_once(collected)
        merged = merger.Merger(
            reader.read_strictly if given.is_strict else reader.read_object,
            ["file", *(subject.source for subject in given.settings())],
            [reader.default_mesh_config()],
            reader.WITHOUT_EFFECT,
        )
        changes = merged.start()
        for subject, path in given.settings().items():
            collected.read_settings(subject, path)
        for origin, event in collected.events:
            changes += merged.take(origin, event)
        latest = {change.key: change for change in changes}
        faults = [*collected.diagnostics, *merged.diagnostics()]
        for fault in self.core.apply(list(latest.values())):
            place = merged.find_origin(fault.key) if fault.key else None
            faults.append(dataclasses.replace(fault, origin=place))
        self._merged = merged
        self._in_force = {k: c.payload for k, c in latest.items() if c.payload is not None}
        self.diagnostics = [locate.locate(fault) for fault in faults]

    @property
    def n_objects(self) -> int:
        """How many objects are in force, settings of the whole mesh not counted."""
        settings = {mesh_settings.MESH_CONFIG.key, mesh_settings.MESH_NETWORKS.key}
        return len(set(self._merged.keys()) - settings)

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind that are in force, in Kubernetes form."""
        found = [payload for key, payload in sorted(self._in_force.items()) if key.kind == kind]
        return [json.loads(payload) for payload in found]

    def translate(self, node: dict[str, Any]) -> dict[str, list[str]]:
        """Return a proxy's resources by type, each as the text of its protobuf JSON."""
        made = self.core.translate(json.dumps(node).encode())
        apart = {VIRTUAL_HOSTS: made[VIRTUAL_HOSTS]} if VIRTUAL_HOSTS in made else {}
        return {name: made.get(name, []) for name in TYPES} | apart

    def diagnose(self, node: dict[str, Any]) -> list[records.Diagnostic]:
        """Return what translating for a proxy has to say of the objects."""
        faults = []
        for fault in self.core.diagnose(json.dumps(node).encode()):
            place = self._merged.find_origin(fault.key) if fault.key else None
            faults.append(locate.locate(dataclasses.replace(fault, origin=place)))
        return faults

    def check_translation(self) -> list[records.Diagnostic]:
        """Diagnose for a sidecar of each namespace and a router of each gateway."""
        faults: list[records.Diagnostic] = []
        for node in self._nodes():
            try:
                faults += self.diagnose(node)
            except errors.CoreError as error:
                message = f"can't be translated for {node['id']}: {error}; please report it"
                faults.append(records.Diagnostic("translation-failed", message))
        return faults

    def _nodes(self) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for namespace in sorted({key.namespace for key in self._in_force if key.namespace}):
            yield _node("sidecar", namespace, {})
        for key, payload in sorted(self._in_force.items()):
            if key.kind == "Gateway" and len(seen) < _MAX_NODES:
                labels = json.loads(payload).get("spec", {}).get("selector", {})
                if (mark := json.dumps([key.namespace, labels], sort_keys=True)) not in seen:
                    seen.add(mark)
                    yield _node("router", key.namespace, labels)


def _node(proxy_type: str, namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    """Make up a proxy; its address is of the block for documentation, so that it is no real workload."""
    return {
        "id": f"{proxy_type}~192.0.2.1~validate.{namespace}~{namespace}.svc.cluster.local",
        "cluster": f"validate.{namespace}",
        "metadata": {"NAMESPACE": namespace, "INSTANCE_IPS": "192.0.2.1", "LABELS": labels},
    }


class _Collected:
    """A sink that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, records.SourceEvent]] = []
        self._reports: dict[str, tuple[records.Diagnostic, ...]] = {}

    @property
    def diagnostics(self) -> list[records.Diagnostic]:
        return [fault for faults in self._reports.values() for fault in faults]

    def emit(self, source: str, events: Sequence[records.SourceEvent]) -> None:
        self.events += [(source, event) for event in events]

    def report(self, source: str, subject: str, diagnostics: Sequence[records.Diagnostic]) -> None:  # noqa: ARG002
        self._reports[subject] = tuple(diagnostics)

    def read_settings(self, subject: mesh_settings.Subject, path: Path) -> None:
        """Read a file of settings; one that can't be read is reported, and the defaults hold."""
        try:
            made = mesh_settings.read_object(subject, path)
        except errors.CrdError as error:
            self._reports[str(path)] = error.diagnostics
            return
        event = records.SourceEvent(records.EventType.APPLY, made.key, made)
        self.events.append((subject.source, event))


def read_node(path: Path) -> dict[str, Any]:
    """Read an Envoy node, or a bootstrap that has one, from JSON or YAML.

    Raises:
        errors.NodeError: It can't be read, or is none.
    """
    value = _read_value(path)
    if isinstance(value, dict) and isinstance(value.get("node"), dict):
        value = value["node"]
    if not isinstance(value, dict):
        raise errors.NodeError(f"{path}: a node is an object with id, cluster and metadata")
    return value


def render_json(resources: dict[str, list[str]]) -> str:
    """Join the resources' texts into one JSON document, the form that parity.py reads."""
    parts = [f"{json.dumps(name)}: [{', '.join(texts)}]" for name, texts in resources.items()]
    return "{" + ",\n".join(parts) + "}\n"


class CaseRun:
    """Translates a tree of cases: `<case>/{input.yaml, proxies.yaml, mesh.yaml?}` to `<out>/<case>/<proxy>.json`.

    Attributes:
        n_written: How many files were written.
        faults: What failed, as `case/proxy: why` or `case: why`.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.n_written = 0
        self.faults: list[str] = []

    def translate_all(self, cases: Path) -> None:
        """Translate each case of a directory; one that fails stops no other."""
        for case in sorted(path.parent for path in cases.glob("*/input.yaml")):
            with self._guard(case.name):
                self._translate(case)

    def _translate(self, case: Path) -> None:
        settings_file = case / "mesh.yaml"
        given = Input((case / "input.yaml",), settings_file if settings_file.exists() else None)
        mesh = Mesh(given)
        for proxy in read_proxies(case / "proxies.yaml"):
            with self._guard(f"{case.name}/{proxy['name']}"):
                rendered = render_json(mesh.translate(proxy["node"]))
                target = self._out / case.name / f"{proxy['name']}.json"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(rendered, encoding="utf-8")
                self.n_written += 1

    @contextlib.contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  the one door between cases: whatever breaks one, the next runs
            self.faults.append(f"{what}: {str(error) or type(error).__name__}")


def read_proxies(path: Path) -> list[dict[str, Any]]:
    """Read a list of `{name, node}`.

    Raises:
        errors.NodeError: It can't be read, or is no such list.
    """
    value = _read_value(path)
    proxies = value if isinstance(value, list) else []
    if not proxies or not all(
        isinstance(p, dict) and p.keys() >= {"name", "node"} for p in proxies
    ):
        raise errors.NodeError(f"{path}: expected a list of objects with name and node")
    return proxies


def _read_value(path: Path) -> Any:  # noqa: ANN401  any JSON value
    try:
        return yaml_reader.read_document(files.read_text(path))
    except files.UnreadableFileError as error:
        raise errors.NodeError(f"{path}: {error}") from error
    except yaml_reader.UnreadableError as error:
        raise errors.NodeError(f"{path}:{error.line + 1}: {error.message}") from error
