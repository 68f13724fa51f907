"""The chart, rendered by the real helm."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import yaml

from deploy import render
from tests import desk
from tests.kubernetes.servers import build

if TYPE_CHECKING:
    from pathlib import Path


class Render(Protocol):
    """Renders the chart with values; returns its objects."""

    def __call__(self, **values: Any) -> list[dict[str, Any]]: ...


@pytest.fixture(scope="session")
def helm() -> Path:
    program = build.find_servers().helm
    desk.require(program.is_file(), "helm is not built: run `make servers` (needs Go)")
    return program


@pytest.fixture
def rendered(helm: Path, tmp_path: Path) -> Render:
    def run(**values: Any) -> list[dict[str, Any]]:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump({"crds": {"install": False}} | values))
        text = render.render_chart(helm, "--values", str(file))
        return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]

    return run


@pytest.fixture
def refused(helm: Path, tmp_path: Path) -> Any:
    def run(**values: Any) -> str:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        with pytest.raises(subprocess.CalledProcessError) as told:
            render.render_chart(helm, "--values", str(file))
        return str(told.value.stderr)

    return run
