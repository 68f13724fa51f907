//! Routes: of a VirtualService for one listener, of a service without one.

use std::borrow::Cow;
use std::sync::LazyLock;

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::route::v3::route::Action;
use navarch_envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use navarch_envoy::envoy::config::route::v3::{Decorator, Route, RouteAction, RouteMatch};
use navarch_envoy::field::envoy::config::route::v3::{route, route_action};
use navarch_envoy::wire::Template;
use navarch_model::{
    ConsistentHash, Diagnostic, HttpMatchRequest, HttpRetry, HttpRoute, RouteSemantics,
    VirtualService, is_selected,
};

use super::action::{RouteBuilder, is_rewritten_by_match};
use super::cors::build_cors;
use super::fault::build_fault;
use super::hash_policy::build_hash_policy;
use super::header::build_header_mutations;
use super::inputs::{RouteClient, ServiceRoute, VirtualServiceRoutes};
use super::report::Report;
use super::retry::build_retry_policy;
use super::route_match::{build_match, is_catch_all, match_everything, path_label};
use super::scalar::NO_TIMEOUT;
use super::wire::{ForwardParts, OwnParts, RouteList, ServiceParts, SharedParts};
use crate::name::{ClusterName, Decimal, outbound_parts};

/// The name of the only route of a service without a VirtualService.
const DEFAULT_ROUTE: &str = "default";

/// The routes of a VirtualService, in its order, up to the first that catches everything
/// (istio route.go `BuildHTTPRoutesForVirtualService`).
pub(super) fn add_routes(
    routes: &mut RouteList,
    inputs: &VirtualServiceRoutes,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut report = Report::new(&inputs.virtual_service, diagnostics);
    for (i, http) in inputs.virtual_service.spec.http.iter().enumerate() {
        if push_routes(routes, inputs, (i, http), &mut report) {
            if http.matches.is_empty() || http.matches.iter().any(is_for_everybody) {
                report_unreachable(inputs, i, &mut report);
            }
            break;
        }
    }
}

/// Whether the VirtualService has any route for the client; without one its hosts go on as if it were not there.
pub(super) fn has_routes(virtual_service: &VirtualService, client: &RouteClient) -> bool {
    virtual_service.spec.http.iter().any(|http| {
        http.matches.is_empty() || http.matches.iter().any(|m| is_for_client(m, client))
    })
}

/// Add the only route of a service without a VirtualService.
pub(super) fn add_service_route(routes: &mut RouteList, inputs: &ServiceRoute) {
    static PLAIN: LazyLock<ServiceParts> = LazyLock::new(|| service_parts(None, None));
    let (hash, retry) = (&inputs.consistent_hash, &inputs.default_retry);
    let own;
    let parts = if hash.is_none() && retry.is_none() {
        &*PLAIN
    } else {
        own = service_parts(hash.as_deref(), retry.as_deref());
        &own
    };
    let port = Decimal::new(inputs.port);
    let host = inputs.hostname.as_str();
    let cluster = outbound_parts(port.as_str(), "", host);
    routes.push_service(parts, &cluster, &[host, ":", port.as_str(), "/*"]);
}

/// The only route of services without a VirtualService (istio route.go `BuildDefaultHTTPOutboundRoute`).
fn service_parts(hash: Option<&ConsistentHash>, retry: Option<&HttpRetry>) -> ServiceParts {
    let mut action = RouteAction {
        retry_policy: build_retry_policy(retry, false),
        timeout: Some(NO_TIMEOUT),
        max_grpc_timeout: Some(NO_TIMEOUT),
        ..RouteAction::default()
    };
    action.hash_policy.extend(hash.and_then(build_hash_policy));
    let route = Route {
        decorator: None,
        action: None,
        ..default_route("", RouteAction::default())
    };
    ServiceParts {
        route: Template::of(&route, route::ONEOFS),
        action: Template::of(&action, route_action::ONEOFS),
    }
}

/// The route `default` that takes everything.
pub(super) fn default_route(operation: &str, action: RouteAction) -> Route {
    Route {
        name: DEFAULT_ROUTE.to_owned(),
        r#match: Some(match_everything()),
        decorator: Some(Decorator {
            operation: operation.to_owned(),
            propagate: None,
        }),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

/// Add the routes of one HTTP rule; whether the last of them catches everything.
fn push_routes(
    routes: &mut RouteList,
    inputs: &VirtualServiceRoutes,
    (index, http): (usize, &HttpRoute),
    report: &mut Report<'_>,
) -> bool {
    if http.matches.is_empty() {
        let matcher = match_everything();
        let shared = build_shared(inputs, (index, http), &matcher, report);
        routes.push_parts(&shared, &own_parts(&matcher, http, None));
        return true;
    }
    let is_shared = !is_rewritten_by_match(http, inputs.virtual_service.semantics);
    let mut shared = None;
    for condition in http
        .matches
        .iter()
        .filter(|m| is_for_client(m, &inputs.client))
    {
        let matcher = build_match(condition, inputs.virtual_service.semantics);
        let build = |report: &mut Report<'_>| build_shared(inputs, (index, http), &matcher, report);
        let parts = match &mut shared {
            Some(known) if is_shared => known,
            other => other.insert(build(report)),
        };
        let own = own_parts(&matcher, http, Some(condition));
        routes.push_parts(parts, &own);
        if own.is_catch_all {
            return true;
        }
    }
    false
}

/// Whether the parts of a condition that are known beforehand hold: port, gateways, the client's labels and namespace.
///
/// Where a condition names gateways, labels and namespace do not count.
fn is_for_client(condition: &HttpMatchRequest, client: &RouteClient) -> bool {
    if condition.port != 0 && condition.port != client.port {
        return false;
    }
    if !condition.gateways.is_empty() {
        return condition
            .gateways
            .iter()
            .any(|name| **name == *client.gateway);
    }
    let namespace = &condition.source_namespace;
    is_selected(&condition.source_labels, &client.viewer.labels)
        && (namespace.is_empty() || **namespace == *client.viewer.namespace)
}

/// Whether a condition matches every request of every client.
fn is_for_everybody(condition: &HttpMatchRequest) -> bool {
    condition.port == 0
        && condition.gateways.is_empty()
        && condition.source_labels.is_empty()
        && condition.source_namespace.is_empty()
        && is_catch_all(&build_match(condition, RouteSemantics::Istio))
}

/// What the routes of a rule have in common, whatever their conditions.
fn build_shared<'a>(
    inputs: &'a VirtualServiceRoutes,
    (index, http): (usize, &HttpRoute),
    matcher: &RouteMatch,
    report: &mut Report<'_>,
) -> SharedParts<'a> {
    let virtual_service = &inputs.virtual_service;
    let headers = build_header_mutations(http.headers.as_ref());
    let is_matcher_read = is_rewritten_by_match(http, virtual_service.semantics);
    let mut route = Route {
        r#match: is_matcher_read.then(|| matcher.clone()),
        request_headers_to_add: headers.request_add,
        request_headers_to_remove: headers.request_remove,
        response_headers_to_add: headers.response_add,
        response_headers_to_remove: headers.response_remove,
        ..Route::default()
    };
    let builder = RouteBuilder::new(inputs, (index, http), report);
    let forward = builder.add_action(&mut route, headers.authority);
    route.r#match = None;
    if let Some(fault) = http.fault.as_ref().and_then(build_fault) {
        let name = "envoy.filters.http.fault".to_owned();
        route.typed_per_filter_config.insert(name, pack(&fault));
    }
    if let Some(policy) = &http.cors_policy {
        let name = "envoy.filters.http.cors".to_owned();
        let config = pack(&build_cors(policy));
        route.typed_per_filter_config.insert(name, config);
    }
    let metadata = &virtual_service.metadata;
    let action = forward.as_ref().map(|forward| &forward.action);
    SharedParts {
        operation: operation(action, &metadata.name, inputs.client.port),
        fields: Template::of(&route, route::ONEOFS),
        forward: forward.map(|forward| ForwardParts {
            fields: Template::of(&forward.action, route_action::ONEOFS),
            retry: forward.retry,
        }),
        origin: (&metadata.namespace, &metadata.name),
    }
}

fn own_parts<'a>(
    matcher: &'a RouteMatch,
    http: &'a HttpRoute,
    condition: Option<&'a HttpMatchRequest>,
) -> OwnParts<'a> {
    OwnParts {
        matcher,
        path_label: path_label(matcher),
        is_catch_all: is_catch_all(matcher),
        name: route_name(http, condition),
        stat_prefix: condition.map_or("", |condition| &condition.stat_prefix),
    }
}

fn route_name<'a>(http: &'a HttpRoute, condition: Option<&HttpMatchRequest>) -> Cow<'a, str> {
    match condition.filter(|condition| !condition.name.is_empty()) {
        Some(condition) => format!("{}.{}", http.name, condition.name).into(),
        None => http.name.as_str().into(),
    }
}

/// What traces call the route, up to its path: the destination where there is one, else the VirtualService
/// (istio `GetRouteOperation`).
fn operation(action: Option<&RouteAction>, virtual_service: &str, port: u32) -> String {
    let cluster = match action.and_then(|action| action.cluster_specifier.as_ref()) {
        Some(ClusterSpecifier::Cluster(name)) => ClusterName::parse(name),
        _ => None,
    };
    let (subject, port) = match cluster {
        Some(ClusterName::Outbound { port, host, .. }) => (host, port),
        _ => (virtual_service, port),
    };
    [subject, ":", Decimal::new(port).as_str()].concat()
}

/// Tell of the rules behind the one that catches everything.
fn report_unreachable(inputs: &VirtualServiceRoutes, index: usize, report: &mut Report<'_>) {
    for i in index + 1..inputs.virtual_service.spec.http.len() {
        report.warn(
            "unreachable-route",
            format!("spec.http[{i}]"),
            format!("never reached: spec.http[{index}] matches every request; move it to the end"),
        );
    }
}

/// The retry policy of a rule: its own, else the mesh's.
pub(super) fn retry_of<'a>(http: &'a HttpRoute, client: &'a RouteClient) -> Option<&'a HttpRetry> {
    http.retries
        .as_ref()
        .or(client.viewer.default_retry.as_deref())
}

#[cfg(test)]
mod tests {
    use navarch_model::{
        Destination, HttpMatchRequest, HttpRoute, HttpRouteDestination, Labels, MatchOrAny, Shared,
        StringMatch, VirtualService,
    };

    use super::super::inputs::{RouteClient, RouteViewer, VirtualServiceRoutes};
    use super::super::wire::RouteList;
    use super::{add_routes, has_routes, is_for_client};

    fn client() -> RouteClient {
        RouteClient {
            viewer: Shared::new(RouteViewer {
                namespace: "shop".into(),
                labels: Labels::from([("app".to_owned(), "web".to_owned())]),
                has_forwarded_host: false,
                default_retry: None,
            }),
            gateway: "mesh".into(),
            port: 80,
            is_tls: false,
        }
    }

    fn rule(path: &str) -> HttpRoute {
        let destination = Destination {
            host: "a.shop.svc.cluster.local".to_owned(),
            ..Destination::default()
        };
        HttpRoute {
            matches: vec![HttpMatchRequest {
                uri: Some(MatchOrAny(StringMatch::Prefix(path.to_owned()))),
                ..HttpMatchRequest::default()
            }],
            route: vec![HttpRouteDestination {
                destination,
                ..HttpRouteDestination::default()
            }],
            ..HttpRoute::default()
        }
    }

    #[test]
    fn conditions_known_beforehand_choose_the_routes() {
        let is = |change: &dyn Fn(&mut HttpMatchRequest)| {
            let mut condition = HttpMatchRequest::default();
            change(&mut condition);
            is_for_client(&condition, &client())
        };
        let label = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        assert!(is(&|_| ()));
        assert!(is(&|c| c.port = 80));
        assert!(!is(&|c| c.port = 81));
        assert!(is(&|c| c.source_labels = label("web")));
        assert!(!is(&|c| c.source_labels = label("job")));
        assert!(!is(&|c| c.source_namespace = "other".to_owned()));
        assert!(!is(&|c| c.gateways = vec!["shop/gw".to_owned()]));
        assert!(is(&|c| {
            c.gateways = vec!["mesh".to_owned()];
            c.source_labels = label("job");
        }));
    }

    #[test]
    fn nothing_follows_a_route_that_catches_everything() {
        let mut virtual_service = VirtualService::default();
        virtual_service.spec.http = vec![rule("/a"), rule("/"), rule("/late")];
        assert!(has_routes(&virtual_service, &client()));
        let inputs = VirtualServiceRoutes {
            virtual_service: Shared::new(virtual_service),
            client: client(),
            destinations: Vec::new(),
        };
        let mut diagnostics = Vec::new();
        let mut routes = RouteList::default();
        add_routes(&mut routes, &inputs, &mut diagnostics);
        assert_eq!(routes.messages().len(), 2);
        let unreachable = diagnostics.iter().filter(|d| d.code == "unreachable-route");
        let paths: Vec<_> = unreachable.map(|d| d.field_path.as_str()).collect();
        assert_eq!(paths, ["spec.http[2]"]);
    }
}
