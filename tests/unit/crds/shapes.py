"""Strategies: objects that look like those of a kind, with something wrong here and there."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, Union

from hypothesis import strategies as st

from navarch.crds.schema import message

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = st.sampled_from(
    [
        "",
        "*",
        "a",
        "a.com",
        "*.a.com",
        "10.0.0.1",
        "10.0.0.0/8",
        "1s",
        "0s",
        "1h1ms",
        "5",
        "ns/a.com",
        "~/*",
        "unix:///s",
        "mesh",
        ".",
        "HTTP",
        "TLS",
        "a_b",
        "(",
        "100%",
        ":authority",
        "%",
        "80",
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.integers(0, 9) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
_MAX_DEPTH = 7


def spec_of(annotation: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that a field's type mostly takes: right ones often, null and anything sometimes."""
    right = _right(annotation, depth)
    return st.integers(0, 19).flatmap(
        lambda n: ANYTHING if n == 0 else st.none() if n == 1 else right
    )


def _right(annotation: Any, depth: int) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _right(args[0], depth)
    if origin in (Union, types.UnionType):
        return _right(next(arg for arg in args if arg is not types.NoneType), depth)
    if origin is typing.Literal:
        return st.sampled_from(args)
    containers: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
        tuple: lambda: st.lists(spec_of(args[0], depth + 1), max_size=2),
        dict: lambda: st.dictionaries(WORDS, spec_of(args[1], depth + 1), max_size=2),
    }
    if origin in containers:
        return containers[origin]()
    if isinstance(annotation, type) and issubclass(annotation, message.Message):
        return _message(annotation, depth)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: WORDS,
        bool: st.booleans(),
        int: st.integers(-1, 70_000) | st.just("80"),
        float: st.floats(-1, 101) | st.just("2.5"),
    }
    return simple.get(annotation, ANYTHING)


def _message(model: type[message.Message], depth: int) -> st.SearchStrategy[Any]:
    if depth > _MAX_DEPTH:
        return st.just({})
    names = sorted(model.model_fields)
    if not names:
        return st.just({})

    def field(name: str) -> st.SearchStrategy[Any]:
        return st.deferred(lambda: spec_of(model.model_fields[name].annotation, depth + 1))

    def fields(chosen: list[str]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries(
            {model.model_fields[name].alias or name: field(name) for name in chosen}
        )

    return st.lists(st.sampled_from(names), max_size=4, unique=True).flatmap(fields)
