"""Names, hosts, addresses: what form they must have.

Each `fault_in_…` returns what is wrong, as the end of a sentence that begins with the field's name, or None.
Sources: Istio's pkg/config/labels, pkg/config/host, pkg/config/validation/agent; Go's net/netip.
"""

from __future__ import annotations

import functools
import ipaddress
import re

import re2  # type: ignore[import-untyped]  # the package has no types

UNIX_PREFIX = "unix://"
MAX_PORT = 65535
MAX_REGEX_LENGTH = 1024
"""Istio's bound; the size of a compiled program is what Envoy bounds, and it is always larger than the text."""

_MAX_DOMAIN_LENGTH = 255
_CACHE_SIZE = 8192
_LABEL_TEXT = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_LABEL = re.compile(rf"(?=.{{1,63}}\Z){_LABEL_TEXT}", re.DOTALL)
_WILDCARD_LABEL = re.compile(rf"(?=.{{1,63}}\Z)(?:\*|(?:\*|\*-)?{_LABEL_TEXT})", re.DOTALL)
_LABEL_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_PREFIX = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_LABEL_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_LABEL_PREFIX}/)?{_LABEL_NAME}", re.IGNORECASE)
_LABEL_VALUE = re.compile(rf"(?:{_LABEL_NAME})?")
_HEADER_NAME = re.compile(r"[-_A-Za-z0-9]+")
_HEADER_VALUE = re.compile(r"(?:[^%\x00-\x08\x0a-\x1f\x7f]++|%%|%[^%()]+(?:\([^)]*\)[^%()]*)?%)*+")
"""Literal text, an escaped percent sign, or one of Envoy's %COMMAND(arguments)%."""

HTTP_PROTOCOLS = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
TLS_PROTOCOLS = frozenset({"https", "tls"})
PROTOCOLS = HTTP_PROTOCOLS | TLS_PROTOCOLS | {"tcp", "udp", "mongo", "redis", "mysql", "hbone"}
"""In lower case; the API takes any case."""


def is_label(text: str) -> bool:
    """Tell whether this is one label of a DNS name."""
    return _LABEL.fullmatch(text) is not None


def is_header_name(text: str) -> bool:
    """Tell whether this is an HTTP header's name."""
    return _HEADER_NAME.fullmatch(text) is not None


def is_header_value(text: str) -> bool:
    """Tell whether Envoy takes this as a header's value, percent signs escaped or forming a command."""
    return _HEADER_VALUE.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """Tell whether Kubernetes takes this as a label's key."""
    return _LABEL_KEY.fullmatch(text) is not None


def is_label_value(text: str) -> bool:
    """Tell whether Kubernetes takes this as a label's value."""
    return _LABEL_VALUE.fullmatch(text) is not None


@functools.lru_cache(_CACHE_SIZE)
def is_address(text: str) -> bool:
    """Tell whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@functools.lru_cache(_CACHE_SIZE)
def is_subnet(text: str) -> bool:
    """Tell whether this is an address, or a subnet in CIDR notation."""
    address, slash, length = text.partition("/")
    if not slash:
        return is_address(text)
    if not is_address(address) or "%" in address or not (length.isascii() and length.isdigit()):
        return False
    return int(length[:4]) <= ipaddress.ip_address(address).max_prefixlen and (
        length == "0" or length[0] != "0"
    )


def _fault_in_labels(domain: str) -> str | None:
    labels = domain.split(".")
    if labels[-1].isascii() and labels[-1].isdigit():
        return f"ends in the number {labels[-1]!r}, which no domain name does"
    if labels[-1] == "":
        labels.pop()
    for label in labels:
        if not is_label(label):
            return f"has the invalid part {label!r}; use letters, digits and dashes, at most 63 of them"
    return None


def _fault_in_length(domain: str) -> str | None:
    if not domain:
        return "is empty; name a host"
    if len(domain) > _MAX_DOMAIN_LENGTH:
        return f"is longer than {_MAX_DOMAIN_LENGTH} characters"
    return None


@functools.lru_cache(_CACHE_SIZE)
def fault_in_fqdn(domain: str) -> str | None:
    """Say what is wrong with a domain name."""
    return _fault_in_length(domain) or _fault_in_labels(domain)


@functools.lru_cache(_CACHE_SIZE)
def fault_in_wildcard_domain(domain: str) -> str | None:
    """Say what is wrong with a domain name whose first label may be or begin with `*`."""
    fault = _fault_in_length(domain)
    if fault is not None:
        return fault
    first, dot, rest = domain.partition(".")
    if not _WILDCARD_LABEL.fullmatch(first):
        return f"has the invalid part {first!r}; use letters, digits, dashes, or * for the whole first part"
    return _fault_in_labels(rest) if dot else None


def fault_in_partial_wildcard(host: str) -> str | None:
    """Say that a `*` stands for less than the whole first label."""
    if "*" in host and host != "*" and not host.startswith("*."):
        return "has a partial wildcard; write * or *.domain"
    return None


def fault_in_unix_path(path: str) -> str | None:
    """Say what is wrong with the path of a Unix domain socket (after `unix://`); `@name` is abstract."""
    if not path:
        return "names no socket; write unix:///path/to/socket"
    if path.startswith("@"):
        return None
    if not path.startswith("/") or path.endswith("/"):
        return "is no absolute path of a file; write unix:///path/to/socket"
    return None


@functools.lru_cache(_CACHE_SIZE)
def fault_in_regex(pattern: str) -> str | None:
    """Say what is wrong with a regular expression in RE2's syntax."""
    if not pattern:
        return "is an empty regular expression; write .* to match anything"
    if len(pattern.encode(errors="replace")) > MAX_REGEX_LENGTH:
        return f"is longer than {MAX_REGEX_LENGTH} bytes; split it into several matches"
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        return f"is no RE2 regular expression: {_first_words(error)}; see github.com/google/re2/wiki/Syntax"
    return None


def _first_words(error: Exception) -> str:
    reason = error.args[0] if error.args else "invalid"
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def host_matches(host: str, other: str) -> bool:
    """Tell whether two hosts, each maybe with a wildcard, have a name in common (Istio: host.Name.Matches)."""
    host_is_wild, other_is_wild = host.startswith("*"), other.startswith("*")
    if host_is_wild and other_is_wild:
        shorter, longer = sorted((host[1:], other[1:]), key=len)
        return longer.endswith(shorter)
    if host_is_wild:
        return other.endswith(host[1:])
    if other_is_wild:
        return host.endswith(other[1:])
    return host == other


def is_host_within(host: str, outer: str) -> bool:
    """Tell whether all names that a host stands for belong to another (Istio: host.Name.SubsetOf)."""
    if outer.startswith("*"):
        if host.startswith("*"):
            return host[1:].endswith(outer[1:])
        return host.endswith(outer[1:])
    return host == outer
