"""AuthorizationPolicy (security.istio.io): who may do what on a workload.

Sources: istio.io/api security/v1beta1/authorization_policy.proto; Istio's pkg/config/validation, pkg/config/security.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from navarch.crds.schema import matching, message, names, policy_rules, rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from navarch.crds.schema import envelope, faults


class Source(message.Message):
    """Who: all of the fields that are given must hold, one entry of each."""

    principals: message.Listed[str] = ()
    not_principals: message.Listed[str] = ()
    request_principals: message.Listed[str] = ()
    not_request_principals: message.Listed[str] = ()
    namespaces: message.Listed[str] = ()
    not_namespaces: message.Listed[str] = ()
    ip_blocks: message.Listed[str] = ()
    not_ip_blocks: message.Listed[str] = ()
    remote_ip_blocks: message.Listed[str] = ()
    not_remote_ip_blocks: message.Listed[str] = ()
    service_accounts: message.Listed[str] = ()
    not_service_accounts: message.Listed[str] = ()
    trust_domains: message.Listed[str] = ()
    not_trust_domains: message.Listed[str] = ()


class Operation(message.Message):
    """What: all of the fields that are given must hold, one entry of each."""

    hosts: message.Listed[str] = ()
    not_hosts: message.Listed[str] = ()
    ports: message.Listed[str] = ()
    not_ports: message.Listed[str] = ()
    methods: message.Listed[str] = ()
    not_methods: message.Listed[str] = ()
    paths: message.Listed[str] = ()
    not_paths: message.Listed[str] = ()


class From(message.Message):
    """One entry of `from`."""

    source: Source | None = None


class To(message.Message):
    """One entry of `to`."""

    operation: Operation | None = None


class Condition(message.Message):
    """One entry of `when`."""

    key: str = ""
    values: message.Listed[str] = ()
    not_values: message.Listed[str] = ()


class Rule(message.Message):
    """A request that fits one entry of each list; an empty rule fits any."""

    from_: Annotated[message.Listed[From], pydantic.Field(alias="from")] = ()
    to: message.Listed[To] = ()
    when: message.Listed[Condition] = ()


class Provider(message.Message):
    """The extension provider of a CUSTOM policy."""

    name: str = ""


class AuthorizationPolicy(message.Message):
    """The spec of an AuthorizationPolicy."""

    selector: matching.WorkloadSelector | None = None
    target_ref: matching.PolicyTargetReference | None = None
    target_refs: message.Listed[matching.PolicyTargetReference] = ()
    rules: message.Listed[Rule] = ()
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: Provider | None = None


SPEC = AuthorizationPolicy

DRY_RUN = "istio.io/dry-run"
_BOOLEANS = frozenset(
    {"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"}
)
_CUSTOM_FORBIDS = (
    "namespaces",
    "not_namespaces",
    "principals",
    "not_principals",
    "request_principals",
    "not_request_principals",
    "service_accounts",
    "not_service_accounts",
    "trust_domains",
    "not_trust_domains",
)
_BESIDE_ACCOUNTS = ("principals", "not_principals", "namespaces", "not_namespaces")
_ADDRESS_FIELDS = ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks")
_KEYS = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
_CUSTOM_FORBIDS_KEYS = (
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
)
_KEY_PREFIXES = ("request.headers[", "request.auth.claims[", "experimental.envoy.filters.")


def check(spec: AuthorizationPolicy, metadata: envelope.Metadata, found: faults.Faults) -> None:
    """It is attached in one way; rules say something; CUSTOM has a provider and asks for what it can know."""
    rules.check_attachment(spec.selector, spec.target_ref, spec.target_refs, found)
    if spec.action == "CUSTOM":
        if spec.provider is None or not spec.provider.name:
            message = "is required for CUSTOM; name one of the mesh's extensionProviders"
            found.add(("spec", "provider", "name"), "missing-field", message)
    elif spec.provider is not None:
        found.add(("spec", "provider"), "conflict", f"must be left out for {spec.action}")
    if spec.action in ("CUSTOM", "DENY") and not spec.rules:
        message = f"is required for {spec.action}; write rules: [{{}}] for every request"
        found.add(("spec", "rules"), "missing-field", message)
    dry_run = metadata.annotations.get(DRY_RUN)
    if dry_run is not None and (spec.action not in ("ALLOW", "DENY") or dry_run not in _BOOLEANS):
        message = "must be true or false, on a policy of ALLOW or DENY"
        found.add(("metadata", "annotations", DRY_RUN), "invalid-value", message)
    for index, rule in enumerate(spec.rules):
        _check_rule(rule, ("spec", "rules", index), found, is_custom=spec.action == "CUSTOM")


def _check_rule(rule: Rule, at: faults.Path, found: faults.Faults, *, is_custom: bool) -> None:
    for index, origin in enumerate(rule.from_):
        place = (*at, "from", index, "source")
        if origin.source is None or origin.source == Source():
            found.add(place, "missing-field", "is required and must say something")
        else:
            _check_source(origin.source, place, found, is_custom=is_custom)
    for index, target in enumerate(rule.to):
        place = (*at, "to", index, "operation")
        if target.operation is None or target.operation == Operation():
            found.add(place, "missing-field", "is required and must say something")
        else:
            _check_operation(target.operation, place, found)
    for index, condition in enumerate(rule.when):
        _check_condition(condition, (*at, "when", index), found, is_custom=is_custom)


def _check_not_empty(group: message.Message, at: faults.Path, found: faults.Faults) -> None:
    for name in group.model_fields_set:
        for index, value in enumerate(getattr(group, name)):
            if not value:
                place = (*at, message.json_name(name), index)
                found.add(place, "invalid-value", "is empty; remove it, or write * for any")


def _check_source(
    source: Source, at: faults.Path, found: faults.Faults, *, is_custom: bool
) -> None:
    _check_not_empty(source, at, found)
    for name in _ADDRESS_FIELDS:
        rules.check_subnets(getattr(source, name), (*at, message.json_name(name)), found)
    for name in _CUSTOM_FORBIDS if is_custom else ():
        if getattr(source, name):
            text = (
                "must be left out of CUSTOM policies, which are decided before identities are known"
            )
            found.add((*at, message.json_name(name)), "unsupported-field", text)
    for name in ("service_accounts", "not_service_accounts"):
        accounts = (*at, message.json_name(name))
        policy_rules.check_service_accounts(getattr(source, name), accounts, found)
    for name in ("trust_domains", "not_trust_domains"):
        domains = (*at, message.json_name(name))
        policy_rules.check_trust_domains(getattr(source, name), domains, found)
    has_accounts = source.service_accounts or source.not_service_accounts
    if has_accounts and any(getattr(source, name) for name in _BESIDE_ACCOUNTS):
        text = "must be left out beside principals and namespaces, which it contains"
        found.add((*at, "serviceAccounts"), "conflict", text)


def _check_operation(operation: Operation, at: faults.Path, found: faults.Faults) -> None:
    _check_not_empty(operation, at, found)
    for name, paths in (("paths", operation.paths), ("notPaths", operation.not_paths)):
        policy_rules.check_path_templates(paths, (*at, name), found)
    for name, ports in (("ports", operation.ports), ("notPorts", operation.not_ports)):
        _check_ports(ports, (*at, name), found)


def _check_condition(
    condition: Condition, at: faults.Path, found: faults.Faults, *, is_custom: bool
) -> None:
    key = condition.key
    is_known = key in _KEYS or key.startswith(_KEY_PREFIXES)
    if not is_known or not policy_rules.is_bracketed(key):
        text = f"must be an attribute such as source.ip or request.headers[x], not {key!r}"
        found.add((*at, "key"), "unknown-value", text)
    if not (condition.values or condition.not_values):
        found.add(at, "missing-field", "must have values or notValues")
    if is_custom and (key in _CUSTOM_FORBIDS_KEYS or key.startswith("request.auth.")):
        found.add((*at, "key"), "unsupported-field", f"must not be {key} in CUSTOM policies")
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        _check_values(key, values, (*at, name), found)


def _check_values(key: str, values: Sequence[str], at: faults.Path, found: faults.Faults) -> None:
    for index, value in enumerate(values):
        if not value:
            text = "is empty; remove it, or write * for any"
            found.add((*at, index), "invalid-value", text)
    if key in ("source.ip", "remote.ip", "destination.ip"):
        rules.check_subnets(values, at, found)
    elif key == "source.serviceAccount":
        policy_rules.check_service_accounts(values, at, found)
    elif key == "source.trustDomain":
        policy_rules.check_trust_domains(values, at, found)
    elif key == "destination.port":
        _check_ports(values, at, found)


def _check_ports(ports: Sequence[str], at: faults.Path, found: faults.Faults) -> None:
    for index, port in enumerate(ports):
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= names.MAX_PORT):
            text = f"must be a port from 1 to {names.MAX_PORT} in quotes, not {port!r}"
            found.add((*at, index), "invalid-port", text)
