"""RequestAuthentication (security.istio.io): which JWTs a workload verifies.

Sources: istio.io/api security/v1beta1/request_authentication.proto; Istio's pkg/config/validation.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Literal

from navarch.crds.schema import header_rules, matching, message, rules

if TYPE_CHECKING:
    from navarch.crds.schema import envelope, faults


class JwtHeader(message.Message):
    """A header with a token, after a prefix such as `Bearer `."""

    name: str = ""
    prefix: str = ""


class ClaimToHeader(message.Message):
    """A claim that is copied into a header."""

    header: str = ""
    claim: str = ""


class JwtRule(message.Message):
    """One issuer, where its tokens are, and what is handed on."""

    issuer: str = ""
    audiences: message.Listed[str] = ()
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: message.Listed[JwtHeader] = ()
    from_params: message.Listed[str] = ()
    from_cookies: message.Listed[str] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: message.Listed[ClaimToHeader] = ()
    forward_original_token: bool = False
    timeout: message.PositiveDuration | None = None
    space_delimited_claims: message.Listed[str] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"


class RequestAuthentication(message.Message):
    """The spec of a RequestAuthentication."""

    selector: matching.WorkloadSelector | None = None
    target_ref: matching.PolicyTargetReference | None = None
    target_refs: message.Listed[matching.PolicyTargetReference] = ()
    jwt_rules: message.Listed[JwtRule] = ()


SPEC = RequestAuthentication


def check(spec: RequestAuthentication, _: envelope.Metadata, found: faults.Faults) -> None:
    """It is attached in one way; each rule names its issuer and where tokens are."""
    rules.check_attachment(spec.selector, spec.target_ref, spec.target_refs, found)
    for index, rule in enumerate(spec.jwt_rules):
        _check_rule(rule, ("spec", "jwtRules", index), found)


def _check_rule(rule: JwtRule, at: faults.Path, found: faults.Faults) -> None:
    if not rule.issuer:
        found.add((*at, "issuer"), "missing-field", "is required; write the tokens' `iss`")
    lists = {
        "audiences": rule.audiences,
        "fromParams": rule.from_params,
        "fromCookies": rule.from_cookies,
        "fromHeaders": tuple(header.name for header in rule.from_headers),
    }
    for name, values in lists.items():
        for index, value in enumerate(values):
            if not value:
                found.add((*at, name, index), "invalid-value", "is empty; name it, or remove it")
    if rule.jwks_uri and not _is_web_address(rule.jwks_uri):
        message = "must be http://host/… or https://host/…"
        found.add((*at, "jwksUri"), "invalid-value", message)
    if rule.jwks:
        _check_key_set(rule.jwks, (*at, "jwks"), found)
    for index, output in enumerate(rule.output_claim_to_headers):
        place = (*at, "outputClaimToHeaders", index)
        if not output.claim:
            found.add((*place, "claim"), "missing-field", "is required; name the claim")
        header_rules.check_name(output.header, (*place, "header"), found)


def _is_web_address(text: str) -> bool:
    try:
        address = urllib.parse.urlsplit(text)
        has_port = address.port != 0
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname) and has_port


def _check_key_set(text: str, at: faults.Path, found: faults.Faults) -> None:
    try:
        key_set = json.loads(text)
    except ValueError:
        key_set = None
    if not isinstance(key_set, dict) or not ("keys" in key_set or "kty" in key_set):
        found.add(at, "invalid-value", 'must be a JSON Web Key Set: {"keys": […]}')
