from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navarch import records
from navarch.ingest import reader
from navarch.sources.file import documents

CATALOG = reader.catalog()


def chunks(text: str, *, is_json: bool = False) -> list[documents.Chunk]:
    return list(documents.split(text, is_json=is_json))


def parse(text: str, age: int = 0) -> documents.Parsed:
    (chunk,) = chunks(text)
    return documents.parse(chunk, "f.yaml", CATALOG, age)


def test_documents_are_split_with_their_lines() -> None:
    text = "# head\n---\n\na: 1\n--- # two\nb: |\n  --- no\n...\n---\r\n# nothing\n---\n{c: 3}"
    split = chunks(text)
    assert [chunk.first_line for chunk in split] == [4, 6, 12]
    assert [chunk.text.strip().split(":")[0] for chunk in split] == ["a", "# two\nb", "{c"]


def test_a_directive_belongs_to_the_document_after_it() -> None:
    (chunk,) = chunks("%YAML 1.1\n---\nkind: Node\napiVersion: v1\nmetadata: {name: n}\n")
    assert documents.parse(chunk, "f", CATALOG, 0).found[0].key.name == "n"


@given(st.lists(st.text("ab:{}[] \n#'\"", max_size=20), max_size=5))
def test_no_text_is_lost_by_splitting(parts: list[str]) -> None:
    """All but separators and empty documents comes back."""
    text = "\n---\n".join(parts)
    got = "".join(chunk.text for chunk in chunks(text))
    want = "".join(part for part in parts if documents._first_content(part) >= 0)
    assert "".join(got.split()) == "".join(want.split())


def test_json_values_may_stand_in_a_row() -> None:
    split = chunks('\n{"a": 1}\n{"b":\n 2} {"c": 3}\n{broken', is_json=True)
    assert [chunk.first_line for chunk in split] == [2, 3, 4, 5]


def test_equal_text_has_an_equal_digest_wherever_it_stands() -> None:
    one, two, three = chunks("\na: 1\n---\nb: 2\n---\na: 1\n")
    assert one.digest != two.digest
    assert one.digest == three.digest or one.text != three.text


def test_keys_follow_the_kind() -> None:
    gateway = "kind: Gateway\nmetadata: {name: g}\n"
    istio = parse(f"apiVersion: networking.istio.io/v1\n{gateway}").found[0].key
    kubernetes = parse(f"apiVersion: gateway.networking.k8s.io/v1\n{gateway}").found[0].key
    node = parse("apiVersion: v1\nkind: Node\nmetadata: {name: n, namespace: x}\n").found[0].key
    assert istio == records.SourceKey("Gateway", "default", "g")
    assert kubernetes == records.SourceKey("KubernetesGateway", "default", "g")
    assert node == records.SourceKey("Node", "", "n")


def test_a_list_is_its_items_and_each_item_has_its_age() -> None:
    parsed = parse(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: b}}\n"
        "- {apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: c}}\n"
        "- 3\n",
        age=5,
    )
    assert [(found.key.name, found.age) for found in parsed.found] == [
        ("a", 5),
        ("b", -1),
        ("c", 6),
    ]
    assert parsed.n_mesh == 2
    assert [(d.code, d.field_path) for d in parsed.diagnostics] == [("not-an-object", "items[3]")]


@pytest.mark.parametrize(
    ("text", "code", "field", "severity"),
    [
        ("[1]", "not-an-object", "", "error"),
        ("kind: Node", "missing-field", "apiVersion", "error"),
        ("apiVersion: v1", "missing-field", "kind", "error"),
        ("apiVersion: v1\nkind: Pod", "missing-field", "metadata.name", "error"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: 3}",
            "missing-field",
            "metadata.name",
            "error",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: [b]}",
            "wrong-type",
            "metadata.namespace",
            "error",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualServicee\nmetadata: {name: a}",
            "unknown-kind",
            "kind",
            "error",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}",
            "unknown-kind",
            "kind",
            "info",
        ),
    ],
)
def test_what_is_no_object_is_told(text: str, code: str, field: str, severity: str) -> None:
    parsed = parse(text)
    (fault,) = parsed.diagnostics
    assert not parsed.found
    assert (fault.code, fault.field_path, fault.severity) == (code, field, severity)
    assert str(fault.origin) == "f.yaml:1"


@pytest.mark.parametrize(
    "metadata", ["{name: a, namespace: shop}", "\n  labels: {x: y}\n  namespace: shop\n  name: 'a'"]
)
def test_a_broken_document_is_named_by_its_look(metadata: str) -> None:
    text = (
        f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {metadata}\nspec: [\n"
    )
    parsed = parse(text)
    assert parsed.lost == (records.SourceKey("VirtualService", "shop", "a"),)
    assert parsed.diagnostics[0].key == parsed.lost[0]
    assert not parsed.is_blind
    assert parsed.n_mesh == 1, "it keeps its place among the ages"


def test_a_broken_document_without_a_name_may_be_any() -> None:
    parsed = parse("kind: VirtualService\nspec: [\n")
    assert parsed.is_blind
    assert str(parsed.diagnostics[0].origin) == "f.yaml:2"


def test_a_document_over_the_limit_is_refused_by_name() -> None:
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: big}\nspec: "
    parsed = parse(head + "x" * documents.MAX_DOCUMENT_CHARACTERS)
    assert parsed.diagnostics[0].code == "too-large"
    assert parsed.lost == (records.SourceKey("Service", "default", "big"),)
