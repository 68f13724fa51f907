"""Rules for traffic policies: pools, outlier detection, load balancers, TLS of clients and servers, retries.

Source: Istio's pkg/config/validation/validation.go and its package agent.
"""

from __future__ import annotations

import http
import math
from typing import TYPE_CHECKING

from navarch.crds.schema import names, rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from navarch.crds.schema import traffic
    from navarch.crds.schema.faults import Faults, Path

_MAGLEV_LIMIT = 5_000_011
_MAX_LOCALITY_WEIGHT = 100
_MAX_LOCALITY_PARTS = 3
_TOPOLOGY_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)
_RETRY_CONDITIONS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
_STATUS_CODES = frozenset(str(status.value) for status in http.HTTPStatus)
_POLICY_PARTS = ("load_balancer", "connection_pool", "outlier_detection", "tls")


def check_traffic_policy(policy: traffic.TrafficPolicy | None, at: Path, found: Faults) -> None:
    """A policy says something; tunnel and PROXY protocol exclude each other."""
    if policy is None:
        return
    if policy == type(policy)():
        found.add(at, "missing-field", "is empty; give it at least one setting, or remove it")
        return
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        found.add(
            at, "conflict", "must have only one of tunnel and proxyProtocol; remove the other"
        )
    _check_parts(policy, at, found)
    for index, settings in enumerate(policy.port_level_settings):
        place = (*at, "portLevelSettings", index)
        if settings.port is None:
            found.add((*place, "port"), "missing-field", "is required; write port: {number: …}")
        if all(getattr(settings, part) is None for part in _POLICY_PARTS):
            found.add(
                place,
                "missing-field",
                "sets nothing; give the port at least one setting, or remove it",
            )
        _check_parts(settings, place, found)
    if policy.tunnel is not None:
        _check_tunnel(policy.tunnel, (*at, "tunnel"), found)
    if policy.retry_budget is not None and policy.retry_budget.percent is not None:
        percent = policy.retry_budget.percent
        if not 0 <= percent <= rules.MAX_PERCENT:
            message = f"must be from 0 to 100, not {percent:g}"
            found.add((*at, "retryBudget", "percent"), "out-of-range", message)


def _check_parts(
    policy: traffic.TrafficPolicy | traffic.PortTrafficPolicy, at: Path, found: Faults
) -> None:
    if policy.outlier_detection is not None:
        check_outlier_detection(policy.outlier_detection, (*at, "outlierDetection"), found)
    if policy.connection_pool is not None:
        check_connection_pool(policy.connection_pool, (*at, "connectionPool"), found)
    if policy.load_balancer is not None:
        _check_load_balancer(policy.load_balancer, (*at, "loadBalancer"), found)
    if policy.tls is not None:
        check_client_tls(policy.tls, (*at, "tls"), found)


def _check_tunnel(tunnel: traffic.Tunnel, at: Path, found: Faults) -> None:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        found.add(
            (*at, "protocol"), "unknown-value", f"must be CONNECT or POST, not {tunnel.protocol!r}"
        )
    if not names.is_address(tunnel.target_host):
        rules.check_fqdn(tunnel.target_host, (*at, "targetHost"), found)
    rules.check_port(tunnel.target_port, (*at, "targetPort"), found)


def check_outlier_detection(outlier: traffic.OutlierDetection, at: Path, found: Faults) -> None:
    """Percentages are in range; local failures are counted only where they are told apart."""
    for name, value in (
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ):
        if not 0 <= value <= rules.MAX_PERCENT:
            found.add((*at, name), "out-of-range", f"must be from 0 to 100, not {value}")
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        message = (
            "has an effect only with splitExternalLocalOriginErrors: true; set that, or remove this"
        )
        found.add((*at, "consecutiveLocalOriginFailures"), "conflict", message)


def check_connection_pool(pool: traffic.ConnectionPool, at: Path, found: Faults) -> None:
    """A pool says something; no limit is negative."""
    if pool.http is None and pool.tcp is None:
        found.add(at, "missing-field", "is empty; give it tcp or http settings, or remove it")
    if pool.tcp is not None and pool.tcp.max_connections < 0:
        found.add((*at, "tcp", "maxConnections"), "out-of-range", "must not be negative")
    if pool.http is None:
        return
    for name, value in (
        ("http1MaxPendingRequests", pool.http.http1_max_pending_requests),
        ("http2MaxRequests", pool.http.http2_max_requests),
        ("maxRequestsPerConnection", pool.http.max_requests_per_connection),
        ("maxRetries", pool.http.max_retries),
        ("maxConcurrentStreams", pool.http.max_concurrent_streams),
    ):
        if value < 0:
            found.add((*at, "http", name), "out-of-range", "must not be negative")
    if pool.http.h2_upgrade_policy == "UPGRADE" and pool.http.use_client_protocol:
        message = "must not be true with h2UpgradePolicy: UPGRADE; remove one of them"
        found.add((*at, "http", "useClientProtocol"), "conflict", message)


def _check_load_balancer(balancer: traffic.LoadBalancer, at: Path, found: Faults) -> None:
    rules.check_one_of(
        {"simple": balancer.simple, "consistentHash": balancer.consistent_hash}, at, found
    )
    if balancer.consistent_hash is not None:
        _check_consistent_hash(balancer.consistent_hash, (*at, "consistentHash"), found)
    if balancer.locality_lb_setting is not None:
        check_locality_lb(balancer.locality_lb_setting, (*at, "localityLbSetting"), found)
    rules.check_one_of(
        {"warmup": balancer.warmup, "warmupDurationSecs": balancer.warmup_duration_secs}, at, found
    )
    warmup = balancer.warmup
    if warmup is None:
        return
    if warmup.duration is None:
        found.add(
            (*at, "warmup", "duration"), "missing-field", "is required; write how long, such as 60s"
        )
    if warmup.minimum_percent is not None and not 0 <= warmup.minimum_percent <= rules.MAX_PERCENT:
        message = f"must be from 0 to 100, not {warmup.minimum_percent:g}"
        found.add((*at, "warmup", "minimumPercent"), "out-of-range", message)
    if warmup.aggression is not None and warmup.aggression < 1:
        message = f"must be at least 1, not {warmup.aggression:g}"
        found.add((*at, "warmup", "aggression"), "out-of-range", message)


def _check_consistent_hash(hashing: traffic.ConsistentHash, at: Path, found: Faults) -> None:
    keys = {
        "httpHeaderName": hashing.http_header_name,
        "httpCookie": hashing.http_cookie,
        "useSourceIp": hashing.use_source_ip,
        "httpQueryParameterName": hashing.http_query_parameter_name,
    }
    rules.check_one_of(keys, at, found)
    rules.check_one_of({"ringHash": hashing.ring_hash, "maglev": hashing.maglev}, at, found)
    if hashing.http_cookie is not None and not hashing.http_cookie.name:
        found.add((*at, "httpCookie", "name"), "missing-field", "is required; name the cookie")
    if hashing.minimum_ring_size and (hashing.ring_hash or hashing.maglev):
        message = (
            "is the old form of ringHash.minimumRingSize; remove it where ringHash or maglev is set"
        )
        found.add((*at, "minimumRingSize"), "conflict", message)
    if hashing.maglev is None:
        return
    size, place = hashing.maglev.table_size, (*at, "maglev", "tableSize")
    if size >= _MAGLEV_LIMIT or not _is_prime(size):
        message = f"must be a prime number below {_MAGLEV_LIMIT}, such as 65537; not {size}"
        found.add(place, "out-of-range", message)


def _is_prime(number: int) -> bool:
    """Tell what Envoy tells: it takes 1 for a prime, and Istio with it."""
    if 0 < number < 4:  # noqa: PLR2004 - 1, 2 and 3
        return True
    if number % 2 == 0:
        return False
    return all(number % factor for factor in range(3, math.isqrt(number) + 1, 2))


def check_locality_lb(setting: traffic.LocalityLbSetting, at: Path, found: Faults) -> None:
    """Distribute or failover; weights sum up to 100; localities don't overlap; failover is between regions."""
    if setting.distribute and setting.failover:
        found.add(at, "conflict", "must have only one of distribute and failover; remove the other")
        return
    if setting.failover and not _TOPOLOGY_LABELS.isdisjoint(setting.failover_priority):
        message = "must not have topology labels beside failover; remove them, or failover"
        found.add((*at, "failoverPriority"), "conflict", message)
    for index, share in enumerate(setting.distribute):
        place = (*at, "distribute", index, "to")
        for locality, weight in share.to.items():
            if not 1 <= weight <= _MAX_LOCALITY_WEIGHT:
                found.add(
                    (*place, locality), "out-of-range", f"must be from 1 to 100, not {weight}"
                )
        if sum(share.to.values()) != _MAX_LOCALITY_WEIGHT:
            found.add(place, "out-of-range", f"must sum up to 100, not {sum(share.to.values())}")
        _check_localities(share.to, place, found)
    _check_localities((share.from_ for share in setting.distribute), (*at, "distribute"), found)
    for index, failover in enumerate(setting.failover):
        _check_failover(failover, (*at, "failover", index), found)


def _check_failover(failover: traffic.LocalityFailover, at: Path, found: Faults) -> None:
    if failover.from_ == failover.to:
        found.add(at, "conflict", "must go to another region")
    for name, region in (("from", failover.from_), ("to", failover.to)):
        if "/" in region or "*" in region:
            message = f"must be a region alone, without zone and wildcard, not {region!r}"
            found.add((*at, name), "invalid-value", message)


def _check_localities(localities: Iterable[str], at: Path, found: Faults) -> None:
    """Localities are region/zone/subzone, a `*` only at the end; none holds another."""
    seen: list[list[str]] = []
    for locality in localities:
        parts = locality.split("/", _MAX_LOCALITY_PARTS - 1)
        if not all(parts):
            found.add(at, "invalid-value", f"has the locality {locality!r} with an empty part")
            continue
        if "*" in locality and (locality.count("*") > 1 or not locality.endswith("*")):
            found.add(at, "invalid-value", f"has the locality {locality!r}; a * must be at its end")
            continue
        own = parts[:-1] if parts[-1] == "*" else parts
        if any(own[: len(other)] == other or other[: len(own)] == own for other in seen):
            found.add(
                at, "conflict", f"has the locality {locality!r}, which overlaps with one before it"
            )
        seen.append(own)


def check_client_tls(tls: traffic.ClientTls, at: Path, found: Faults) -> None:
    """Certificates come from files or from a secret; mutual TLS needs its own."""
    if tls.mode not in ("SIMPLE", "MUTUAL"):
        return
    if tls.insecure_skip_verify and (
        tls.ca_certificates
        or tls.subject_alt_names
        or (tls.mode == "SIMPLE" and tls.credential_name)
    ):
        message = "must not be true beside what it would verify by; remove it, or caCertificates and the like"
        found.add((*at, "insecureSkipVerify"), "conflict", message)
    files = {
        "clientCertificate": tls.client_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "caCrl": tls.ca_crl,
    }
    if tls.credential_name:
        for name, value in files.items():
            if value:
                found.add((*at, name), "conflict", "must be left out where credentialName is set")
        return
    if tls.mode == "MUTUAL":
        for name in ("clientCertificate", "privateKey"):
            if not files[name]:
                found.add(
                    (*at, name),
                    "missing-field",
                    "is required for MUTUAL, unless credentialName is set",
                )


def check_server_tls(tls: traffic.ServerTls, at: Path, found: Faults) -> None:
    """Each mode has the certificates that it needs, and not those that it would ignore."""
    files = {
        "serverCertificate": tls.server_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
    }
    if tls.mode == "ISTIO_MUTUAL":
        for name, value in (files | {"credentialName": tls.credential_name}).items():
            if value:
                message = "must be left out: ISTIO_MUTUAL uses the mesh's certificates"
                found.add((*at, name), "conflict", message)
        return
    if tls.mode not in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"):
        return
    _check_one_certificate_source(tls, at, found)
    has_secret = bool(tls.credential_name or tls.credential_names)
    if tls.ca_crl and (has_secret or tls.mode == "SIMPLE"):
        message = (
            "must be left out: a secret holds its own list, and SIMPLE does not verify clients"
        )
        found.add((*at, "caCrl"), "conflict", message)
    if has_secret:
        return
    needed = [] if tls.tls_certificates else ["serverCertificate", "privateKey"]
    if tls.mode != "SIMPLE" and not tls.ca_cert_credential_name and not tls.tls_certificates:
        needed.append("caCertificates")
    for name in needed:
        if not files[name]:
            message = f"is required for {tls.mode}, unless credentialName is set"
            found.add((*at, name), "missing-field", message)
    _check_certificates(tls.tls_certificates, (*at, "tlsCertificates"), found)


def _check_certificates(
    certificates: tuple[traffic.TlsCertificate, ...], at: Path, found: Faults
) -> None:
    for index, certificate in enumerate(certificates):
        for name, value in (
            ("serverCertificate", certificate.server_certificate),
            ("privateKey", certificate.private_key),
        ):
            if not value:
                found.add((*at, index, name), "missing-field", "is required")


def _check_one_certificate_source(tls: traffic.ServerTls, at: Path, found: Faults) -> None:
    sources = {
        "credentialName": tls.credential_name or None,
        "credentialNames": tls.credential_names or None,
        "tlsCertificates": tls.tls_certificates or None,
        "serverCertificate": tls.server_certificate or None,
    }
    if not (tls.credential_name and tls.server_certificate):
        rules.check_one_of(sources, at, found)


def check_retry(retry: traffic.HttpRetry | None, at: Path, found: Faults) -> None:
    """No attempts means no retries, so nothing else is set then; conditions are known."""
    if retry is None:
        return
    if retry.attempts < 0:
        found.add((*at, "attempts"), "out-of-range", "must not be negative; write 0 for no retries")
    if retry.attempts == 0 and (
        retry.per_try_timeout is not None
        or retry.retry_on
        or retry.retry_remote_localities is not None
    ):
        message = "is 0 or absent, which means no retries; set it, or remove the other settings"
        found.add((*at, "attempts"), "conflict", message)
    if not retry.retry_on:
        return
    for condition in retry.retry_on.split(","):
        if condition not in _RETRY_CONDITIONS and condition not in _STATUS_CODES:
            message = f"has the unknown condition {condition!r}; separate known ones by commas without blanks"
            found.add((*at, "retryOn"), "unknown-value", message)
