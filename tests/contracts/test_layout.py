"""The house's outward rules: sizes, plates, names, and no file that nobody reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 600
MAX_TEST_LINES = 800
MAX_PLATE_LINES = 12
FORBIDDEN = re.compile(r"(^|_)(utils?|helpers?|common|misc|manager|handler2|info|context)(_|$)")
PLATE_PARTS = ("In", "Out", "Never")


def sources(*folders: str, suffix: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob(f"*{suffix}")]
    skipped = {"target", "node_modules", "__pycache__", "cases"}
    return sorted(path for path in found if not skipped & set(path.relative_to(ROOT).parts))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


PYTHON = sources("python", suffix=".py")
RUST = sources("rust", "benches", suffix=".rs")
TESTS = sources("tests", suffix=".py")


def test_no_file_is_longer_than_the_house_allows() -> None:
    lengths = {path: path.read_text().count("\n") for path in [*PYTHON, *RUST, *TESTS]}
    limits = {path: MAX_TEST_LINES if "tests" in path.parts else MAX_LINES for path in lengths}
    too_long = {name(p): n for p, n in lengths.items() if n > limits[p]}
    assert too_long == {}


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [name(p) for p in [*PYTHON, *RUST, *TESTS] if FORBIDDEN.search(p.stem)] == []


def plate(path: Path) -> list[str]:
    """Return the lines of a door's plate, without markup."""
    text = path.read_text()
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").split("\n")
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if not line.startswith("//!")), len(lines))
    return [line.removeprefix("//!").strip().replace("**", "") for line in lines[:end]]


DOORS = [p for p in PYTHON if p.name == "__init__.py"] + sorted(
    (ROOT / "rust").glob("*/src/lib.rs")
)


@pytest.mark.parametrize("door", DOORS, ids=name)
def test_each_door_says_what_it_does_takes_gives_and_never_does(door: Path) -> None:
    lines = plate(door)
    assert len(lines[0]) > 10, "the first sentence says what the room does"
    for part in PLATE_PARTS:
        said = [line for line in lines if re.match(rf"{part}\s*[:—-]", line)]
        assert len(said) == 1, f"the plate has no line for {part}"
    assert len(lines) <= MAX_PLATE_LINES


def imported_modules() -> set[str]:
    found = set()
    for path in [*PYTHON, *TESTS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return found


def test_every_python_module_is_imported_by_something() -> None:
    used = imported_modules() | {"navarch.__main__", "navarch.cli"}
    dead = []
    for path in PYTHON:
        parts = path.relative_to(ROOT / "python").with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not any(each == module or each.startswith(f"{module}.") for each in used):
            dead.append(name(path))
    assert dead == []


def parents(path: Path) -> list[Path]:
    """Return the files that may declare a Rust module."""
    folder = path.parent
    return [folder / "lib.rs", folder / "main.rs", folder.with_suffix(".rs")]


def test_every_rust_file_is_a_module_of_its_crate() -> None:
    dead = []
    for path in RUST:
        is_root = path.name in ("lib.rs", "main.rs", "build.rs")
        if is_root or path.parent.name in ("benches", "examples", "fuzz_targets", "tests", "bin"):
            continue
        declares = re.compile(rf"^\s*(pub(\([^)]*\))? )?mod {path.stem}\b", re.MULTILINE)
        texts = [parent.read_text() for parent in parents(path) if parent.exists()]
        if not any(declares.search(text) for text in texts):
            dead.append(name(path))
    assert dead == []


def test_nothing_is_promised_without_a_number() -> None:
    """Notes of work to be done carry the issue that will do it."""
    note = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
    texts = {path: path.read_text() for path in [*PYTHON, *RUST, *TESTS] if path != Path(__file__)}
    assert [name(path) for path, text in texts.items() if note.search(text)] == []


def test_the_version_is_the_same_everywhere() -> None:
    want = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    cargo = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    package = re.search(r'__version__ = "(.+)"', (ROOT / "python/navarch/__init__.py").read_text())
    assert want
    assert cargo
    assert package
    assert want[1] == cargo[1] == package[1]
