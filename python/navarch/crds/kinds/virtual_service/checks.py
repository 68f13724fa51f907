"""What Istio's admission checks on a VirtualService.

Source: Istio's pkg/config/validation/virtualservice.go and validation.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from navarch.crds.schema import header_rules, names, rules, traffic_rules

if TYPE_CHECKING:
    from navarch.crds.kinds.virtual_service import spec
    from navarch.crds.schema import envelope, faults, matching

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
)
_GRPC_STATUSES = frozenset(
    {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)
_MAX_BODY_BYTES = 1024 * 1024
_MIN_STATUS, _MAX_STATUS = 200, 600


def check(service: spec.VirtualService, metadata: envelope.Metadata, found: faults.Faults) -> None:
    """Hosts and gateways are named well; each route does one thing that it can do."""
    is_for_gateways = bool(service.gateways) and "mesh" not in service.gateways
    rules.check_gateway_names(service.gateways, ("spec", "gateways"), found)
    if service.hosts:
        _check_hosts(service, found, is_for_gateways=is_for_gateways)
    else:
        for name, value in (
            ("gateways", service.gateways),
            ("tls", service.tls),
            ("tcp", service.tcp),
        ):
            if value:
                message = "must be left out of a VirtualService without hosts, which is one to delegate to"
                found.add(("spec", name), "conflict", message)
    if not (service.http or service.tcp or service.tls):
        found.add(("spec",), "missing-field", "routes nothing; give it http, tls or tcp")
    for index, http_route in enumerate(service.http):
        at = ("spec", "http", index)
        _check_http_route(http_route, at, found, is_delegate=not service.hosts)
        for match_index, match in enumerate(http_route.match):
            place = (*at, "match", match_index)
            _check_http_match(match, place, found, is_for_gateways=is_for_gateways)
    for index, tls_route in enumerate(service.tls):
        _check_tls_route(tls_route, service.hosts, ("spec", "tls", index), found)
    for index, tcp_route in enumerate(service.tcp):
        _check_tcp_route(tcp_route, ("spec", "tcp", index), found)
    rules.check_export_to(service.export_to, metadata.namespace, found)


def _check_hosts(
    service: spec.VirtualService, found: faults.Faults, *, is_for_gateways: bool
) -> None:
    for index, host in enumerate(service.hosts):
        at = ("spec", "hosts", index)
        fault = names.fault_in_wildcard_domain(host)
        is_sni_of_gateway = is_for_gateways and service.tls and host.startswith("outbound_.")
        if fault is not None and not names.is_address(host) and not is_sni_of_gateway:
            found.add(at, "invalid-host", fault)
        if host == "*" and not is_for_gateways:
            message = "must not be * for the mesh; name hosts, or set gateways without mesh"
            found.add(at, "invalid-host", message)
        for other_index in range(index):
            other = service.hosts[other_index]
            if names.host_matches(host, other):
                found.add(
                    at, "duplicate", f"has names in common with {other!r} before it; remove one"
                )


def _check_http_match(
    match: spec.HttpMatch, at: faults.Path, found: faults.Faults, *, is_for_gateways: bool
) -> None:
    rules.check_string_match(match.uri, (*at, "uri"), found, takes_empty_prefix=True)
    rules.check_string_match(match.scheme, (*at, "scheme"), found)
    rules.check_string_match(match.method, (*at, "method"), found)
    rules.check_string_match(match.authority, (*at, "authority"), found)
    for name, value in match.query_params.items():
        rules.check_string_match(value, (*at, "queryParams", name), found)
    for field, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for name, value in headers.items():
            place = (*at, field, name)
            header_rules.check_matched_name(name, place, found)
            if header_rules.is_claim(name) and not is_for_gateways:
                message = "matches a JWT claim, which only gateways do; set gateways without mesh"
                found.add(place, "unsupported-field", message)
            # A regex of `*` in withoutHeaders means that the header is absent, though it is no regex.
            if field == "headers" or value.regex != "*":
                rules.check_string_match(value, place, found)
    _check_source(match, at, found)


def _check_source(
    match: spec.HttpMatch | spec.TlsMatch | spec.TcpMatch, at: faults.Path, found: faults.Faults
) -> None:
    if match.port:
        rules.check_port(match.port, (*at, "port"), found)
    rules.check_labels(match.source_labels, (*at, "sourceLabels"), found)
    rules.check_gateway_names(match.gateways, (*at, "gateways"), found)
    if match.source_namespace and not names.is_label(match.source_namespace):
        message = f"must be a namespace, not {match.source_namespace!r}"
        found.add((*at, "sourceNamespace"), "invalid-name", message)


def _check_http_route(
    route: spec.HttpRoute, at: faults.Path, found: faults.Faults, *, is_delegate: bool
) -> None:
    _check_action(route, at, found, is_delegate=is_delegate)
    for index, destination in enumerate(route.route):
        place = (*at, "route", index)
        if destination.headers is not None:
            _check_headers(destination.headers, (*place, "headers"), found)
    _check_weights(route.route, (*at, "route"), found)
    if route.headers is not None:
        _check_headers(route.headers, (*at, "headers"), found)
    _check_mirrors(route, at, found)
    traffic_rules.check_retry(route.retries, (*at, "retries"), found)
    if route.redirect is not None:
        _check_redirect(route.redirect, (*at, "redirect"), found)
    if route.direct_response is not None:
        _check_direct_response(route.direct_response, (*at, "directResponse"), found)
    if route.rewrite is not None:
        _check_rewrite(route.rewrite, (*at, "rewrite"), found)
    _check_authority(route, at, found)
    if route.fault is not None:
        _check_fault(route.fault, (*at, "fault"), found)
    if route.cors_policy is not None:
        _check_cors(route.cors_policy, (*at, "corsPolicy"), found)


def _check_action(
    route: spec.HttpRoute, at: faults.Path, found: faults.Faults, *, is_delegate: bool
) -> None:
    """A route does one of four things; a redirect or a fixed answer has no faults and rewrites."""
    actions = {
        "delegate": route.delegate,
        "redirect": route.redirect,
        "directResponse": route.direct_response,
        "route": route.route or None,
    }
    if is_delegate and route.delegate is not None:
        message = (
            "must be left out of a VirtualService that is delegated to: delegation has one level"
        )
        found.add((*at, "delegate"), "conflict", message)
    given = [name for name, value in actions.items() if value is not None]
    if not given:
        message = "does nothing; give it one of route, redirect, directResponse, delegate"
        found.add(at, "missing-field", message)
        return
    for name in given[1:]:
        found.add(
            (*at, name), "conflict", f"must be left out where {given[0]} is set; keep one of them"
        )
    if given[0] in ("redirect", "directResponse"):
        for name, value in (("fault", route.fault), ("rewrite", route.rewrite)):
            if value is not None:
                found.add((*at, name), "conflict", f"must be left out where {given[0]} is set")


def _check_weights(
    destinations: tuple[spec.HttpDestination | spec.RouteDestination, ...],
    at: faults.Path,
    found: faults.Faults,
) -> None:
    for index, destination in enumerate(destinations):
        if destination.destination is None:
            found.add((*at, index, "destination"), "missing-field", "is required; name the host")
        else:
            rules.check_destination(destination.destination, (*at, index, "destination"), found)
        if destination.weight < 0:
            found.add((*at, index, "weight"), "out-of-range", "must not be negative")
    if len(destinations) > 1 and not any(destination.weight for destination in destinations):
        message = "has several destinations whose weights are all 0; give them weights"
        found.add(at, "out-of-range", message)


def _check_headers(headers: spec.Headers, at: faults.Path, found: faults.Faults) -> None:
    for direction, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        place = (*at, direction)
        takes_authority = direction == "request"
        for verb, values in (("set", operations.set), ("add", operations.add)):
            for name, value in values.items():
                header_rules.check_operated_name(
                    name, (*place, verb, name), found, takes_authority=takes_authority
                )
                header_rules.check_value(value, (*place, verb, name), found)
        for index, name in enumerate(operations.remove):
            header_rules.check_operated_name(
                name, (*place, "remove", index), found, takes_authority=False
            )


def _check_authority(route: spec.HttpRoute, at: faults.Path, found: faults.Faults) -> None:
    """The authority is rewritten in one place."""
    n_places = 1 if route.rewrite is not None and route.rewrite.authority else 0
    if route.headers is None or route.headers.request is None:
        return
    for verb, values in (("set", route.headers.request.set), ("add", route.headers.request.add)):
        for name in values:
            if not header_rules.is_authority(name):
                continue
            n_places += 1
            if n_places > 1:
                message = (
                    "sets the authority, which is set elsewhere on this route; keep one of them"
                )
                found.add((*at, "headers", "request", verb, name), "conflict", message)


def _check_mirrors(route: spec.HttpRoute, at: faults.Path, found: faults.Faults) -> None:
    if route.mirror is not None:
        rules.check_destination(route.mirror, (*at, "mirror"), found)
        if route.mirrors:
            message = "must be left out where mirror is set; put all mirrors into mirrors"
            found.add((*at, "mirrors"), "conflict", message)
    if route.mirror_percent is not None and route.mirror_percent > rules.MAX_PERCENT:
        message = f"must be from 0 to 100, not {route.mirror_percent}"
        found.add((*at, "mirrorPercent"), "out-of-range", message)
    _check_share(route.mirror_percentage, (*at, "mirrorPercentage"), found)
    for index, mirror in enumerate(route.mirrors):
        place = (*at, "mirrors", index)
        if mirror.destination is None:
            found.add((*place, "destination"), "missing-field", "is required; name the host")
        else:
            rules.check_destination(mirror.destination, (*place, "destination"), found)
        _check_share(mirror.percentage, (*place, "percentage"), found)


def _check_share(
    percentage: matching.Percent | None, at: faults.Path, found: faults.Faults
) -> None:
    if percentage is not None and not 0 <= percentage.value <= rules.MAX_PERCENT:
        message = f"must be from 0 to 100, not {percentage.value:g}"
        found.add((*at, "value"), "out-of-range", message)


def _check_redirect(redirect: spec.Redirect, at: faults.Path, found: faults.Faults) -> None:
    targets = (redirect.uri, redirect.authority, redirect.scheme, redirect.prefix_rewrite)
    if not any(targets) and redirect.port is None and redirect.derive_port is None:
        message = "goes nowhere; set uri, prefixRewrite, authority, scheme or a port"
        found.add(at, "missing-field", message)
    rules.check_one_of({"port": redirect.port, "derivePort": redirect.derive_port}, at, found)
    rules.check_one_of(
        {"uri": redirect.uri or None, "prefixRewrite": redirect.prefix_rewrite}, at, found
    )
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:  # noqa: PLR2004 - 3xx
        message = f"must be from 300 to 399, not {redirect.redirect_code}"
        found.add((*at, "redirectCode"), "out-of-range", message)
    if redirect.scheme not in ("", "http", "https"):
        message = f"must be http or https, not {redirect.scheme!r}"
        found.add((*at, "scheme"), "unknown-value", message)
    if redirect.port:
        rules.check_port(redirect.port, (*at, "port"), found)


def _check_direct_response(
    response: spec.DirectResponse, at: faults.Path, found: faults.Faults
) -> None:
    _check_status(response.status, (*at, "status"), found)
    if response.body is None:
        return
    rules.check_one_of(
        {"string": response.body.string, "bytes": response.body.bytes}, (*at, "body"), found
    )
    text, encoded = response.body.string or "", response.body.bytes or ""
    if max(len(text.encode()), len(encoded) * 3 // 4) > _MAX_BODY_BYTES:
        found.add(
            (*at, "body"),
            "out-of-range",
            "must be at most 1 MiB; serve larger answers by a service",
        )


def _check_status(status: int, at: faults.Path, found: faults.Faults) -> None:
    if not _MIN_STATUS <= status <= _MAX_STATUS:
        found.add(at, "out-of-range", f"must be an HTTP status from 200 to 599, not {status}")


def _check_rewrite(rewrite: spec.Rewrite, at: faults.Path, found: faults.Faults) -> None:
    regex = rewrite.uri_regex_rewrite
    rules.check_one_of({"uri": rewrite.uri or None, "uriRegexRewrite": regex}, at, found)
    if regex is None:
        if not (rewrite.uri or rewrite.authority):
            found.add(at, "missing-field", "changes nothing; set uri, uriRegexRewrite or authority")
        return
    rules.check_regex(regex.match, (*at, "uriRegexRewrite", "match"), found)
    if not regex.rewrite:
        found.add(
            (*at, "uriRegexRewrite", "rewrite"), "missing-field", "is required; write the new path"
        )


def _check_fault(fault: spec.Fault, at: faults.Path, found: faults.Faults) -> None:
    if fault.abort is None and fault.delay is None:
        found.add(at, "missing-field", "is empty; give it delay or abort, or remove it")
    if fault.delay is not None:
        _check_delay(fault.delay, (*at, "delay"), found)
    if fault.abort is not None:
        _check_abort(fault.abort, (*at, "abort"), found)


def _check_delay(delay: spec.Delay, at: faults.Path, found: faults.Faults) -> None:
    rules.check_percentage(delay.percentage, (*at, "percentage"), found)
    if not 0 <= delay.percent <= rules.MAX_PERCENT:
        found.add((*at, "percent"), "out-of-range", f"must be from 0 to 100, not {delay.percent}")
    if delay.exponential_delay is not None:
        message = "is not supported; use fixedDelay"
        found.add((*at, "exponentialDelay"), "unsupported-field", message)


def _check_abort(abort: spec.Abort, at: faults.Path, found: faults.Faults) -> None:
    rules.check_percentage(abort.percentage, (*at, "percentage"), found)
    statuses = {
        "httpStatus": abort.http_status,
        "grpcStatus": abort.grpc_status,
        "http2Error": abort.http2_error,
    }
    rules.check_one_of(statuses, at, found)
    if abort.http_status is not None:
        _check_status(abort.http_status, (*at, "httpStatus"), found)
    if abort.grpc_status is not None and abort.grpc_status not in _GRPC_STATUSES:
        message = f"must be a gRPC status such as UNAVAILABLE, not {abort.grpc_status!r}"
        found.add((*at, "grpcStatus"), "unknown-value", message)
    if abort.http2_error is not None:
        message = "is not supported; use httpStatus or grpcStatus"
        found.add((*at, "http2Error"), "unsupported-field", message)


def _check_cors(policy: spec.CorsPolicy, at: faults.Path, found: faults.Faults) -> None:
    for index, origin in enumerate(policy.allow_origins):
        place = (*at, "allowOrigins", index)
        if not (origin.exact or origin.prefix or origin.regex):
            found.add(place, "missing-field", "matches nothing; set exact, prefix or regex")
        else:
            rules.check_string_match(origin, place, found)
    for index, method in enumerate(policy.allow_methods):
        if method not in _METHODS:
            message = f"must be one of {', '.join(sorted(_METHODS))}, not {method!r}"
            found.add((*at, "allowMethods", index), "unknown-value", message)
    for field, headers in (
        ("allowHeaders", policy.allow_headers),
        ("exposeHeaders", policy.expose_headers),
    ):
        for index, name in enumerate(headers):
            if name != "*":
                header_rules.check_name(name, (*at, field, index), found)
    if policy.max_age is not None and "." in policy.max_age:
        found.add((*at, "maxAge"), "invalid-duration", "must be whole seconds")


def _check_tls_route(
    route: spec.TlsRoute, hosts: tuple[str, ...], at: faults.Path, found: faults.Faults
) -> None:
    if not route.match:
        found.add((*at, "match"), "missing-field", "is required; match sniHosts")
    if not route.route:
        found.add((*at, "route"), "missing-field", "is required; name at least one destination")
    for index, match in enumerate(route.match):
        place = (*at, "match", index)
        if not match.sni_hosts:
            found.add((*place, "sniHosts"), "missing-field", "is required; name at least one host")
        for host_index, host in enumerate(match.sni_hosts):
            _check_sni_host(host, hosts, (*place, "sniHosts", host_index), found)
        rules.check_subnets(match.destination_subnets, (*place, "destinationSubnets"), found)
        _check_source(match, place, found)
    _check_weights(route.route, (*at, "route"), found)


def _check_sni_host(
    host: str, hosts: tuple[str, ...], at: faults.Path, found: faults.Faults
) -> None:
    """An SNI host lies within the VirtualService's hosts; an address is taken, though it is no SNI."""
    fault = names.fault_in_wildcard_domain(host)
    if fault is not None and not host.startswith("outbound_."):
        if not names.is_address(host):
            found.add(at, "invalid-host", fault)
        return
    if not any(names.is_host_within(host, outer) for outer in hosts):
        found.add(
            at,
            "invalid-host",
            f"must be one of spec.hosts or lie within it, which {host!r} does not",
        )


def _check_tcp_route(route: spec.TcpRoute, at: faults.Path, found: faults.Faults) -> None:
    if not route.route:
        found.add((*at, "route"), "missing-field", "is required; name at least one destination")
    for index, match in enumerate(route.match):
        place = (*at, "match", index)
        rules.check_subnets(match.destination_subnets, (*place, "destinationSubnets"), found)
        if match.source_subnet:
            rules.check_subnets((match.source_subnet,), (*place, "sourceSubnet"), found)
        _check_source(match, place, found)
    _check_weights(route.route, (*at, "route"), found)
