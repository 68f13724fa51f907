"""Turns a model into a structural schema, the form of OpenAPI v3 that CustomResourceDefinitions take.

No $ref, a type at every node, no additionalProperties beside properties: kubernetes.io, "Specifying a structural
schema". Number formats and bounds are those that Istio's generator writes for protobuf's types.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union

import annotated_types

from navarch.crds.schema import message

if TYPE_CHECKING:
    from collections.abc import Mapping

Schema = dict[str, Any]

ANYTHING: Final = types.MappingProxyType({"x-kubernetes-preserve-unknown-fields": True})
_DURATION: Final = typing.get_args(message.Duration)[1:]
_POSITIVE_DURATION: Final = typing.get_args(message.PositiveDuration)[1:]
_BYTES: Final = typing.get_args(message.Base64)[1:]
_MAX_INT32: Final = 2**31 - 1
_MAX_UINT32: Final = 2**32 - 1
_NULLABLE: Final = (bool, int, float)
"""Wrapped scalars; null is how protobuf's JSON may say that one is absent."""

DURATION_RULE: Final = types.MappingProxyType(
    {
        "rule": "duration(self) >= duration('1ms')",
        "message": "must be a valid duration greater than 1ms",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Constraints:
    """What a message's schema says beyond the types of its fields.

    Attributes:
        required: Fields that must be there.
        one_of: Groups of fields of which at most one may be there.
        rules: CEL rules, each a message and an expression over `self`.
        fields: Keywords by field, merged over those of its type; a value of None takes a keyword away.
        also: Older names of fields, by their present name, under which they may be written too.
    """

    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, Schema] = dataclasses.field(default_factory=dict)
    also: Mapping[str, str] = dataclasses.field(default_factory=dict)


_NO_CONSTRAINTS: Final = Constraints()
Table = typing.Mapping[type[message.Message], Constraints]


def build_schema(model: type[message.Message], table: Table) -> Schema:
    """Return the schema of a model and of all that it holds; `table` has the constraints of each model."""
    bounds = table.get(model, _NO_CONSTRAINTS)
    alternatives = {name for group in bounds.one_of for name in group}
    properties: dict[str, Schema] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        annotation: Any = field.annotation
        if field.metadata:
            annotation = Annotated[(annotation, *field.metadata)]
        schema = _build_type(annotation, table, is_alternative=key in alternatives)
        properties[key] = merge(schema, bounds.fields.get(key, {}))
    for present, older in bounds.also.items():
        properties[older] = properties[present]
    made: Schema = {"type": "object", "properties": properties}
    if model.__doc__:
        made["description"] = model.__doc__.split("\n\n")[0].strip()
    if bounds.required:
        made["required"] = sorted(bounds.required)
    if bounds.rules:
        made["x-kubernetes-validations"] = [
            {"rule": rule, "message": text} for text, rule in bounds.rules
        ]
    groups = [_at_most_one(group) for group in bounds.one_of]
    if len(groups) == 1:
        made["oneOf"] = groups[0]
    elif groups:
        made["allOf"] = [{"oneOf": group} for group in groups]
    return made


def merge(schema: Schema, over: Schema) -> Schema:
    """Return a schema with further keywords; objects are merged, None takes away."""
    made = dict(schema)
    for key, value in over.items():
        present = made.get(key)
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict) and isinstance(present, dict):
            made[key] = merge(present, value)
        else:
            made[key] = value
    return made


def _at_most_one(names: tuple[str, ...]) -> list[Schema]:
    each: list[Schema] = [{"required": [name]} for name in names]
    return [{"not": {"anyOf": each}}, *each]


def _build_type(annotation: Any, table: Table, *, is_alternative: bool = False) -> Schema:  # noqa: ANN401
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = typing.get_args(annotation)
        return _build_annotated(inner, tuple(metadata), table, is_alternative=is_alternative)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in typing.get_args(annotation) if arg is not types.NoneType)
        schema = _build_type(inner, table)
        is_wrapped = _scalar_of(inner) in _NULLABLE and not is_alternative
        return schema | {"nullable": True} if is_wrapped else schema
    if origin is Literal:
        return {"type": "string", "enum": list(typing.get_args(annotation))}
    if origin in (tuple, dict):
        return _build_collection(annotation, table)
    if isinstance(annotation, type) and issubclass(annotation, message.Message):
        return build_schema(annotation, table)
    return dict(_SCALARS[annotation])


def _build_collection(annotation: Any, table: Table) -> Schema:  # noqa: ANN401
    if annotation == message.FreeForm:
        return {"type": "object", **ANYTHING}
    values = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        return {"type": "array", "items": _build_type(values[0], table)}
    return {"type": "object", "additionalProperties": _build_type(values[1], table)}


_SCALARS: Final[Mapping[Any, Mapping[str, Any]]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number", "format": "double"},
    Any: ANYTHING,
}


def _scalar_of(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no type
    is_annotated = typing.get_origin(annotation) is Annotated
    return typing.get_args(annotation)[0] if is_annotated else annotation


def _build_annotated(
    inner: Any,  # noqa: ANN401 - annotations have no type
    metadata: tuple[Any, ...],
    table: Table,
    *,
    is_alternative: bool,
) -> Schema:
    if metadata == _POSITIVE_DURATION:
        return {"type": "string", "x-kubernetes-validations": [dict(DURATION_RULE)]}
    if metadata == _DURATION:
        return {"type": "string"}
    if metadata == _BYTES:
        return {"type": "string", "format": "binary"}
    schema = _build_type(inner, table, is_alternative=is_alternative)
    lowest = next((m.ge for m in _flat(metadata) if isinstance(m, annotated_types.Ge)), None)
    highest = next((m.le for m in _flat(metadata) if isinstance(m, annotated_types.Le)), None)
    if schema.get("type") == "integer" and highest is not None:
        return _build_integer(lowest, highest)
    return schema


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    """Pydantic's `Field(ge=, le=)` holds what it stands for in a list of its own."""
    return [each for m in metadata for each in (m, *getattr(m, "metadata", ()))]


def _build_integer(lowest: Any, highest: Any) -> Schema:  # noqa: ANN401 - annotated_types' own
    if highest == _MAX_INT32:
        return {"type": "integer", "format": "int32"}
    if highest == _MAX_UINT32:
        return {"type": "integer", "minimum": 0, "maximum": _MAX_UINT32}
    if lowest == 0:
        return {"type": "integer", "minimum": 0}
    # Protobuf's JSON writes 64 bits as text, lest they lose digits.
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
    }
