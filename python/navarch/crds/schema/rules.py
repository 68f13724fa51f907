"""Rules that several kinds have in common; each adds a fault for what breaks it.

Source: Istio's pkg/config/validation/validation.go and its package agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from navarch.crds.schema import matching
    from navarch.crds.schema.faults import Faults, Path

_ATTACHMENTS = frozenset(
    {
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)
CLAIM_PREFIX = "@request.auth.claims"
MAX_PERCENT = 100.0
_MIN_PERCENT = 0.0001


def check_port(number: int, at: Path, found: Faults) -> None:
    """A port number is 1 to 65535."""
    if not 1 <= number <= names.MAX_PORT:
        found.add(at, "invalid-port", f"must be a port from 1 to {names.MAX_PORT}, not {number}")


def check_wildcard_host(host: str, at: Path, found: Faults) -> None:
    """A host is a domain name, its first label maybe a wildcard."""
    fault = names.fault_in_wildcard_domain(host)
    if fault is not None:
        found.add(at, "invalid-host", fault)


def check_fqdn(host: str, at: Path, found: Faults) -> None:
    """A host is a domain name without wildcard."""
    fault = names.fault_in_fqdn(host)
    if fault is not None:
        found.add(at, "invalid-host", fault)


def check_address(address: str, at: Path, found: Faults) -> None:
    """An address is an IP address."""
    if not names.is_address(address):
        found.add(at, "invalid-address", f"must be an IP address, not {address!r}")


def check_subnets(subnets: Iterable[str], at: Path, found: Faults) -> None:
    """Each is an IP address or a subnet in CIDR notation."""
    for index, subnet in enumerate(subnets):
        if not names.is_subnet(subnet):
            message = f"must be an IP address or a subnet such as 10.0.0.0/8, not {subnet!r}"
            found.add((*at, index), "invalid-address", message)


def check_unix_path(address: str, at: Path, found: Faults) -> None:
    """What follows `unix://` is the path of a socket."""
    fault = names.fault_in_unix_path(address.removeprefix(names.UNIX_PREFIX))
    if fault is not None:
        found.add(at, "invalid-address", fault)


def check_port_name(name: str, at: Path, found: Faults) -> None:
    """A port's name is a DNS label."""
    if not name:
        found.add(at, "missing-field", "is required; name the port, such as http-web")
    elif not names.is_label(name):
        found.add(at, "invalid-name", f"must have letters, digits and dashes only, not {name!r}")


def check_protocol(protocol: str, at: Path, found: Faults, *, is_required: bool = False) -> None:
    """A protocol is one of Istio's; empty means that it is detected."""
    if protocol.lower() not in names.PROTOCOLS and (protocol or is_required):
        known = ", ".join(sorted(p.upper() for p in names.PROTOCOLS - {"hbone"}))
        found.add(at, "invalid-protocol", f"must be one of {known}, not {protocol!r}")


def check_labels(labels: Mapping[str, str], at: Path, found: Faults) -> None:
    """Keys and values are Kubernetes labels."""
    for key, value in labels.items():
        if not names.is_label_key(key):
            found.add((*at, key), "invalid-label", f"is no valid key of a label: {key!r}")
        if not names.is_label_value(value):
            message = (
                f"must be at most 63 letters, digits, dashes, dots or underscores, not {value!r}"
            )
            found.add((*at, key), "invalid-label", message)


def check_selector_labels(labels: Mapping[str, str], at: Path, found: Faults) -> None:
    """A selector has no empty keys and no wildcards."""
    for key, value in labels.items():
        if not key:
            found.add((*at, key), "invalid-label", "has an empty key; name the label")
        if "*" in key or "*" in value:
            found.add(
                (*at, key),
                "invalid-label",
                "has a wildcard, which selectors don't know; write labels out",
            )


def check_destination(destination: matching.Destination, at: Path, found: Faults) -> None:
    """A destination names a host other than `*`, and maybe a subset and a port."""
    if destination.host == "*":
        found.add((*at, "host"), "invalid-host", "must name one service, not *")
    else:
        check_wildcard_host(destination.host, (*at, "host"), found)
    if destination.subset and not names.is_label(destination.subset):
        message = f"must have letters, digits and dashes only, not {destination.subset!r}"
        found.add((*at, "subset"), "invalid-name", message)
    if destination.port is not None:
        check_port(destination.port.number, (*at, "port", "number"), found)


def check_percentage(percentage: matching.Percent | None, at: Path, found: Faults) -> None:
    """A share of requests is 0, or 0.0001 to 100 percent."""
    if percentage is None:
        return
    value = percentage.value
    if value and not _MIN_PERCENT <= value <= MAX_PERCENT:
        found.add(
            (*at, "value"), "out-of-range", f"must be 0, or from 0.0001 to 100, not {value:g}"
        )


def check_regex(pattern: str, at: Path, found: Faults) -> None:
    """A regular expression is RE2's."""
    fault = names.fault_in_regex(pattern)
    if fault is not None:
        found.add(at, "invalid-regex", fault)


def check_string_match(
    match: matching.StringMatch | None, at: Path, found: Faults, *, takes_empty_prefix: bool = False
) -> None:
    """A string match has at most one way to match, and one that can match."""
    if match is None:
        return
    ways = [way for way in ("exact", "prefix", "regex") if getattr(match, way) is not None]
    if len(ways) > 1:
        found.add(
            at,
            "conflict",
            f"must have only one of exact, prefix and regex, not {' and '.join(ways)}",
        )
        return
    if match.prefix == "" and not takes_empty_prefix:
        found.add(
            (*at, "prefix"), "invalid-value", "is empty; write the prefix, or leave the match out"
        )
    if match.regex is not None:
        check_regex(match.regex, (*at, "regex"), found)


def check_one_of(
    values: Mapping[str, object], at: Path, found: Faults, *, is_required: bool = False
) -> None:
    """At most one of the named fields is there; or exactly one."""
    given = [name for name, value in values.items() if value is not None]
    if len(given) > 1:
        found.add(at, "conflict", f"must have only one of {', '.join(given)}; remove the others")
    elif is_required and not given:
        found.add(at, "missing-field", f"must have one of {', '.join(values)}")


def check_gateway_names(gateways: Iterable[str], at: Path, found: Faults) -> None:
    """A gateway is named `mesh`, `name`, `namespace/name`, or by the old FQDN."""
    for index, gateway in enumerate(gateways):
        namespace, slash, name = gateway.partition("/")
        if not slash:
            check_fqdn(gateway, (*at, index), found)
        elif not (names.is_label(namespace) and names.is_label(name)):
            message = f"must be `mesh`, a name, or namespace/name, not {gateway!r}"
            found.add((*at, index), "invalid-name", message)


def check_export_to(
    export_to: tuple[str, ...], namespace: str, found: Faults, *, takes_nobody: bool = False
) -> None:
    """The scope has `*`, or `.` and namespaces without repetition; ServiceEntry also `~`, alone."""
    at: Path = ("spec", "exportTo")
    seen: set[str] = set()
    for index, entry in enumerate(export_to):
        scope = namespace if entry == "." else entry
        if scope in seen:
            found.add((*at, index), "duplicate", f"repeats {entry!r}; remove one")
        seen.add(scope)
        if scope not in ("*", "~") and not names.is_label(scope):
            found.add(
                (*at, index), "invalid-name", f"must be `.`, `*` or a namespace, not {entry!r}"
            )
        if scope == "~" and not takes_nobody:
            found.add(
                (*at, index),
                "invalid-name",
                "must be `.`, `*` or a namespace; `~` is for ServiceEntry",
            )
    if len(export_to) > 1:
        for alone in ("*", "~"):
            if alone in seen:
                found.add(at, "conflict", f"has {alone!r} and others; {alone!r} must stand alone")


def check_host_with_namespace(host: str, at: Path, found: Faults, *, is_gateway: bool) -> None:
    """A host of Gateway or Sidecar is `namespace/host`; gateways also take the host alone."""
    namespace, slash, name = host.partition("/")
    if not slash:
        if not is_gateway:
            message = f"must be namespace/host, such as */{host} or ./{host}; not {host!r}"
            found.add(at, "invalid-host", message)
            return
        name = host
    else:
        # `~` alone means none, `~namespace` excludes what another host of the list imports.
        wanted = namespace if is_gateway or namespace == "~" else namespace.removeprefix("~")
        special = ("*", ".") if is_gateway else ("*", ".", "~")
        if wanted not in special and not names.is_label(wanted):
            message = f"must begin with a namespace, {' or '.join(special)}; not {namespace!r}"
            found.add(at, "invalid-host", message)
    fault = _fault_in_exposed_host(name, is_gateway=is_gateway)
    if fault is not None:
        found.add(at, "invalid-host", fault)


def _fault_in_exposed_host(host: str, *, is_gateway: bool) -> str | None:
    if is_gateway and names.is_address(host):
        return None
    if host != "*" and host and "." not in host:
        return f"must be a full name, not the short name {host!r}"
    return names.fault_in_wildcard_domain(host) or names.fault_in_partial_wildcard(host)


def check_attachment(
    selector: matching.WorkloadSelector | None,
    target_ref: matching.PolicyTargetReference | None,
    target_refs: tuple[matching.PolicyTargetReference, ...],
    found: Faults,
) -> None:
    """A policy is attached by a selector or by references, and references stay in the namespace."""
    given = {
        "selector": selector,
        "targetRef": target_ref,
        "targetRefs": target_refs or None,
    }
    check_one_of(given, ("spec",), found)
    if selector is not None:
        check_selector_labels(selector.match_labels, ("spec", "selector", "matchLabels"), found)
    if target_ref is not None:
        _check_target_ref(target_ref, ("spec", "targetRef"), found)
    for index, reference in enumerate(target_refs):
        _check_target_ref(reference, ("spec", "targetRefs", index), found)


def _check_target_ref(reference: matching.PolicyTargetReference, at: Path, found: Faults) -> None:
    if not reference.name:
        found.add((*at, "name"), "missing-field", "is required; name the object to attach to")
    if reference.namespace:
        message = "must be left out: a policy attaches to objects of its own namespace only"
        found.add((*at, "namespace"), "unsupported-field", message)
    if (reference.group, reference.kind) not in _ATTACHMENTS:
        message = f"must be Gateway, GatewayClass, Service or ServiceEntry with its group, not {reference.kind!r}"
        found.add((*at, "kind"), "unknown-value", message)
