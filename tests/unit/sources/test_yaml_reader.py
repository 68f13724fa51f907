from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from navarch.sources.file import yaml_reader

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1e3", 1000),
        ("12:30:45", "12:30:45"),
        ("0755", 493),
        ("0x1f", 31),
        ("-1.5", -1.5),
        ("+5", 5),
        ("1_000", 1000),
        (".", "."),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 200, "9" * 200),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("10.96.0.1", "10.96.0.1"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("|\n  --- x\n  y", "--- x\ny\n"),
    ],
)
def test_scalars_are_what_kubernetes_makes_of_them(text: str, want: Any) -> None:
    assert yaml_reader.read_document(f"a: {text}\n") == {"a": want}


@given(JSON)
def test_json_and_the_yaml_of_it_read_the_same(value: Any) -> None:
    document = {"a": value}
    assert yaml_reader.read_document(json.dumps(document)) == document
    # Quoted, with tags: what PyYAML leaves bare follows its own rules for numbers, such as 0E0.
    assert yaml_reader.read_document(yaml.safe_dump(document, default_style='"')) == document


def test_keys_become_strings() -> None:
    read = yaml_reader.read_document("ports: {8080: {mode: DISABLE}, true: x, 1.5: y}")
    assert read == {"ports": {"8080": {"mode": "DISABLE"}, "true": "x", "1.5": "y"}}


def test_aliases_and_merges_are_written_out() -> None:
    text = "base: &b {x: 1, y: 2}\nmade:\n  <<: *b\n  y: 3\nsame: *b\n"
    read = yaml_reader.read_document(text)
    assert read["made"] == {"x": 1, "y": 3}
    assert read["same"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\na: 2\n", 1, "given twice"),
        ('{"a": 1,\n "a": 2}', 1, "given twice"),
        ("a: [1, 2\nb: 3\n", 1, "not valid YAML"),
        ("a:\n  - &x [*x]\n", 1, "no anchor before it"),
        ("a: *nowhere\n", 0, "no anchor before it"),
        ("a: !!python/object:os.system x\n", 0, "not allowed"),
        ("a: !!binary aGk=\n", 0, "not allowed"),
        ("? [a]\n: b\n", 0, "plain value"),
        ("<<: 3\n", 0, "takes a mapping"),
        ("[" * 1000, 0, "levels deep"),
        ("a: \x01\n", 0, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(yaml_reader.UnreadableError, match=message) as caught:
        yaml_reader.read_document(text)
    assert caught.value.line == line


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(yaml_reader.UnreadableError, match="aliases written out"):
        yaml_reader.read_document("\n".join(lines))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = yaml_reader.read_document(text)
    except yaml_reader.UnreadableError:
        return
    json.dumps(value, allow_nan=False)
