"""HTTP between sidecars: weights, matches, retries, timeouts, faults, headers, rewrites, redirects."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.extension, pytest.mark.envoy, pytest.mark.timeout(120)]


def test_weights_share_the_requests(lab: Lab) -> None:
    """Of many requests each version gets its share, within 4.5 standard deviations."""
    n_requests = 1_000
    replies = lab.get_many("reviews", n_requests)
    assert {(r.status, r.rule) for r in replies} == {(200, "90-10")}
    n_v2 = Counter(r.pod for r in replies)["reviews-v2"]
    assert abs(n_v2 - 0.1 * n_requests) <= 4.5 * math.sqrt(n_requests * 0.1 * 0.9)


def test_a_header_routes(lab: Lab) -> None:
    """A request with the matched header goes to the version of its rule, always."""
    replies = [lab.get("reviews", headers={"x-user": "tester"}) for _ in range(30)]
    assert {(r.pod, r.rule) for r in replies} == {("reviews-v2", "testers")}


def test_every_pod_of_a_service_answers(lab: Lab) -> None:
    """Without a rule about versions all endpoints are used, by the sidecars' default balancing."""
    assert {r.pod for r in lab.get_many("details", 60)} == {"details-1", "details-2"}


def test_retries_hide_failures(lab: Lab) -> None:
    """Two failures and a success are one success to the client and three requests to the server."""
    reply = lab.get("ratings", "/retried/", {"x-key": "hidden", "x-fail-first": "2"})
    assert (reply.status, reply.told["n_seen"]) == (200, 3)


def test_retries_end(lab: Lab) -> None:
    """Three retries are three, however often the server fails."""
    reply = lab.get("ratings", "/retried/", {"x-key": "endless", "x-fail-first": "99"})
    assert reply.status == 503
    assert lab.n_seen("ratings", "endless") == 1 + 3


def test_no_retries_is_no_retries(lab: Lab) -> None:
    """With `attempts: 0` a failure is the client's at once."""
    reply = lab.get("ratings", "/once/", {"x-key": "once", "x-fail-first": "1"})
    assert (reply.status, reply.told["n_seen"]) == (503, 1)


def test_a_timeout_cuts_off(lab: Lab) -> None:
    """A request that takes longer than the rule allows ends with 504 when the time is over."""
    reply = lab.get("ratings", "/timed/", {"x-sleep": "3"})
    assert reply.status == 504
    assert 0.35 <= reply.seconds < 3  # the server's answer would take 3
    assert lab.get("ratings", "/timed/", {"x-sleep": "0"}).status == 200


def test_an_abort_reaches_no_server(lab: Lab) -> None:
    """An injected abort answers with its status, and the server sees nothing."""
    reply = lab.get("ratings", "/aborted/", {"x-key": "aborted"})
    assert reply.status == 418
    assert lab.n_seen("ratings", "aborted") == 0


def test_a_delay_comes_before_the_answer(lab: Lab) -> None:
    """An injected delay holds a request up, and lets it through then."""
    reply = lab.get("ratings", "/delayed/")
    assert (reply.status, reply.pod) == (200, "ratings-1")
    # Envoy counts from when its loop last looked at the clock.
    assert reply.seconds >= 0.45


def test_a_rewrite_changes_path_and_authority(lab: Lab) -> None:
    """The server sees the rewritten path and authority."""
    told = lab.get("ratings", "/rewritten/page?a=b").told
    assert told["path"] == "/new/page?a=b"
    assert told["headers"]["host"] == "other.lab"


def test_a_redirect_is_answered_by_the_sidecar(lab: Lab) -> None:
    """A redirect's answer names the new place."""
    reply = lab.get("ratings", "/moved/far")
    assert (reply.status, reply.headers["location"]) == (308, "http://ratings.moved/here")


def test_headers_are_set_added_and_removed(lab: Lab) -> None:
    """What the rule says of headers is done to the request and to the answer."""
    reply = lab.get("ratings", "/headers/", {"x-unwanted": "1", "x-set": "by-client"})
    assert reply.headers["x-added"] == "by-rule"
    assert reply.told["headers"]["x-set"] == "by-rule"
    assert "x-unwanted" not in reply.told["headers"]
