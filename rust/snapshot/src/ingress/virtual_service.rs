//! The rules of all Ingresses for one host as a VirtualService.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use navarch_model::{
    ConfigKey, Destination, HttpIngressPath, HttpMatchRequest, HttpRoute, HttpRouteDestination,
    Ingress, IngressRule, IngressService, Kind, MatchOrAny, Metadata, PortSelector, RouteSemantics,
    Shared, StringMatch, VirtualService, VirtualServiceSpec,
};

use super::gateway::gateway_name;
use super::{GATEWAY_NAMESPACE, GENERATED, IngressInputs};

/// One for each host, from Ingresses oldest first; the oldest gives the Gateway.
pub(super) fn build_virtual_services(
    inputs: &IngressInputs<'_>,
    ingresses: &[&Shared<Ingress>],
) -> Vec<Shared<VirtualService>> {
    let mut by_host: BTreeMap<&str, Vec<(&Ingress, &IngressRule)>> = BTreeMap::new();
    for ingress in ingresses {
        for rule in ingress.spec.rules.iter().filter(|rule| rule.http.is_some()) {
            let host = if rule.host.is_empty() {
                "*"
            } else {
                &rule.host
            };
            by_host.entry(host).or_default().push((ingress, rule));
        }
    }
    let build = |(host, rules): (&str, Vec<(&Ingress, &IngressRule)>)| {
        let (oldest, _) = rules.first()?;
        let (name, namespace) = (&oldest.metadata.name, &oldest.metadata.namespace);
        let paths = rules.iter().flat_map(|(ingress, rule)| {
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            paths.filter_map(|path| convert_path(inputs, &ingress.metadata.namespace, path))
        });
        let mut http: Vec<HttpRoute> = paths.collect();
        sort_routes(&mut http);
        let sources = rules.iter().map(|(ingress, _)| &ingress.metadata);
        let mut sources: Vec<ConfigKey> = sources
            .map(|m| ConfigKey::new(Kind::Ingress, &m.namespace, &m.name))
            .collect();
        sources.dedup();
        Some(Shared::new(VirtualService {
            metadata: Metadata {
                name: format!("{}-{name}-{GENERATED}", host.replace('.', "-")),
                namespace: namespace.clone(),
                ..Metadata::default()
            },
            spec: VirtualServiceSpec {
                hosts: vec![host.to_owned()],
                gateways: vec![format!("{GATEWAY_NAMESPACE}/{}", gateway_name(oldest))],
                http,
                ..VirtualServiceSpec::default()
            },
            semantics: RouteSemantics::Ingress,
            sources,
        }))
    };
    by_host.into_iter().filter_map(build).collect()
}

/// A path with its destination; `None` where the Service has no such port.
fn convert_path(
    inputs: &IngressInputs<'_>,
    namespace: &str,
    path: &HttpIngressPath,
) -> Option<HttpRoute> {
    let service = path.backend.service.as_ref()?;
    let destination = Destination {
        host: format!("{}.{namespace}.svc.{}", service.name, inputs.domain_suffix),
        subset: String::new(),
        port: Some(PortSelector {
            number: port_of(inputs, namespace, service)?,
        }),
    };
    let uri = match path.path_type.as_deref() {
        Some("Exact") => Some(StringMatch::Exact(path.path.clone())),
        Some("Prefix") => Some(StringMatch::Prefix(path.path.clone())),
        _ => legacy_match(&path.path),
    };
    let condition = uri.map(|uri| HttpMatchRequest {
        uri: Some(MatchOrAny(uri)),
        ..HttpMatchRequest::default()
    });
    Some(HttpRoute {
        matches: condition.into_iter().collect(),
        route: vec![HttpRouteDestination {
            destination,
            weight: 100,
            headers: None,
        }],
        ..HttpRoute::default()
    })
}

fn port_of(inputs: &IngressInputs<'_>, namespace: &str, service: &IngressService) -> Option<u32> {
    if service.port.number > 0 {
        return Some(service.port.number);
    }
    let key = (namespace.into(), service.name.as_str().into());
    let found = inputs.services.get(&key)?;
    let mut ports = found.spec.ports.iter();
    ports
        .find(|port| port.name == service.port.name)
        .map(|port| port.port)
}

/// A path without a type: a star at the end makes it a prefix; `None` takes every path.
fn legacy_match(path: &str) -> Option<StringMatch> {
    if matches!(path, "" | "*" | "/*" | ".*") {
        return None;
    }
    let prefix = path.strip_suffix(".*").or_else(|| path.strip_suffix("/*"));
    Some(match prefix {
        Some(prefix) => StringMatch::Prefix(prefix.to_owned()),
        None => StringMatch::Exact(path.to_owned()),
    })
}

/// The longest path first, of equal ones the exact one; those without a path come last but before nothing else.
fn sort_routes(routes: &mut [HttpRoute]) {
    routes.sort_by_cached_key(|route| {
        let uri = route.matches.first().and_then(|m| m.uri.as_ref());
        Reverse(match uri.map(|uri| &uri.0) {
            Some(StringMatch::Exact(path)) => (path.len(), true),
            Some(StringMatch::Prefix(path)) => (path.len(), false),
            _ => (0, false),
        })
    });
}

#[cfg(test)]
mod tests {
    use navarch_model::{HttpMatchRequest, HttpRoute, MatchOrAny, StringMatch};

    use super::{legacy_match, sort_routes};

    #[test]
    fn a_path_without_a_type_is_exact_unless_it_ends_in_a_star() {
        for (path, want) in [
            ("", None),
            ("/*", None),
            ("/a/*", Some(StringMatch::Prefix("/a".into()))),
            ("/a.*", Some(StringMatch::Prefix("/a".into()))),
            ("/a", Some(StringMatch::Exact("/a".into()))),
        ] {
            assert_eq!(legacy_match(path), want, "{path}");
        }
    }

    #[test]
    fn the_longest_path_comes_first() {
        let route = |uri: Option<StringMatch>| HttpRoute {
            matches: uri
                .map(|uri| HttpMatchRequest {
                    uri: Some(MatchOrAny(uri)),
                    ..HttpMatchRequest::default()
                })
                .into_iter()
                .collect(),
            ..HttpRoute::default()
        };
        let sorted = [
            Some(StringMatch::Prefix("/long".into())),
            Some(StringMatch::Exact("/a".into())),
            Some(StringMatch::Prefix("/a".into())),
            None,
        ];
        let mut routes: Vec<_> = sorted.iter().rev().cloned().map(route).collect();
        sort_routes(&mut routes);
        let want: Vec<_> = sorted.into_iter().map(route).collect();
        assert_eq!(routes, want);
    }
}
