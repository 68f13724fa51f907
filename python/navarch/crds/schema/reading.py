"""Reads a value by a model: fast where it is right, and with every fault and protobuf's leniencies where it isn't."""

from __future__ import annotations

import collections.abc
import copy
import difflib
import json
import re
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar, Union

import pydantic

from navarch.crds.schema import canonical, faults, message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

    from navarch import records
    from navarch.crds.schema.faults import Faults, Path

M = TypeVar("M", bound=message.Message)

_MAX_MENDING_ROUNDS = 8
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_MAX_SHOWN = 40
_MAX_REASON = 200
_MAX_NAMES_SHOWN = 20
_WANTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_parsing": "a whole number",
    "finite_number": "a finite number",
    "string_unicode": "a string of valid Unicode",
}
_RANGE_WORDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def read_model(model: type[M], value: object, at: Path, faults: Faults) -> M | None:
    """Read a value; None if so little of it fits that no rule can be tried on it.

    What comes back while `faults` got new ones is the part that fits, good for telling further faults only.
    """
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        return _read_faulty(model, value, error, at, faults)


def read_settings(
    model: type[M],
    body: Mapping[str, Any] | None,
    check: Callable[[M, Faults], None],
    encode: Callable[[M], bytes],
    source: tuple[records.SourceKey, records.Origin | None],
) -> bytes:
    """Read settings that are no Kubernetes object (MeshConfig, MeshNetworks), check and encode them.

    Raises:
        errors.CrdError: With every fault.
    """
    found = faults.Faults()
    payload = b""
    try:
        given = dict(body) if isinstance(body, collections.abc.Mapping) else body
        value = read_model(model, {} if body is None else given, (), found)
        if value is not None:
            check(value, found)
        if value is not None and not found:
            payload = encode(value)
    except RecursionError:
        found.add((), "too-deep", "is nested too deeply; flatten it")
    except (ValueError, TypeError) as error:
        found.add((), "not-json", f"holds what JSON can't: {error}"[:_MAX_REASON])
    if found:
        raise found.to_error(*source)
    return payload


def _read_faulty(
    model: type[M], value: object, error: pydantic.ValidationError, at: Path, faults: Faults
) -> M | None:
    value = canonical.with_text_keys(copy.deepcopy(value))
    for _ in range(_MAX_MENDING_ROUNDS):
        try:
            return model.model_validate(value)
        except pydantic.ValidationError as next_error:
            error = next_error
        if not _mend(model, value, error.errors(include_url=False)):
            break
    details = error.errors(include_url=False)
    for detail in details:
        path, code, text = _describe(model, detail)
        faults.add(at + path, code, text)
    return _read_rest(model, value, details, at, faults)


def _read_rest(
    model: type[M], value: object, details: list[ErrorDetails], at: Path, faults: Faults
) -> M | None:
    """Read what is left without the faulty parts, which no rule may tell of again."""
    for detail in details:
        holder = _find_holder(value, detail["loc"])
        if not isinstance(holder, dict) or not detail["loc"]:
            return None
        holder.pop(detail["loc"][-1], None)
        faults.hide(at + detail["loc"])
    try:
        return model.model_validate(value)
    except pydantic.ValidationError:
        return None


def _find_holder(value: Any, loc: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Return the object or list that holds the last part of a path, or None."""
    for part in loc[:-1]:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _mend(model: type[message.Message], value: object, details: list[ErrorDetails]) -> bool:
    """Apply protobuf's JSON leniencies where they explain a fault; tell whether anything changed.

    null means absent; numbers may come as strings, and whole numbers as 80.0 (not for Kubernetes' own kinds, which
    pass as they are, so that what is read here must be what the core reads).
    """
    is_changed = False
    takes_any_number = not issubclass(model, message.LenientMessage)
    for detail in details:
        holder = _find_holder(value, detail["loc"])
        if not detail["loc"] or not isinstance(holder, dict | list):
            continue
        last: Any = detail["loc"][-1]
        given = detail["input"]
        if given is None:
            if isinstance(holder, dict) and _is_field(model, detail["loc"]):
                is_changed = holder.pop(last, 0) is None or is_changed
            continue
        number = _number_in(detail["type"], given) if takes_any_number else None
        if number is not None:
            holder[last] = number
            is_changed = True
    return is_changed


def _number_in(fault_type: str, given: object) -> int | float | None:
    if fault_type == "int_type":
        if isinstance(given, str) and _INTEGER.fullmatch(given):
            return int(given)
        if isinstance(given, float) and given.is_integer():
            return int(given)
    if fault_type == "float_type" and isinstance(given, str) and _NUMBER.fullmatch(given):
        return float(given)
    return None


def _strip(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no type
    """Return the annotation without Annotated and without `| None`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            rest = [arg for arg in typing.get_args(annotation) if arg is not types.NoneType]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def _type_at(model: Any, loc: Path) -> Any:  # noqa: ANN401 - annotations have no type
    """Return the type that the model wants at a path, None where it wants nothing."""
    wanted = model
    for part in loc:
        wanted = _strip(wanted)
        if isinstance(wanted, type) and issubclass(wanted, message.Message):
            fields = wanted.model_fields
            names = {field.alias: field.annotation for field in fields.values()} | {
                name: field.annotation for name, field in fields.items()
            }
            wanted = names.get(str(part))
        elif typing.get_origin(wanted) in (tuple, list):
            wanted = typing.get_args(wanted)[0]
        elif typing.get_origin(wanted) is dict:
            wanted = typing.get_args(wanted)[1]
        else:
            return None
    return _strip(wanted)


def _is_field(model: type[message.Message], loc: Path) -> bool:
    holder = _type_at(model, loc[:-1])
    return isinstance(holder, type) and issubclass(holder, message.Message)


def _describe(model: type[message.Message], detail: ErrorDetails) -> tuple[Path, str, str]:
    """Turn one of Pydantic's errors into path, code and sentence."""
    loc, kind, given = detail["loc"], detail["type"], detail["input"]
    context: dict[str, Any] = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return loc, "unknown-field", _describe_unknown_field(model, loc)
    if kind == "missing":
        return loc, "missing-field", "is required; add it"
    if kind == "literal_error":
        return loc, "unknown-value", f"must be one of {context['expected']}, not {_show(given)}"
    if kind in _RANGE_WORDS:
        name, words = _RANGE_WORDS[kind]
        return loc, "out-of-range", f"must be {words} {context[name]}, not {_show(given)}"
    if kind in _WANTED:
        remedy = ""
        if kind == "string_type" and isinstance(given, bool | int | float):
            remedy = f"; put it in quotes: {json.dumps(_show(given))}"
        return loc, "wrong-type", f"must be {_WANTED[kind]}, not {_show(given)}{remedy}"
    return loc, kind.replace("_", "-"), detail["msg"]


def _describe_unknown_field(model: type[message.Message], loc: Path) -> str:
    holder = _type_at(model, loc[:-1])
    if not (isinstance(holder, type) and issubclass(holder, message.Message)):
        return "is no field of the API; remove it"
    names = [field.alias or name for name, field in holder.model_fields.items()]
    near = difflib.get_close_matches(str(loc[-1])[:_MAX_SHOWN], names, n=1)
    if near:
        return f"is no field here; did you mean `{near[0]}`?"
    if not names:
        return "is no field here; this object takes none, remove it"
    if len(names) > _MAX_NAMES_SHOWN:
        return "is no field here; remove it, or correct its name"
    return f"is no field here; remove it, or use one of: {', '.join(sorted(names))}"


def _show(given: object) -> str:
    if given is None:
        return "null"
    if isinstance(given, dict):
        return "an object"
    if isinstance(given, list | tuple):
        return "a list"
    if isinstance(given, bool):
        return "true" if given else "false"
    text = str(given) if isinstance(given, int | float) else repr(given)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
