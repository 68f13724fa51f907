//! TCPRoutes and TLSRoutes to VirtualServices.
//!
//! Source: istio `pilot/pkg/config/kube/gateway/route_collections.go` `TCPRouteCollection`, `TLSRouteCollection`.

use navarch_model::gateway_api as api;
use navarch_model::{
    Hostname, Kind, L4MatchAttributes, RouteDestination, Shared, TcpRoute, TlsMatchAttributes,
    TlsRoute, VirtualService,
};

use super::GENERATED;
use super::backend::{connection_destinations, has_weight, nowhere};
use super::parent::BoundParent;
use super::route::{Converted, RouteContext, RouteOutput, RouteOwner, RouteSource};

/// Convert all TCPRoutes.
pub(super) fn add_tcp_routes(context: &RouteContext<'_>, out: &mut RouteOutput) {
    for route in context.inputs.objects.tcp_routes.values() {
        // A TCPRoute has no hosts: one listener takes one route.
        let source = RouteSource {
            kind: Kind::TCPRoute,
            metadata: &route.metadata,
            parent_refs: &route.spec.parent_refs,
            hostnames: &[],
        };
        let made = convert_route(context, &source, &route.spec.rules, out, add_tcp_rules);
        out.virtual_services.extend(made);
    }
}

/// Convert all TLSRoutes.
pub(super) fn add_tls_routes(context: &RouteContext<'_>, out: &mut RouteOutput) {
    for route in context.inputs.objects.tls_routes.values() {
        let source = RouteSource {
            kind: Kind::TLSRoute,
            metadata: &route.metadata,
            parent_refs: &route.spec.parent_refs,
            hostnames: &route.spec.hostnames,
        };
        let made = convert_route(context, &source, &route.spec.rules, out, add_tls_rules);
        out.virtual_services.extend(made);
    }
}

/// What the rules of one parent are made from.
struct Parent<'a> {
    bound: &'a BoundParent,
    /// SNI hosts that the route names; every host where it names none.
    sni_hosts: &'a [String],
    /// All hosts of the parent's VirtualServices.
    hosts: &'a [String],
    /// The one whose VirtualService is made.
    host: &'a str,
}

fn convert_route(
    context: &RouteContext<'_>,
    source: &RouteSource<'_>,
    rules: &[api::ConnectionRouteRule],
    out: &mut RouteOutput,
    add_rules: fn(&mut VirtualService, &Parent<'_>, Vec<Vec<RouteDestination>>),
) -> Vec<Shared<VirtualService>> {
    let backends: Vec<_> = rules.iter().flat_map(|rule| &rule.backend_refs).collect();
    let computed = context.compute(source, &backends, out, |owner| {
        let rules = rules.iter();
        rules
            .map(|rule| convert_rule(context, owner, rule))
            .collect()
    });
    let noun = match source.kind {
        Kind::TLSRoute => "tls",
        _ => "tcp",
    };
    let all_hosts = source.hosts();
    let mut made = Vec::new();
    for bound in &computed.bound {
        let (hosts, sni_hosts, routes) = if bound.is_mesh() {
            let hosts = context.mesh_hosts(bound);
            (hosts, all_hosts.clone(), &computed.mesh.routes)
        } else {
            let hosts = match source.kind {
                Kind::TLSRoute => bound.narrow(&all_hosts),
                _ => all_hosts.clone(),
            };
            (hosts.clone(), hosts, &computed.gateway.routes)
        };
        for host in &hosts {
            let number = made.len();
            let name = format!("{}~{noun}~{number}~{GENERATED}", source.metadata.name);
            let mut service = source.virtual_service(name, host, bound);
            let parent = Parent {
                bound,
                sni_hosts: &sni_hosts,
                hosts: &hosts,
                host,
            };
            add_rules(&mut service, &parent, routes.clone());
            made.push(Shared::new(service));
        }
    }
    made
}

fn convert_rule(
    context: &RouteContext<'_>,
    owner: RouteOwner<'_>,
    rule: &api::ConnectionRouteRule,
) -> Converted<Vec<RouteDestination>> {
    if !has_weight(&rule.backend_refs) {
        return Ok((vec![nowhere()], None));
    }
    connection_destinations(context, owner, &rule.backend_refs)
}

fn add_tcp_rules(
    service: &mut VirtualService,
    parent: &Parent<'_>,
    routes: Vec<Vec<RouteDestination>>,
) {
    let port = parent
        .bound
        .reference
        .port
        .filter(|_| parent.bound.is_mesh());
    let matches: Vec<L4MatchAttributes> = port
        .map(|port| L4MatchAttributes {
            port,
            ..L4MatchAttributes::default()
        })
        .into_iter()
        .collect();
    let rule = |route| TcpRoute {
        matches: matches.clone(),
        route,
    };
    service.spec.tcp = routes.into_iter().map(rule).collect();
}

fn add_tls_rules(
    service: &mut VirtualService,
    parent: &Parent<'_>,
    routes: Vec<Vec<RouteDestination>>,
) {
    if !parent.bound.is_passthrough {
        // Where the listener ends TLS, what is left is TCP; the listener's host is its SNI.
        return add_tcp_rules(service, parent, routes);
    }
    let mut sni_hosts = parent.sni_hosts.to_vec();
    let mut port = 0;
    if parent.bound.is_mesh() {
        port = parent.bound.reference.port.unwrap_or_default();
        if sni_hosts == ["*"] {
            sni_hosts = parent.hosts.to_vec();
        }
        if sni_hosts.len() > 1 {
            let host = Hostname::from(parent.host);
            sni_hosts.retain(|name| host.is_matching(&name.as_str().into()));
        }
    }
    let rule = |route| TlsRoute {
        matches: vec![TlsMatchAttributes {
            sni_hosts: sni_hosts.clone(),
            port,
            ..TlsMatchAttributes::default()
        }],
        route,
    };
    service.spec.tls = routes.into_iter().map(rule).collect();
}
