"""Kinds whose spec is taken as any JSON object: the core reads what it knows of it.

Source: none; a kind leaves this module when it gets its own.
"""

from __future__ import annotations

import pydantic

from navarch.crds.schema import message


class FreeForm(message.Message):
    """Any object."""

    model_config = pydantic.ConfigDict(extra="allow")


SPEC = FreeForm
