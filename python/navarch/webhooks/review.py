"""AdmissionReview, version 1: what the API server asks and is answered (pure).

Source: k8s.io/api/admission/v1.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

API_VERSION: Final = "admission.k8s.io/v1"
_KIND: Final = "AdmissionReview"
_INVALID: Final = 422


class UnreadableError(Exception):
    """What came is no AdmissionReview of a version that is read; the message says what it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One question.

    Attributes:
        uid: Names it; the answer repeats it.
        operation: CREATE, UPDATE, DELETE or CONNECT.
        namespace: The object's; "" where its kind has none.
        name: The object's; "" where the server will make one up.
        body: The object, as it would be stored; {} for DELETE.
        before: The object as it is stored; {} for CREATE.
    """

    uid: str
    operation: str
    namespace: str
    name: str
    body: dict[str, Any]
    before: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """One reason of a refusal, by field."""

    field: str
    code: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One answer.

    Attributes:
        refusal: Why not; "" if it is allowed.
        causes: The refusal in parts.
        patch: Changes to the object, where it is allowed.
        warnings: What whoever asked is shown.
    """

    refusal: str = ""
    causes: tuple[Cause, ...] = ()
    patch: Sequence[dict[str, Any]] = ()
    warnings: tuple[str, ...] = ()


ALLOWED: Final = Verdict()


def read_request(text: bytes) -> Request:
    """Read a review.

    Raises:
        UnreadableError: It is none.
    """
    try:
        review = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"the body is no JSON: {error}"[:200]) from error
    if not isinstance(review, dict) or review.get("kind") != _KIND:
        raise UnreadableError(f"the body is no {_KIND}")
    if review.get("apiVersion") != API_VERSION:
        told = str(review.get("apiVersion"))[:80]
        raise UnreadableError(f"apiVersion must be {API_VERSION}, not {told!r}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise UnreadableError("request must be an object")
    texts = {name: request.get(name) or "" for name in ("uid", "operation", "namespace", "name")}
    if not texts["uid"] or not all(isinstance(text, str) for text in texts.values()):
        raise UnreadableError("request.uid, operation, namespace and name must be texts")
    objects = {name: request.get(name) or {} for name in ("object", "oldObject")}
    for name, value in objects.items():
        if not isinstance(value, dict):
            raise UnreadableError(f"request.{name} must be an object")
    return Request(**texts, body=objects["object"], before=objects["oldObject"])


def render_verdict(uid: str, verdict: Verdict) -> bytes:
    """Return the review that answers."""
    response: dict[str, Any] = {"uid": uid, "allowed": not verdict.refusal}
    if verdict.refusal:
        causes = [
            {"reason": cause.code, "message": cause.message, "field": cause.field}
            for cause in verdict.causes
        ]
        response["status"] = {
            "status": "Failure",
            "code": _INVALID,
            "reason": "Invalid",
            "message": verdict.refusal,
            "details": {"causes": causes},
        }
    elif verdict.patch:
        patch = json.dumps(list(verdict.patch), separators=(",", ":")).encode()
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(patch).decode()
    if verdict.warnings:
        response["warnings"] = list(verdict.warnings)
    review = {"apiVersion": API_VERSION, "kind": _KIND, "response": response}
    return json.dumps(review, separators=(",", ":")).encode()
