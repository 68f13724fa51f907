//! HTTPRoutes to VirtualServices.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/conversion.go` `convertHTTPRoute`.

use std::collections::BTreeMap;

use navarch_model::gateway_api as api;
use navarch_model::{
    HttpDirectResponse, HttpMatchRequest, HttpRetry, HttpRoute, Kind, MatchOrAny, Span, StringMatch,
};

use super::backend::{has_weight, http_destinations};
use super::condition::{Fault, Reason, join_faults};
use super::filter::apply_filters;
use super::merge::{ByHost, merge_by_host, sort_http_routes};
use super::route::{ComputedRoute, Converted, RouteContext, RouteOutput, RouteOwner, RouteSource};

/// What is tried again where a rule asks for retries, beside its codes.
const RETRY_ON: [&str; 4] = [
    "connect-failure",
    "refused-stream",
    "unavailable",
    "cancelled",
];

/// How often, where a rule asks for retries and gives no number.
const DEFAULT_ATTEMPTS: i32 = 2;

/// Convert all HTTPRoutes.
pub(super) fn add_http_routes(context: &RouteContext<'_>, out: &mut RouteOutput) {
    let mut by_host = ByHost::new();
    for route in context.inputs.objects.http_routes.values() {
        let source = RouteSource {
            kind: Kind::HTTPRoute,
            metadata: &route.metadata,
            parent_refs: &route.spec.parent_refs,
            hostnames: &route.spec.hostnames,
        };
        let rules = &route.spec.rules;
        let backends: Vec<_> = rules.iter().flat_map(|rule| &rule.backend_refs).collect();
        let computed = context.compute(&source, &backends, out, |owner| {
            let rules = rules.iter().enumerate();
            let rules = rules.map(|(i, rule)| (default_name(&source, i), rule));
            rules
                .flat_map(|(name, rule)| convert_rule(context, owner, &name, rule))
                .collect()
        });
        add_virtual_services(context, &source, &computed, &mut by_host);
    }
    out.virtual_services.extend(merge_by_host(by_host));
}

/// What a rule without a name is called: its place in the route.
pub(super) fn default_name(source: &RouteSource<'_>, index: usize) -> String {
    let metadata = source.metadata;
    format!("{}.{}.{index}", metadata.namespace, metadata.name)
}

/// One VirtualService for each host of each parent, so that each host stands for itself.
pub(super) fn add_virtual_services(
    context: &RouteContext<'_>,
    source: &RouteSource<'_>,
    computed: &ComputedRoute<HttpRoute>,
    by_host: &mut ByHost,
) {
    let mut n_made = 0;
    for parent in &computed.bound {
        let mut key = parent.internal_name.clone();
        let mut routes = computed.gateway.routes.clone();
        let mut hosts = source.hosts();
        if parent.is_mesh() {
            routes.clone_from(&computed.mesh.routes);
            key.clone_from(&source.metadata.namespace);
            if let Some(port) = parent.reference.port {
                add_port(&mut routes, port);
                key = format!("{key}/{port}");
            }
            hosts = context.mesh_hosts(parent);
        }
        if routes.is_empty() {
            continue;
        }
        sort_http_routes(&mut routes);
        for host in hosts.iter().filter(|host| parent.is_own_host(host)) {
            let name = format!("{}-{n_made}", source.metadata.name);
            n_made += 1;
            let mut service = source.virtual_service(name, host, parent);
            service.spec.http.clone_from(&routes);
            by_host
                .entry(format!("{key}/{host}"))
                .or_default()
                .push(service);
        }
    }
}

/// Limit rules to one port of the parent.
fn add_port(routes: &mut [HttpRoute], port: u32) {
    for route in routes {
        if route.matches.is_empty() {
            route.matches.push(HttpMatchRequest::default());
        }
        for condition in &mut route.matches {
            condition.port = port;
        }
    }
}

/// A rule for each of its matches, since each has a precedence of its own.
fn convert_rule(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    name: &str,
    rule: &api::HttpRouteRule,
) -> Vec<Converted<HttpRoute>> {
    let name = rule.name.as_deref().unwrap_or(name);
    let rest = || convert_action(context, owner, name, rule);
    if rule.matches.is_empty() {
        return vec![rest()];
    }
    let with_match = |condition: &api::HttpRouteMatch| {
        let condition = convert_match(condition)?;
        let (mut route, fault) = rest()?;
        route.matches = vec![condition];
        Ok((route, fault))
    };
    rule.matches.iter().map(with_match).collect()
}

fn convert_action(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    name: &str,
    rule: &api::HttpRouteRule,
) -> Converted<HttpRoute> {
    let mut out = HttpRoute {
        name: name.to_owned(),
        ..HttpRoute::default()
    };
    let mirror_fault = apply_filters(context, owner, &rule.filters, &mut out)?;
    add_retries_and_timeouts(rule, &mut out);
    let fault = add_destinations(context, owner, &rule.backend_refs, &mut out)?;
    Ok((out, join_faults(fault, mirror_fault)))
}

/// Where requests go; 500 where nothing takes them.
pub(super) fn add_destinations(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    backends: &[api::BackendReference],
    out: &mut HttpRoute,
) -> Result<Option<Fault>, Fault> {
    if !has_weight(backends) && out.redirect.is_none() {
        out.direct_response = Some(HttpDirectResponse {
            status: 500,
            body: None,
        });
        return Ok(None);
    }
    let (destinations, fault) = http_destinations(context, owner, backends)?;
    out.route = destinations;
    Ok(fault)
}

fn add_retries_and_timeouts(rule: &api::HttpRouteRule, out: &mut HttpRoute) {
    let span = |text: &Option<String>| {
        let span = text.as_deref().and_then(Span::parse);
        span.filter(|span| !span.is_zero())
    };
    if let Some(retry) = &rule.retry {
        let attempts = retry.attempts.unwrap_or(DEFAULT_ATTEMPTS);
        let codes = retry.codes.iter().map(u32::to_string);
        let conditions: Vec<String> = RETRY_ON
            .iter()
            .map(|c| (*c).to_owned())
            .chain(codes)
            .collect();
        let retry_on = if attempts == 0 {
            String::new()
        } else {
            conditions.join(",")
        };
        out.retries = Some(HttpRetry {
            attempts,
            retry_on,
            backoff: retry.backoff.as_deref().and_then(Span::parse),
            ..HttpRetry::default()
        });
    }
    let Some(timeouts) = &rule.timeouts else {
        return;
    };
    out.timeout = span(&timeouts.request);
    if let Some(timeout) = span(&timeouts.backend_request) {
        // Without retries the one try is the whole request.
        match &mut out.retries {
            Some(retries) => retries.per_try_timeout = Some(timeout),
            None => out.timeout = Some(timeout),
        }
    }
}

fn convert_match(condition: &api::HttpRouteMatch) -> Result<HttpMatchRequest, Fault> {
    let method = condition.method.clone().map(StringMatch::Exact);
    Ok(HttpMatchRequest {
        uri: Some(MatchOrAny(path_match(&condition.path)?)),
        headers: value_matches(&condition.headers, "HeaderMatch")?,
        query_params: value_matches(&condition.query_params, "QueryParams")?,
        method: method.map(MatchOrAny),
        ..HttpMatchRequest::default()
    })
}

fn path_match(condition: &api::PathMatch) -> Result<StringMatch, Fault> {
    let path = condition.value.clone().unwrap_or_else(|| "/".to_owned());
    match condition.match_type.as_deref().unwrap_or("PathPrefix") {
        "PathPrefix" => {
            // A trailing slash says nothing more, except in "/" itself.
            let prefix = path.strip_suffix('/').filter(|prefix| !prefix.is_empty());
            Ok(StringMatch::Prefix(
                prefix.map_or_else(|| path.clone(), str::to_owned),
            ))
        }
        "Exact" => Ok(StringMatch::Exact(path)),
        "RegularExpression" => Ok(StringMatch::Regex(path)),
        other => Err(unknown_type(other, "Path match")),
    }
}

/// Conditions on headers or query parameters, by name; the last of a name counts.
pub(super) fn value_matches(
    conditions: &[api::ValueMatch],
    what: &str,
) -> Result<BTreeMap<String, MatchOrAny>, Fault> {
    let convert = |condition: &api::ValueMatch| {
        let value = condition.value.clone();
        let value = match condition.match_type.as_deref().unwrap_or("Exact") {
            "Exact" => StringMatch::Exact(value),
            "RegularExpression" => StringMatch::Regex(value),
            other => return Err(unknown_type(other, what)),
        };
        Ok((condition.name.clone(), MatchOrAny(value)))
    };
    conditions.iter().map(convert).collect()
}

fn unknown_type(found: &str, what: &str) -> Fault {
    let message = format!("unknown type: \"{found}\" is not supported {what} type");
    Fault::new(Reason::InvalidConfiguration, message)
}
