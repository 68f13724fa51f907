"""Durations, names and paths: the small parts under all kinds."""

from __future__ import annotations

import pytest

from navarch.crds.schema import duration, faults, message, names


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0s"),
        ("0s", "0s"),
        ("1s", "1s"),
        ("1.5s", "1.5s"),
        ("1.500000000s", "1.5s"),
        (".5s", "0.5s"),
        ("100ms", "0.1s"),
        ("1us", "0.000001s"),
        ("1µs", "0.000001s"),
        ("1ns", "0.000000001s"),
        ("1h2m3s", "3723s"),
        ("-1.5h", "-5400s"),
        ("+3m", "180s"),
    ],
)
def test_durations_are_gos(text: str, canonical: str) -> None:
    """Every duration that Go reads has one form in protobuf's JSON."""
    assert duration.canonical(text) == canonical
    assert duration.canonical(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "-", "1", "s", ".s", "1 s", "1S", "1s ", "1d", "1s2", "--1s", "1e3s", "1h 1s"],
)
def test_other_text_is_no_duration(text: str) -> None:
    """What Go does not read is refused."""
    with pytest.raises(ValueError, match=r"^"):
        duration.parse_nanoseconds(text)


def test_a_duration_has_a_limit() -> None:
    """Go's durations end at 292 years."""
    assert duration.parse_nanoseconds("9223372036s") < 2**63
    with pytest.raises(ValueError, match="9223372037s"):
        duration.parse_nanoseconds("9223372037s")


@pytest.mark.parametrize("host", ["a", "a.com", "A-1.com", "a.com.", "x" * 63])
def test_domain_names(host: str) -> None:
    """A name has labels of letters, digits and dashes; a dot may end it."""
    assert names.fault_in_fqdn(host) is None


@pytest.mark.parametrize(
    "host",
    ["", "*", "*.com", "a..b", "-a", "a-", "a_b", "a.1", "x" * 64, ".".join(["a"] * 130), "a\n"],
)
def test_no_domain_names(host: str) -> None:
    """Wildcards, empty, long and numeric parts are refused."""
    assert names.fault_in_fqdn(host) is not None


@pytest.mark.parametrize(
    ("host", "is_right"), [("*", True), ("*.a", True), ("*-x.a", True), ("a.*", False)]
)
def test_wildcards(host: str, *, is_right: bool) -> None:
    """A wildcard stands in the first label only."""
    assert (names.fault_in_wildcard_domain(host) is None) == is_right


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("10.0.0.1", True),
        ("::1", True),
        ("10.0.0.1/8", True),
        ("fd00::/64", True),
        ("10.0.0.0/255.0.0.0", False),
        ("10.0.0.0/033", False),
        ("10.0.0.0/", False),
        ("10.0.0", False),
        ("fe80::1%eth0/64", False),
        ("", False),
    ],
)
def test_subnets(text: str, *, is_right: bool) -> None:
    """A subnet is an address, or one with the length of its prefix."""
    assert names.is_subnet(text) == is_right


@pytest.mark.parametrize(
    ("value", "is_right"),
    [
        ("x", True),
        ("", True),
        ("100%%", True),
        ("%HOSTNAME%", True),
        ("a %REQ(x-y?:authority):10% b", True),
        ("%START_TIME(%s.%3f)%", True),
        ("50%", False),
        ("%START_TIME%%", False),
        ("abc%123", False),
        ("a\nb", False),
    ],
)
def test_header_values(value: str, *, is_right: bool) -> None:
    """A percent sign is doubled, or begins and ends a command."""
    assert names.is_header_value(value) == is_right


def test_header_values_take_linear_time() -> None:
    """A long value that is wrong at its end is refused at once."""
    assert not names.is_header_value("a" * 1_000_000 + "%")


@pytest.mark.parametrize(
    ("one", "other", "have_common", "is_within"),
    [
        ("a.com", "a.com", True, True),
        ("a.com", "b.com", False, False),
        ("*.a.com", "x.a.com", True, False),
        ("x.a.com", "*.a.com", True, True),
        ("*.a.com", "*.com", True, True),
        ("*.com", "*.a.com", True, False),
        ("*", "a", True, False),
        ("a", "*", True, True),
    ],
)
def test_hosts_compare(one: str, other: str, *, have_common: bool, is_within: bool) -> None:
    """Wildcards stand for any beginning."""
    assert names.host_matches(one, other) == names.host_matches(other, one) == have_common
    assert names.is_host_within(one, other) == is_within


def test_paths_are_written_as_people_do() -> None:
    """Indexes and keys that are no names stand in brackets."""
    path = ("spec", "http", 0, "match", 1, "headers", "x-user", "exact")
    assert faults.render_path(path) == "spec.http[0].match[1].headers[x-user].exact"
    assert faults.render_path(()) == ""


@pytest.mark.parametrize(
    ("name", "json_name"),
    [
        ("hosts", "hosts"),
        ("http2_max_requests", "http2MaxRequests"),
        ("consecutive_5xx_errors", "consecutive5xxErrors"),
        ("enable_64bit_trace_id", "enable64bitTraceId"),
        ("from_", "from"),
    ],
)
def test_fields_have_protobufs_json_names(name: str, json_name: str) -> None:
    """Names are made as protobuf makes them."""
    assert message.json_name(name) == json_name
