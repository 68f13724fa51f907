"""Who may depend on whom among the crates; a change of these tables is a decision, with its page."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# Ours: each may use what stands before it in the flow.
EDGES = {
    "model": set(),
    "envoy": set(),
    "identity": set(),
    "authority": {"identity"},
    "snapshot": {"model"},
    "translate": {"model", "snapshot", "envoy"},
    "encode": {"model", "snapshot", "envoy", "translate"},
    "serve": {"model", "snapshot", "envoy", "encode", "identity", "authority"},
    # It reads what proxies are sent, and nothing that it is made from.
    "simulate": {"envoy", "encode"},
    # The door holds the store and the cache that the server and the offline translation share.
    "bootstrap": set(),
    # Beside Envoy, a process of its own: it knows nothing of meshes, only of frames, certificates and one process.
    "agent": {"bootstrap", "envoy", "identity"},
    "bindings": {"model", "snapshot", "encode", "serve", "simulate", "bootstrap", "authority"},
}
# Of the outside world; patterns of whole names.
OUTSIDE = {
    "model": r"serde|serde_json|xxhash-rust",
    "envoy": r"prost|prost-types|prost-reflect|base64|serde_json",
    "snapshot": r"rpds|xxhash-rust|arc-swap|smallvec",
    # Reading (x509-parser, pem) is apart from signing, so that who only reads names builds no signer.
    "identity": r"prost|prost-types|tonic|tonic-prost|rustls-pki-types|x509-parser|pem|thiserror",
    "authority": r"rcgen|aws-lc-rs|x509-parser|pem|rustls-pki-types|arc-swap|time|thiserror|zeroize",
    "translate": r"prost|prost-types|xxhash-rust",
    "encode": r"bytes|prost|prost-types|xxhash-rust|serde_json|thiserror",
    "serve": (
        r"tokio(-.+)?|tonic(-.+)?|tower(-.+)?|http(-.+)?|hyper(-.+)?|futures(-.+)?|bytes|prost|prost-types"
        r"|prometheus|serde|serde_json|thiserror|atomic-waker|tracing|arc-swap|base64"
        # TLS, tokens and digests: one cryptographic library for all of it.
        r"|rustls|aws-lc-rs|jsonwebtoken|zeroize"
    ),
    "simulate": r"base64|prost|prost-types|regex|serde|serde_json",
    "agent": (
        r"bytes|clap|fastrand|futures-core|hickory-proto|http(-body(-util)?)?|hyper(-util)?|prost|prost-types|rcgen|rustix"
        r"|rustls-pki-types|serde|serde-saphyr|serde_json|thiserror|tokio(-rustls)?|tonic|tower-service|tracing(-subscriber)?"
        r"|x509-parser|zeroize"
    ),
    "bootstrap": r"serde|serde_json|thiserror",
    "bindings": r"pyo3|serde|serde_json|thiserror|tikv-jemallocator",
}
# Never below the room, not even through another crate.
FENCES = {
    "authority": {"pyo3"},
    "encode": {"tokio", "tonic", "hyper", "h2", "pyo3", "rand", "chrono", "time", "log", "tracing"},
    "agent": {"pyo3", "navarch-translate", "navarch-model", "navarch-serve"},
    "serve": {"pyo3"},
    "simulate": {
        "tokio",
        "tonic",
        "hyper",
        "h2",
        "pyo3",
        "rand",
        "chrono",
        "time",
        "log",
        "tracing",
    },
}
DEV_ONLY = {"testkit", "adsc", "bench-push", "bench-translate"}
# Their values become resources: the order of a map that hashes would leak into bytes.
ORDERED = ("model", "snapshot", "translate", "encode")


@functools.cache
def metadata() -> dict[str, Any]:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def crates() -> dict[str, dict[str, Any]]:
    members = set(metadata()["workspace_members"])
    packages = [p for p in metadata()["packages"] if p["id"] in members]
    return {p["name"].removeprefix("navarch-"): p for p in packages}


def shipped_dependencies(package: dict[str, Any]) -> set[str]:
    return {d["name"] for d in package["dependencies"] if d["kind"] is None}


def below(crate: str) -> set[str]:
    """Return all packages that a crate's shipped code is built with."""
    nodes = {node["id"]: node for node in metadata()["resolve"]["nodes"]}
    names = {p["id"]: p["name"] for p in metadata()["packages"]}
    waiting, seen = [crates()[crate]["id"]], set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        waiting += [
            dependency["pkg"]
            for dependency in nodes[each]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
    return {names[each] for each in seen}


def test_every_crate_has_its_row() -> None:
    assert set(crates()) == set(EDGES) | DEV_ONLY
    assert all(p["name"].startswith("navarch-") for p in crates().values())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("crate", sorted(EDGES))
def test_a_crate_uses_what_stands_before_it_and_no_more(crate: str) -> None:
    used = shipped_dependencies(crates()[crate])
    ours = {each.removeprefix("navarch-") for each in used if each.startswith("navarch-")}
    assert ours - EDGES[crate] == set()
    outside = {each for each in used if not each.startswith("navarch-")}
    assert {each for each in outside if not re.fullmatch(OUTSIDE[crate], each)} == set()


@pytest.mark.parametrize("crate", sorted(FENCES))
def test_what_is_fenced_off_is_not_reached_through_another_crate(crate: str) -> None:
    assert below(crate) & FENCES[crate] == set()


def test_nothing_shipped_depends_on_what_is_for_tests() -> None:
    tests_only = {f"navarch-{each}" for each in DEV_ONLY}
    shipped = [name for name in EDGES if shipped_dependencies(crates()[name]) & tests_only]
    assert shipped == []


def test_every_crate_keeps_the_workspace_lints() -> None:
    for package in crates().values():
        manifest = Path(package["manifest_path"]).read_text()
        assert re.search(r"^\[lints\]\nworkspace = true", manifest, re.MULTILINE), package["name"]


@pytest.mark.parametrize("crate", ORDERED)
def test_rooms_whose_values_become_resources_refuse_maps_without_order(crate: str) -> None:
    own = tomllib.loads((ROOT / "rust" / crate / "clippy.toml").read_text())
    refused = {each["path"] for each in own.pop("disallowed-types")}
    assert {"std::collections::HashMap", "std::collections::HashSet"} <= refused
    # A nearer clippy.toml replaces the root one.
    assert own == tomllib.loads((ROOT / "clippy.toml").read_text())
