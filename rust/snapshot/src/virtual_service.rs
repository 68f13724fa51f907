//! VirtualServices: short names resolved, delegates merged.
//!
//! Source: istio `pilot/pkg/model/virtualservice.go` `resolveVirtualServiceShortnames`, `mergeVirtualServicesIfNeeded`.

mod delegate;

use std::collections::BTreeMap;

use navarch_model::{
    ConfigKey, Destination, Diagnostic, Hostname, HttpMatchRequest, HttpRoute, Kind, MatchOrAny,
    RouteSemantics, Severity, Shared, StringMatch, VirtualService, Visibility,
};

use self::delegate::{Delegating, RuleName, find_cycle, name_of};

/// The gateway name that stands for all sidecars.
pub(crate) const MESH: &str = "mesh";

/// What the merge needs beside the rules.
pub(crate) struct MergeOptions<'a> {
    pub(crate) default_export_to: &'a [String],
    pub(crate) domain_suffix: &'a str,
}

/// Resolve names and merge delegates of all rules; the result is oldest first and has no delegates.
pub(crate) fn merge_virtual_services(
    rules: &[Shared<VirtualService>],
    options: &MergeOptions<'_>,
) -> (Vec<Shared<VirtualService>>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let resolved: Vec<VirtualService> = rules
        .iter()
        .map(|rule| resolve(rule, options.domain_suffix))
        .collect();
    let delegates: BTreeMap<(&str, &str), &VirtualService> = resolved
        .iter()
        .filter(|rule| rule.spec.hosts.is_empty())
        .map(|rule| ((&*rule.metadata.namespace, &*rule.metadata.name), rule))
        .collect();
    let mut merged: Vec<Shared<VirtualService>> = Vec::with_capacity(resolved.len());
    let delegating: Delegating<'_> = resolved
        .iter()
        .filter(|rule| rule.spec.http.iter().any(|route| route.delegate.is_some()))
        .map(|rule| ((&*rule.metadata.namespace, &*rule.metadata.name), rule))
        .collect();
    for rule in resolved.iter().filter(|rule| !rule.spec.hosts.is_empty()) {
        if rule.spec.http.iter().all(|route| route.delegate.is_none()) {
            merged.push(Shared::new(rule.clone()));
            continue;
        }
        let known = Known {
            delegates: &delegates,
            delegating: &delegating,
            default_export_to: options.default_export_to,
        };
        let mut root = rule.clone();
        root.spec.http = delegated_routes(rule, &known, &mut diagnostics);
        merged.push(Shared::new(root));
    }
    merged.sort_by(|a, b| a.metadata.age().cmp(&b.metadata.age()));
    (merged, diagnostics)
}

/// The rules among which delegates are looked for.
struct Known<'a> {
    /// Rules without hosts.
    delegates: &'a BTreeMap<RuleName<'a>, &'a VirtualService>,
    delegating: &'a Delegating<'a>,
    default_export_to: &'a [String],
}

/// The routes of a root rule with each delegate in the place of the route that names it.
fn delegated_routes(
    root: &VirtualService,
    known: &Known<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<HttpRoute> {
    let mut routes = Vec::new();
    for (index, route) in root.spec.http.iter().enumerate() {
        let Some(name) = &route.delegate else {
            routes.push(route.clone());
            continue;
        };
        let name = name_of(name, &root.metadata.namespace);
        let nested = nested_fault(root, name, known);
        if let Some((code, message)) = &nested {
            diagnostics.push(delegate_fault(root, index, code, message.clone()));
        }
        let delegate = match find_delegate(name, known, root) {
            Ok(delegate) => delegate,
            Err((code, message)) => {
                // A circle through this rule itself has been told.
                if nested.is_none() {
                    diagnostics.push(delegate_fault(root, index, code, message));
                }
                continue;
            }
        };
        for (i, inner) in delegate.spec.http.iter().enumerate() {
            if inner.delegate.is_some() {
                continue;
            }
            if let Some(merged) = merge_route(route, inner) {
                routes.push(merged);
            } else {
                let message = format!(
                    "spec.http[{i}] of the delegate `{}/{}` matches nothing that spec.http[{index}] takes, and is left out; \
                     make its match a narrower one",
                    name.0, name.1
                );
                diagnostics.push(delegate_fault(root, index, "delegate-mismatch", message));
            }
        }
    }
    routes
}

/// The code and message for a delegate that delegates on, or in a circle.
fn nested_fault(
    root: &VirtualService,
    name: RuleName<'_>,
    known: &Known<'_>,
) -> Option<(&'static str, String)> {
    let metadata = &root.metadata;
    let own = (metadata.namespace.as_str(), metadata.name.as_str());
    if let Some(cycle) = find_cycle(own, name, known.delegating) {
        let names = cycle
            .iter()
            .map(|(namespace, name)| format!("`{namespace}/{name}`"));
        let way = names.collect::<Vec<_>>().join(" → ");
        return Some((
            "delegate-cycle",
            format!("delegates go in a circle, {way}, and only one level is followed; break it"),
        ));
    }
    known.delegating.get(&name).map(|_| {
        let message = format!(
            "`{}/{}` delegates itself, and only one level is followed; move its delegate into this object",
            name.0, name.1
        );
        ("delegate-nested", message)
    })
}

fn delegate_fault(
    root: &VirtualService,
    index: usize,
    code: &'static str,
    message: String,
) -> Diagnostic {
    let metadata = &root.metadata;
    Diagnostic {
        key: ConfigKey::new(Kind::VirtualService, &metadata.namespace, &metadata.name),
        code,
        severity: Severity::Error,
        field_path: format!("spec.http[{index}].delegate"),
        message,
    }
}

/// The delegate of that namespace and name, or the code and message of why it can't be used.
fn find_delegate<'a>(
    key: RuleName<'_>,
    known: &Known<'a>,
    root: &VirtualService,
) -> Result<&'a VirtualService, (&'static str, String)> {
    let (namespace, name) = key;
    let Some(delegate) = known.delegates.get(&key) else {
        return Err((
            "delegate-not-found",
            format!(
                "there is no VirtualService `{namespace}/{name}` without hosts to delegate to; create it, or take the route out"
            ),
        ));
    };
    if !is_visible_to(delegate, known.default_export_to, &root.metadata.namespace) {
        return Err((
            "delegate-not-exported",
            format!(
                "`{namespace}/{name}` is not exported to this namespace; add it to its exportTo"
            ),
        ));
    }
    Ok(delegate)
}

fn is_visible_to(delegate: &VirtualService, default: &[String], namespace: &str) -> bool {
    let tokens = if delegate.spec.export_to.is_empty() {
        default
    } else {
        &delegate.spec.export_to
    };
    let tokens: Vec<Visibility> = tokens
        .iter()
        .map(|token| Visibility::parse(token))
        .collect();
    Visibility::is_visible(&tokens, &delegate.metadata.namespace, namespace)
}

/// A delegate's route under the root's; `None` when no request can match both.
fn merge_route(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = delegate.clone();
    merged.matches = merge_matches(&root.matches, &delegate.matches)?;
    merged.name = joined(&root.name, &delegate.name);
    merged.rewrite = merged.rewrite.or_else(|| root.rewrite.clone());
    merged.direct_response = merged
        .direct_response
        .or_else(|| root.direct_response.clone());
    merged.timeout = merged.timeout.or(root.timeout);
    merged.retries = merged.retries.or_else(|| root.retries.clone());
    merged.fault = merged.fault.or_else(|| root.fault.clone());
    merged.mirror = merged.mirror.or_else(|| root.mirror.clone());
    merged.mirror_percent = merged.mirror_percent.or(root.mirror_percent);
    merged.mirror_percentage = merged.mirror_percentage.or(root.mirror_percentage);
    merged.cors_policy = merged.cors_policy.or_else(|| root.cors_policy.clone());
    merged.headers = merged.headers.or_else(|| root.headers.clone());
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    Some(merged)
}

fn joined(root: &str, delegate: &str) -> String {
    match (root, delegate) {
        (root, "") => root.to_owned(),
        ("", delegate) => delegate.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    }
}

/// Every match of the delegate within every match of the root that it can meet; `None` when one meets none.
fn merge_matches(
    root: &[HttpMatchRequest],
    delegate: &[HttpMatchRequest],
) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() { delegate } else { root }.to_vec());
    }
    let mut merged = Vec::new();
    for inner in delegate {
        let n_before = merged.len();
        merged.extend(
            root.iter()
                .filter(|outer| !is_conflict(outer, inner))
                .map(|o| merge_match(o, inner)),
        );
        if merged.len() == n_before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> HttpMatchRequest {
    fn over<V: Clone>(
        root: &BTreeMap<String, V>,
        delegate: &BTreeMap<String, V>,
    ) -> BTreeMap<String, V> {
        let mut merged = root.clone();
        merged.extend(
            delegate
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        merged
    }
    let or = |own: &Option<MatchOrAny>, other: &Option<MatchOrAny>| own.clone().or(other.clone());
    let text = |own: &String, other: &String| if own.is_empty() { other } else { own }.clone();
    HttpMatchRequest {
        name: joined(&root.name, &delegate.name),
        uri: or(&delegate.uri, &root.uri),
        scheme: or(&delegate.scheme, &root.scheme),
        method: or(&delegate.method, &root.method),
        authority: or(&delegate.authority, &root.authority),
        headers: over(&root.headers, &delegate.headers),
        without_headers: over(&root.without_headers, &delegate.without_headers),
        query_params: over(&root.query_params, &delegate.query_params),
        port: if delegate.port == 0 {
            root.port
        } else {
            delegate.port
        },
        source_labels: over(&root.source_labels, &delegate.source_labels),
        source_namespace: text(&delegate.source_namespace, &root.source_namespace),
        gateways: if delegate.gateways.is_empty() {
            &root.gateways
        } else {
            &delegate.gateways
        }
        .clone(),
        ignore_uri_case: delegate.ignore_uri_case,
        stat_prefix: text(&delegate.stat_prefix, &root.stat_prefix),
    }
}

fn is_conflict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> bool {
    let pair = |a: &Option<MatchOrAny>, b: &Option<MatchOrAny>| {
        a.as_ref()
            .zip(b.as_ref())
            .is_some_and(|(a, b)| is_string_conflict(&a.0, &b.0))
    };
    let map = |a: &BTreeMap<String, MatchOrAny>, b: &BTreeMap<String, MatchOrAny>| {
        b.iter().any(|(key, leaf)| {
            a.get(key)
                .is_some_and(|root| is_string_conflict(&root.0, &leaf.0))
        })
    };
    let gateways = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    pair(&root.uri, &leaf.uri)
        || pair(&root.scheme, &leaf.scheme)
        || pair(&root.method, &leaf.method)
        || pair(&root.authority, &leaf.authority)
        || map(&root.headers, &leaf.headers)
        || map(&root.without_headers, &leaf.without_headers)
        || map(&root.query_params, &leaf.query_params)
        || root.ignore_uri_case != leaf.ignore_uri_case
        || (root.port > 0 && leaf.port > 0 && root.port != leaf.port)
        || leaf.source_labels.iter().any(|(key, value)| {
            root.source_labels
                .get(key)
                .is_some_and(|other| other != value)
        })
        || (!root.source_namespace.is_empty()
            && !leaf.source_namespace.is_empty()
            && root.source_namespace != leaf.source_namespace)
        || (!root.gateways.is_empty()
            && !leaf.gateways.is_empty()
            && gateways(&root.gateways) != gateways(&leaf.gateways))
}

/// Whether `leaf` is no narrowing of `root`.
fn is_string_conflict(root: &StringMatch, leaf: &StringMatch) -> bool {
    match (root, leaf) {
        (StringMatch::Exact(root), StringMatch::Exact(leaf)) => root != leaf,
        (StringMatch::Prefix(root), StringMatch::Prefix(leaf) | StringMatch::Exact(leaf)) => {
            !leaf.starts_with(root.as_str())
        }
        _ => true,
    }
}

/// Write all names out in full, as seen from the rule's own namespace.
pub(crate) fn resolve(rule: &VirtualService, domain_suffix: &str) -> VirtualService {
    if rule.semantics == RouteSemantics::GatewayApi {
        // Made in full, and its hosts may well have no dot.
        return rule.clone();
    }
    let mut resolved = rule.clone();
    let namespace = rule.metadata.namespace.as_str();
    let host = |name: &mut String| {
        Hostname::resolve(name, namespace, domain_suffix)
            .as_str()
            .clone_into(name);
    };
    let destination = |destination: &mut Destination| host(&mut destination.host);
    let gateways = |names: &mut Vec<String>| {
        names
            .iter_mut()
            .for_each(|name| *name = gateway_name(name, namespace));
    };
    let spec = &mut resolved.spec;
    spec.hosts.iter_mut().for_each(host);
    // A delegate's gateways are those of the rule that names it.
    if spec.gateways.is_empty() && !spec.hosts.is_empty() {
        spec.gateways.push(MESH.to_owned());
    }
    gateways(&mut spec.gateways);
    for route in &mut spec.http {
        route
            .matches
            .iter_mut()
            .for_each(|m| gateways(&mut m.gateways));
        route
            .route
            .iter_mut()
            .for_each(|r| destination(&mut r.destination));
        route.mirror.iter_mut().for_each(destination);
        route
            .mirrors
            .iter_mut()
            .filter_map(|m| m.destination.as_mut())
            .for_each(destination);
    }
    for route in &mut spec.tls {
        route
            .matches
            .iter_mut()
            .for_each(|m| gateways(&mut m.gateways));
        route
            .route
            .iter_mut()
            .for_each(|r| destination(&mut r.destination));
    }
    for route in &mut spec.tcp {
        route
            .matches
            .iter_mut()
            .for_each(|m| gateways(&mut m.gateways));
        route
            .route
            .iter_mut()
            .for_each(|r| destination(&mut r.destination));
    }
    resolved
}

/// `namespace/name` of a gateway as a rule of `namespace` names it; `mesh` stays.
fn gateway_name(name: &str, namespace: &str) -> String {
    if name == MESH {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => name.to_owned(),
        // `name.namespace.svc.domain`, a form that Istio still takes.
        None if name.contains('.') => {
            let mut parts = name.split('.');
            let first = parts.next().unwrap_or_default();
            format!("{}/{first}", parts.next().unwrap_or_default())
        }
        None => format!("{namespace}/{name}"),
    }
}
