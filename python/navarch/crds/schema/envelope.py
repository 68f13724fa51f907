"""The envelope of every object: apiVersion, kind, metadata; of the metadata, what the mesh reads."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import pydantic
import pydantic_core

from navarch.crds.schema import canonical, message


def _read_timestamp(value: Any) -> Any:  # noqa: ANN401 - what the parser gave
    if not isinstance(value, str | datetime.datetime):
        return value
    try:
        moment = value if isinstance(value, datetime.datetime) else _parse_timestamp(value)
        return canonical.to_timestamp(moment)
    except (ValueError, OverflowError):
        raise pydantic_core.PydanticCustomError(
            "invalid-timestamp", "is no time; write it as 2024-01-31T10:00:00Z"
        ) from None


def _parse_timestamp(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None or text[10] not in "Tt":
        raise ValueError(text)
    return moment


Timestamp = Annotated[str, pydantic.BeforeValidator(_read_timestamp)]


class Metadata(message.LenientMessage):
    """What is read of metadata; all else is dropped, so that it can't change the bytes."""

    name: str = ""
    namespace: str = ""
    labels: message.StringMap = message.EMPTY
    annotations: message.StringMap = message.EMPTY
    creation_timestamp: Timestamp | None = None
    generation: message.Int64 = 0


class Envelope(message.Message):
    """Base of each kind's object model, which adds `spec` and, where it is read, `status`."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = Metadata()


class UnreadStatus(message.LenientMessage):
    """A status that nothing reads: it is dropped, whatever it holds."""


class PlainEnvelope(Envelope):
    """Base of kinds whose status is not read."""

    status: Annotated[Any, pydantic.Field(exclude=True)] = None
