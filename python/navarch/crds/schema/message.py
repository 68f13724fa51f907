"""The base of all models and the scalar types of Istio's API, with protobuf's JSON rules.

A field that is absent, null, or a scalar at protobuf's default is left out of canonical JSON; a message or a wrapped
scalar that is present stays. Both the camelCase and the snake_case name of a field are read.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Final, Never, TypeVar

import pydantic
import pydantic_core

from navarch.crds.schema import duration

T = TypeVar("T")


def json_name(name: str) -> str:
    """Return protobuf's JSON name of a field: `http2_max_requests` → `http2MaxRequests`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


class Message(pydantic.BaseModel):
    """A protobuf message; unknown fields and wrong types are faults."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=json_name,
        validate_by_alias=True,
        validate_by_name=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class LenientMessage(Message):
    """A message of which only some fields matter here; the others are dropped (metadata, status)."""

    model_config = pydantic.ConfigDict(extra="ignore")


class NoEntries(dict[str, Any]):
    """The default of map fields: empty for ever, and hashable, so that Pydantic shares it instead of copying."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict forbids it because dicts change; this one can't
        return 0

    def __setitem__(self, key: str, value: Any) -> Never:  # noqa: ANN401 - as in dict
        raise TypeError(key, value)


EMPTY: Final[Any] = NoEntries()

Listed = Annotated[tuple[T, ...], pydantic.Strict(False)]  # noqa: FBT003 - pydantic's own signature
"""A repeated field; a tuple, so that its default needs no copy."""
StringMap = dict[str, str]

Int32 = Annotated[int, pydantic.Field(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, pydantic.Field(ge=-(2**63), le=2**63 - 1)]
UInt32 = Annotated[int, pydantic.Field(ge=0, le=2**32 - 1)]
UInt64 = Annotated[int, pydantic.Field(ge=0, le=2**64 - 1)]
PortKey = Annotated[int, pydantic.Strict(False), pydantic.Field(ge=0, le=2**32 - 1)]  # noqa: FBT003
"""The key of a map by port number: JSON has it as a string."""
FreeForm = dict[str, Any]
"""A google.protobuf.Struct: any JSON object."""


def _read_duration(text: str) -> str:
    try:
        return duration.canonical(text)
    except ValueError:
        raise pydantic_core.PydanticCustomError(
            "invalid-duration",
            "is no duration; write a number with a unit, such as 500ms, 1.5s or 2m",
        ) from None


def _read_positive_duration(text: str) -> str:
    result = _read_duration(text)
    nanoseconds = duration.parse_nanoseconds(result)
    if nanoseconds < duration.NANOSECONDS_PER_MILLISECOND:
        raise pydantic_core.PydanticCustomError("invalid-duration", "must be at least 1ms")
    if nanoseconds % duration.NANOSECONDS_PER_MILLISECOND:
        raise pydantic_core.PydanticCustomError(
            "invalid-duration", "must be a whole number of milliseconds"
        )
    return result


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


def _read_bytes(text: str) -> str:
    unpadded = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    if _BASE64.fullmatch(text):
        try:
            return base64.b64encode(
                base64.b64decode(unpadded + "=" * (-len(unpadded) % 4))
            ).decode()
        except binascii.Error:
            pass
    raise pydantic_core.PydanticCustomError("invalid-base64", "must be text in base64")


Duration = Annotated[str, pydantic.AfterValidator(_read_duration)]
"""A duration of any length; canonical form "1.5s"."""
PositiveDuration = Annotated[str, pydantic.AfterValidator(_read_positive_duration)]
"""A duration of at least 1 ms, in whole milliseconds (Istio: agent.ValidateDuration)."""
Base64 = Annotated[str, pydantic.AfterValidator(_read_bytes)]
"""Bytes, as protobuf's JSON has them; canonical form is padded, in the standard alphabet."""
