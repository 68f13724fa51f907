from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from navarch import records
from navarch.sources.file import files, locate

if TYPE_CHECKING:
    from pathlib import Path


def test_hidden_entries_and_other_suffixes_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "sub/c.json", "d.txt", ".e.yaml", ".git/f.yaml", "g.yaml~"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    found = {str(path.relative_to(tmp_path)) for path in files.scan([tmp_path])}
    assert found == {"a.yaml", "b.yml", "sub/c.json"}


def test_a_loop_of_symlinks_ends(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert list(files.scan([tmp_path])) == [tmp_path / "sub" / "a.yaml"]


def test_a_root_that_is_gone_is_an_error_not_emptiness(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        files.scan([tmp_path / "nowhere"])


def test_text_that_is_not_utf8_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(files.UnreadableFileError, match="byte 8, line 2"):
        files.read_text(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert files.read_text(path) == "a: 1\n"


VS = """\
# first
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [x]
  http:
  - match:
    - headers:
        x-user:
          exact: 1
    route:
    - destination:
        host: a
      weight: abc
---
kind: List
items:
- kind: Sidecar
  metadata: {name: s, namespace: shop}
  spec:
    egress: 3
"""


@pytest.mark.parametrize(
    ("kind", "name", "line", "field", "want"),
    [
        ("VirtualService", "a", 2, "spec.http[0].route[0].weight", 15),
        ("VirtualService", "a", 2, "spec.http[0].match[0].headers[x-user].exact", 11),
        ("VirtualService", "a", 2, "spec.http[0].route[3].weight", 12),
        ("VirtualService", "a", 2, "spec.tls[0]", 5),
        ("VirtualService", "a", 2, "", 2),
        ("Sidecar", "s", 17, "spec.egress", 22),
        ("VirtualService", "a", 3, "spec.http", 3),
    ],
)
def test_a_field_is_found_by_its_path(
    tmp_path: Path, kind: str, name: str, line: int, field: str, want: int
) -> None:
    """The line is that of the field, or of the part of the way to it that is there."""
    path = tmp_path / "a.yaml"
    path.write_text(VS)
    told = records.Diagnostic(
        "code",
        "message",
        key=records.SourceKey(kind, "shop", name),
        field_path=field,
        origin=records.Origin("file", str(path), line),
    )
    origin = locate.locate(told).origin
    assert origin is not None
    assert origin.line == want
