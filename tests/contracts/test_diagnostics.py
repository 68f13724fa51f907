"""Every diagnostic's code stands in the manual, and the manual has no other; Istio's codes are the table's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from navarch import records

ROOT = Path(__file__).parents[2]
CODE = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
GOOD_REASONS = {
    "accepted",
    "listeners-attached",
    "no-conflicts",
    "no-listeners-attached",
    "programmed",
    "resolved-refs",
}
"""Reasons of conditions that tell of no fault."""
RUST_FORMS = (
    rf'\bcode: "({CODE})"',
    rf'(?:\.(?:error|warn|info)|delegate_fault)\((?:[^"();]+(?:\([^()]*\))?,)*\s*"({CODE})"',
    # The first of a pair or triple of which a diagnostic is made, and a code chosen by `match`.
    rf'\(\s*"({CODE})",\s*(?:\n|message|format!|")',
    rf'=> "({CODE})",',
    rf'"({CODE})"\.to_owned\(\),\n\s*"(?:error|warning|info)"',
)
ONE_WORD_CODES = {"conflict", "duplicate"}


def rust_sources() -> dict[Path, str]:
    """Return the crates' sources that make diagnostics, without their tests."""
    found = {}
    for path in sorted((ROOT / "rust").glob("*/src/**/*.rs")):
        text = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
        if path.stem != "tests" and re.search(r"\b(Diagnostic|Findings|Report|TlsFault)\b", text):
            found[path] = text
    return found


def rust_codes() -> set[str]:
    codes: set[str] = set()
    for text in rust_sources().values():
        for form in RUST_FORMS:
            codes |= {code for code in re.findall(form, text) if "-" in code}
    conditions = ROOT / "rust" / "snapshot" / "src" / "gateway_api" / "condition.rs"
    reasons = set(re.findall(rf'^    \w+ = "({CODE})",$', conditions.read_text(), re.MULTILINE))
    assert reasons > GOOD_REASONS
    return codes | {f"gateway-api-{reason}" for reason in reasons - GOOD_REASONS}


def python_codes() -> set[str]:
    """Return what is given as a code: to `Diagnostic`, and to what adds a fault of an object."""
    codes: set[str] = set()
    for path in sorted((ROOT / "python").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                codes |= set(given_codes(node))
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                codes |= set(returned_codes(node.value))
    return codes


def returned_codes(given: ast.Tuple) -> list[str]:
    """Return the code of `(place, code, message)`."""
    texts = [each.value for each in given.elts[1:2] if isinstance(each, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and re.fullmatch(CODE, text)]


def given_codes(call: ast.Call) -> list[str]:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = call.args + [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    texts = [
        each.value
        for argument in given
        for each in ast.walk(argument)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]
    texts = [text for text in texts if re.fullmatch(CODE, text)]
    if name == "Diagnostic":
        return texts[:1]
    takes_code = name in {"add", "PydanticCustomError"}
    return [text for text in texts if takes_code and ("-" in text or text in ONE_WORD_CODES)]


def page_rows() -> dict[str, str]:
    """Return the codes of the manual with Istio's."""
    text = (ROOT / "docs" / "diagnostics.md").read_text()
    rows = {}
    for codes, istio in re.findall(r"^\| (`[^|]*`) \| ?(IST\d{4})? ?\| .+ \|$", text, re.MULTILINE):
        for code in re.findall(rf"`({CODE})`", codes):
            assert code not in rows, f"{code} stands twice"
            rows[code] = istio
    return rows


def test_every_code_stands_in_the_manual() -> None:
    assert sorted((rust_codes() | python_codes()) - page_rows().keys()) == []


def test_the_manual_has_no_code_that_nobody_tells() -> None:
    assert sorted(page_rows().keys() - (rust_codes() | python_codes())) == []


def test_istios_codes_in_the_manual_are_those_that_are_shown() -> None:
    shown = {code: records.Diagnostic(code, "").istio_code for code in page_rows()}
    assert page_rows() == shown
    assert records.ISTIO_CODES.keys() <= page_rows().keys()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("unknown-gateway", "Gateway n/a: spec: is wrong [unknown-gateway, IST0101]"),
        ("gateway-api-invalid", "Gateway n/a: spec: is wrong [gateway-api-invalid, IST0171]"),
        ("invalid-yaml", "Gateway n/a: spec: is wrong [invalid-yaml]"),
    ],
)
def test_a_line_ends_with_the_codes(code: str, text: str) -> None:
    key = records.SourceKey("Gateway", "n", "a")
    assert str(records.Diagnostic(code, "is wrong", key=key, field_path="spec")) == text
