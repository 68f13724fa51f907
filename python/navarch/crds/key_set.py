"""Key sets (RFC 7517) as they are fetched for RequestAuthentications: checked and made canonical (pure).

A set that a proxy can't use would take the listener of every workload with it, so that only what is whole passes.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Final

from navarch import errors, records
from navarch.crds.schema import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND: Final = "JsonWebKeySet"

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
    "oct": ("k",),
}
"""The parameters that make a key of each type that Envoy verifies with."""

_NUMBERS: Final = frozenset({"n", "e", "x", "y", "k"})


def read_key_set(body: Mapping[str, Any], key: records.SourceKey, origin: records.Origin) -> bytes:
    """Return the record of a fetched set (`{"jwks": …}`); its keys in an order that is the same on every replica.

    Raises:
        errors.CrdError: It is no JSON Web Key Set with a key that can verify.
    """
    keys = _usable_keys(body.get("jwks"))
    if not keys:
        message = (
            "what the address gives is no JSON Web Key Set with a key of type RSA, EC, OKP or oct; the keys that were "
            "known stay in force"
        )
        fault = records.Diagnostic("invalid-key-set", message, key=key, origin=origin)
        raise errors.CrdError([fault])
    texts = sorted(canonical.encode(one).decode() for one in keys)
    return canonical.encode({"jwks": '{"keys":[' + ",".join(texts) + "]}"})


def _usable_keys(text: object) -> list[dict[str, Any]]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return []
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list):
        return []
    return [one for one in keys if isinstance(one, dict) and _is_usable(one)]


def _is_usable(one: dict[str, Any]) -> bool:
    needed = _NEEDED.get(one.get("kty", "")) if isinstance(one.get("kty"), str) else None
    if needed is None or one.get("use", "sig") != "sig":
        return False
    return all(
        isinstance(one.get(name), str) and (name not in _NUMBERS or _is_base64(one[name]))
        for name in needed
    )


def _is_base64(text: str) -> bool:
    try:
        padded = text + "=" * (-len(text) % 4)
        return bool(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return False
