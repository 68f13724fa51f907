"""A mesh of two services that is served on loopback, and streams to it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.xds import mesh as mesh_module
from tests.xds import stream as stream_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def mesh() -> Iterator[mesh_module.Mesh]:
    """Serve the services a and b."""
    served = mesh_module.Mesh("ab")
    yield served
    served.close()


@pytest.fixture(params=[stream_module.SOTW, stream_module.DELTA])
def form(request: pytest.FixtureRequest) -> str:
    """Return each form of the protocol."""
    return str(request.param)


@pytest.fixture(params=list(stream_module.MESSAGES))
def xds(request: pytest.FixtureRequest) -> str:
    """Return each resource type."""
    return str(request.param)


@pytest.fixture
def connect(mesh: mesh_module.Mesh) -> Iterator[Callable[..., stream_module.Stream]]:
    """Open streams to the mesh, each on a connection of its own."""
    with contextlib.ExitStack() as stack:

        def open_one(
            form: str, node: dict[str, Any] | None = mesh_module.NODE, **options: Any
        ) -> stream_module.Stream:
            opened = stream_module.open_stream(mesh.address, form, node, **options)
            return stack.enter_context(opened)

        yield open_one
